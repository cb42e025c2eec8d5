"""Bytes that must be readable for years, and snapshots that are whole or refused."""

from __future__ import annotations

import contextlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog import codec, snapshot
from arc.catalog.codec import TAGS
from arc.catalog.commands import (
    AssignLease,
    Audited,
    Command,
    CreateDatabase,
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    CreateToken,
    DeclareColumns,
    DeleteToken,
    DescribeNode,
    DropAccess,
    DropDatabase,
    DropMeasurement,
    DropPolicy,
    ForgetNode,
    FoundCluster,
    HoldFiles,
    JoinTeam,
    LeaveTeam,
    Once,
    PutPolicy,
    RegisterFiles,
    ReplaceFiles,
    RevokeToken,
    RotateToken,
    SetInSync,
    SetNodeState,
    UpdateOrganization,
    UpdateRole,
    UpdateTeam,
    UpdateToken,
    WidenColumn,
)
from arc.ids import NodeId
from tests.catalog.facts import column, declare, do, file, ready, register
from tests.catalog.test_fsm import commands

GOLDEN: list[tuple[Command, str]] = [
    (CreateDatabase(name="a", created_us=1, if_missing=True), "8501016161" + "01f5"),
    (DropDatabase(name="a", up_to=5, epoch=7), "85010261610507"),
    (DropMeasurement(database="a", name="m", up_to=5, epoch=7), "8601181e6161616d0507"),
    (
        DeclareColumns(database="a", measurement="m", columns=(column("v"),), created_us=1),
        "8601036161616d8182617665666c6f617401",
    ),
    (WidenColumn(database="a", measurement="m", column="v"), "8501046161616d6176"),
    (
        ReplaceFiles(remove=(("p", "s"),), add=(), lease="writer", epoch=2, holders=(NodeId("n1"),)),
        "88010681826170617380" + "6677726974657202" + "81626e31" + "80",
    ),
    (
        RegisterFiles(files=(), epoch=2, policies=(PutPolicy(kind="k", name="n", body="{}", at_us=1, expect_us=0),)),
        "86010580800281" + "8712616b616e627b7d010060",
    ),
    (AssignLease(lease="writer", node=NodeId("n1"), expect_epoch=0), "8801076677726974657262" + "6e31006000f4"),
    (CreateToken(name="t", hash="h", permissions=("read",), created_us=1), "88010861746168608164726561640" + "1f6"),
    (UpdateToken(id=1), "89010901f6f6f6f6f4f6"),
    (RotateToken(id=1, hash="h"), "84010a016168"),
    (RevokeToken(id=1), "83010b01"),
    (DeleteToken(id=1), "83010c01"),
    (
        DescribeNode(name=NodeId("n1"), incarnation=2, address="h:1"),
        "8a010d626e310263683a316a7374616e64616c6f6e6560600000",
    ),
    (ForgetNode(name=NodeId("n1"), incarnation=2), "84010e626e3102"),
    (Once(client="c", sequence=3, action=DeleteToken(id=1)), "85011864616303820c01"),
    (Once(client="c", sequence=3, action=DeleteToken(id=1), asked_after=9), "86011864616303820c0109"),
    (
        Once(client="c", sequence=3, action=DeleteToken(id=1), asked_after=9, is_retry=True),
        "87011864616303820c0109f5",
    ),
    (SetNodeState(name=NodeId("n1"), incarnation=2, state="healthy"), "85010f626e3102676865616c746879"),
    (SetInSync(epoch=3, expect_members=(NodeId("a"),), members=()), "850110" + "038161" + "6180"),
    (FoundCluster(uuid="u", name="n", created_us=1), "8501116175616e01"),
    (PutPolicy(kind="k", name="n", body="{}", at_us=1, expect_us=0, title="t"), "880112616b616e627b7d01006174"),
    (DropPolicy(kind="k", name="n"), "840113616b616e"),
    (
        HoldFiles(node=NodeId("n1"), incarnation=2, holds=(("p", "s"),), lost=(("q", "t"),)),
        "860114626e3102818261706173818261716174",
    ),
    (CreateOrganization(name="o", created_us=1), "85011828616f6001"),
    (UpdateOrganization(id=1, at_us=2), "8701182901f6f6f602"),
    (CreateTeam(organization=1, name="t", created_us=1), "8601182a0161746001"),
    (UpdateTeam(id=2, enabled=False, at_us=2), "8701182b02f6f6f402"),
    (CreateRole(team=2, database_pattern="*", permissions=("read",), created_us=1), "8601182c02612a81647265616401"),
    (UpdateRole(id=3, permissions=("read",)), "8501182d03f6816472656164"),
    (CreateRule(role=3, measurement_pattern="*", permissions=("read",), created_us=1), "8601182e03612a81647265616401"),
    (DropAccess(kind="team", id=2), "8401182f647465616d02"),
    (JoinTeam(token=1, team=2, at_us=3), "85011830010203"),
    (LeaveTeam(token=1, team=2), "840118310102"),
    (
        Audited(at_us=1, event_type="e", actor="a", action=DeleteToken(id=1)),
        "900118320161656161f6606060600060600060820c01",
    ),
    (Audited(at_us=1, event_type="e", actor="a"), "900118320161656161f6606060600060600060f6"),
]

EARLIER: list[tuple[str, Command]] = [
    (
        "87010681826170617380" + "6677726974657202" + "81626e31",
        ReplaceFiles(remove=(("p", "s"),), add=(), lease="writer", epoch=2, holders=(NodeId("n1"),)),
    ),
    (
        "86010681826170617380" + "6677726974657202",
        ReplaceFiles(remove=(("p", "s"),), add=(), lease="writer", epoch=2),
    ),
    ("8501076677726974657262" + "6e3100", AssignLease(lease="writer", node=NodeId("n1"), expect_epoch=0)),
    ("840102616105", DropDatabase(name="a", up_to=5)),
    ("860112616b616e627b7d01", PutPolicy(kind="k", name="n", body="{}", at_us=1)),
    ("870112616b616e627b7d0100", PutPolicy(kind="k", name="n", body="{}", at_us=1, expect_us=0)),
    ("850105808002", RegisterFiles(files=(), epoch=2)),
    ("85010d626e310263683a31", DescribeNode(name=NodeId("n1"), incarnation=2, address="h:1")),
]
"""What earlier versions wrote for the same."""


@pytest.mark.parametrize(("data", "command"), EARLIER, ids=lambda value: type(value).__name__)
def test_bytes_of_earlier_versions_are_read_with_the_defaults_of_later_fields(data: str, command: Command) -> None:
    assert codec.decode(bytes.fromhex(data)) == command


@pytest.mark.parametrize(("command", "expected"), GOLDEN, ids=lambda value: type(value).__name__)
def test_these_bytes_are_in_logs_and_stay_readable(command: Command, expected: str) -> None:
    assert codec.encode(command).hex() == expected
    assert codec.decode(bytes.fromhex(expected)) == command


@given(commands)
def test_every_command_comes_back(command: Command) -> None:
    data = codec.encode(command)
    assert codec.decode(data) == command
    assert codec.decode(memoryview(data)) == command


def test_every_command_has_a_tag() -> None:
    assert len(set(TAGS.values())) == len(TAGS) == 32


def test_an_entry_of_an_older_version_gets_the_defaults_of_later_fields() -> None:
    assert codec.decode(cbor2.dumps([1, 2, "a"])) == DropDatabase(name="a", up_to=0)


@pytest.mark.parametrize(
    "items",
    [
        [2, 1, "a", 1, True],
        [1, 99],
        [1, 2, "a", 5, 7, "a field of the future"],
        [1, 1],
        [1],
        [],
        {},
        "text",
        [1, 100, "c", 1],
        [1, 50, 1, "e", "a", None, "", "", "", "", 0, "", "", 0, "", [50, 1, "e", "a"]],
        [1, 3, "a", "m", [["too", "many", "parts"]], 1],
        [1, 5, [[1, 2]], [], 1],
    ],
)
def test_bytes_of_something_else_are_refused(items: object) -> None:
    with pytest.raises(ValueError):
        codec.decode(cbor2.dumps(items))


@given(st.binary(max_size=60))
def test_rubbish_is_refused_in_one_way(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        codec.decode(data)


def chunks() -> list[bytes]:
    machine = ready()
    do(machine, register(*(file(f"f{number}", hour=number % 40) for number in range(2_500))))
    return list(snapshot.encode(machine.catalog))


def test_a_snapshot_is_cut_into_small_chunks() -> None:
    found = chunks()
    assert len(found) == 10, "head, databases, measurements, three of files, leases, in_sync, history, end"
    assert max(map(len, found)) < 400_000


@pytest.mark.parametrize("lost", [0, 1, 3, -1])
def test_a_snapshot_that_lost_a_chunk_is_refused(lost: int) -> None:
    left = chunks()
    del left[lost]
    with pytest.raises(ValueError):
        snapshot.decode(left)


def test_a_snapshot_with_more_behind_its_end_or_of_another_format_is_refused() -> None:
    whole = chunks()
    with pytest.raises(ValueError):
        snapshot.decode([*whole, whole[1]])
    with pytest.raises(ValueError):
        snapshot.decode([cbor2.dumps(["arc-catalog-2", [[1, 1]]]), *whole[1:]])
    with pytest.raises(ValueError):
        snapshot.decode([])
    with pytest.raises(ValueError):
        snapshot.decode([whole[0], cbor2.dumps(["unheard of", [[1]]]), whole[-1]])


def test_a_declared_schema_keeps_its_order_through_a_snapshot() -> None:
    machine = ready()
    do(machine, declare(column("z", "tag"), column("a")))
    restored = snapshot.decode(list(snapshot.encode(machine.catalog))).schema("metrics", "cpu")
    assert restored is not None
    assert list(restored.columns) == ["v", "z", "a"]


def test_a_snapshot_of_a_version_that_knew_no_teams_is_read() -> None:
    machine = ready()
    head, *rest = snapshot.encode(machine.catalog)
    form, [[index, next_token, _]] = cbor2.loads(head)
    earlier = cbor2.dumps([form, [[index, next_token]]])
    assert snapshot.decode([earlier, *rest]) == machine.catalog
