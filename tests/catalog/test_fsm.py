"""The state machine as a whole: random histories, and what must hold in each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.catalog import codec, sessions, snapshot
from arc.catalog.commands import (
    COMPACTOR,
    WRITER,
    Action,
    AssignLease,
    Audited,
    ColumnSchema,
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
    FlushMark,
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
from arc.catalog.difference import difference
from arc.catalog.events import (
    Event,
    FilesAdded,
    FilesHeld,
    FilesRemoved,
    MarksMoved,
    TokensChanged,
)
from arc.catalog.fsm import Applied, Catalog, ClusterFSM
from arc.catalog.results import FAMILIES, Refusal, Result
from arc.catalog.sessions import CLIENTS_MAX
from arc.errors import Conflict, InvalidRequest, NotFound, OutcomeUnknown, TooLarge
from arc.ids import NodeId
from arc.storage.files import FileEntry
from tests.catalog.facts import ask, do, file, ready, refused

# A small world, so that commands meet each other: two databases, two measurements, few files, epochs that may be right.
databases = st.sampled_from(["a", "b"])
measurements = st.sampled_from(["cpu", "disk io"])
epochs = st.integers(0, 6)
sequences = st.integers(0, 12)
kinds = st.sampled_from(["tag", "float", "integer", "string"])
columns = st.builds(ColumnSchema, st.sampled_from(["x", "y", "X", "time"]), kinds)


@st.composite
def files(draw: st.DrawFn) -> FileEntry:
    first, last = draw(sequences), draw(sequences)
    return file(
        draw(st.sampled_from(["f", "g", "h"])),
        hour=draw(st.integers(0, 30)),
        first=first,
        last=last,
        database=draw(databases),
        measurement=draw(measurements),
        span_us=draw(st.sampled_from([None, (0, 10), (0, 40 * 3_600_000_000)])),
    )


names = st.sampled_from(["t1", "t2"])
hashes = st.sampled_from(["h1", "h2", "h3"])
ids = st.integers(1, 3)
nodes = st.sampled_from([NodeId("n1"), NodeId("n2")])
patterns = st.sampled_from(["*", "a*", "a*b"])
rights = st.sampled_from([("read",), ("admin", "read"), ()])
removals = files().map(lambda f: (f.path, f.sha256))
marks = st.builds(FlushMark, databases, measurements, sequences)
puts = st.builds(
    PutPolicy,
    kind=st.just("k"),
    name=names,
    body=st.sampled_from(["{}", ""]),
    at_us=st.integers(1, 2),
    expect_us=st.none() | st.integers(0, 2),
)

actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(CreateDatabase, name=databases, created_us=st.integers(0, 9), if_missing=st.booleans()),
    st.builds(DropDatabase, name=databases, up_to=sequences, epoch=epochs),
    st.builds(DropMeasurement, database=databases, name=measurements, up_to=sequences, epoch=epochs),
    st.builds(
        DeclareColumns,
        database=databases,
        measurement=measurements,
        columns=st.lists(columns, max_size=3).map(tuple),
        created_us=st.just(1),
    ),
    st.builds(WidenColumn, database=databases, measurement=measurements, column=st.sampled_from(["x", "y"])),
    st.builds(
        RegisterFiles,
        files=st.lists(files(), max_size=3).map(tuple),
        flushed=st.lists(marks, max_size=2).map(tuple),
        epoch=epochs,
        policies=st.lists(puts, max_size=2).map(tuple),
    ),
    st.builds(
        ReplaceFiles,
        remove=st.lists(removals, max_size=2).map(tuple),
        add=st.lists(files(), max_size=2).map(tuple),
        lease=st.sampled_from([WRITER, COMPACTOR]),
        epoch=epochs,
        policies=st.lists(puts, max_size=1).map(tuple),
    ),
    st.builds(AssignLease, lease=st.sampled_from([WRITER, COMPACTOR]), node=st.just(NodeId("n1")), expect_epoch=epochs),
    st.builds(
        CreateToken,
        name=names,
        hash=hashes,
        permissions=st.just(("read",)),
        created_us=st.just(1),
        expires_us=st.none() | st.just(9),
    ),
    st.builds(UpdateToken, id=ids, name=st.none() | names, enabled=st.none() | st.booleans()),
    st.builds(RotateToken, id=ids, hash=hashes),
    st.builds(RevokeToken, id=ids),
    st.builds(DeleteToken, id=ids),
    st.builds(
        DescribeNode,
        name=nodes,
        incarnation=st.integers(0, 2),
        address=st.sampled_from(["h1:1", "h2:1", "nowhere"]),
    ),
    st.builds(ForgetNode, name=nodes, incarnation=st.integers(1, 2)),
    st.builds(
        SetNodeState,
        name=nodes,
        incarnation=st.integers(1, 2),
        state=st.sampled_from(["joining", "healthy", "leaving"]),
    ),
    st.builds(
        SetInSync,
        epoch=st.integers(0, 3),
        expect_members=st.lists(nodes, max_size=2).map(tuple),
        members=st.lists(nodes, max_size=2).map(tuple),
    ),
    st.builds(FoundCluster, uuid=st.sampled_from(["u" * 36, "v" * 36, ""]), name=st.just("arc"), created_us=st.just(1)),
    puts,
    st.builds(DropPolicy, kind=st.just("k"), name=names),
    st.builds(
        HoldFiles,
        node=nodes,
        incarnation=st.integers(1, 2),
        holds=st.lists(removals, max_size=3).map(tuple),
        lost=st.lists(removals, max_size=2).map(tuple),
    ),
    st.builds(CreateOrganization, name=names, created_us=st.just(1)),
    st.builds(UpdateOrganization, id=ids, name=st.none() | names, enabled=st.none() | st.booleans(), at_us=st.just(2)),
    st.builds(CreateTeam, organization=ids, name=names, created_us=st.just(1)),
    st.builds(UpdateTeam, id=ids, name=st.none() | names, enabled=st.none() | st.booleans(), at_us=st.just(2)),
    st.builds(CreateRole, team=ids, database_pattern=patterns, permissions=rights, created_us=st.just(1)),
    st.builds(UpdateRole, id=ids, database_pattern=st.none() | patterns, permissions=st.none() | rights),
    st.builds(CreateRule, role=ids, measurement_pattern=patterns, permissions=rights, created_us=st.just(1)),
    st.builds(DropAccess, kind=st.sampled_from(["organization", "team", "role", "rule"]), id=ids),
    st.builds(JoinTeam, token=ids, team=ids, at_us=st.just(2)),
    st.builds(LeaveTeam, token=ids, team=ids),
    st.builds(
        Audited,
        at_us=st.just(3),
        event_type=st.just("token.deleted"),
        actor=names,
        action=st.none() | st.builds(DeleteToken, id=ids) | st.builds(JoinTeam, token=ids, team=ids, at_us=st.just(2)),
    ),
)
commands: st.SearchStrategy[Command] = actions | st.builds(
    Once, client=st.sampled_from(["c1", "c2"]), sequence=st.integers(1, 4), action=actions
)

PREFACE: tuple[Command, ...] = (
    AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=0),
    AssignLease(lease=COMPACTOR, node=NodeId("n1"), expect_epoch=0),
    DeclareColumns(database="a", measurement="cpu", columns=(ColumnSchema("x", "integer"),), created_us=1),
    DeclareColumns(database="a", measurement="disk io", columns=(), created_us=1),
)
"""Half of the histories begin so, to get to the interesting refusals sooner."""

histories = st.tuples(st.booleans(), st.lists(commands, max_size=25)).map(
    lambda drawn: [*(PREFACE if drawn[0] else ()), *drawn[1]]
)


def register(*entries: FileEntry, mark: int | None = None) -> RegisterFiles:
    return RegisterFiles(files=entries, flushed=() if mark is None else (FlushMark("a", "cpu", mark),), epoch=1)


def said(*entries: FileEntry) -> tuple[tuple[str, str], ...]:
    return tuple((entry.path, entry.sha256) for entry in entries)


def replace_by_nothing(entry: FileEntry) -> ReplaceFiles:
    return ReplaceFiles(remove=((entry.path, entry.sha256),), lease=WRITER, epoch=1)


def run(history: list[Command], machine: ClusterFSM | None = None) -> tuple[ClusterFSM, list[Applied]]:
    machine = machine if machine is not None else ClusterFSM()
    return machine, [machine.apply(machine.catalog.index + 1, command) for command in history]


@given(histories)
def test_two_machines_with_the_same_log_are_equal(history: list[Command]) -> None:
    one, first = run(history)
    other, second = run([codec.decode(codec.encode(command)) for command in history])
    assert first == second
    assert one.catalog == other.catalog


@given(histories)
def test_a_refused_command_changes_nothing_but_the_index(history: list[Command]) -> None:
    machine = ClusterFSM()
    for command in history:
        before, facts = machine.catalog, machine.catalog
        applied = machine.apply(before.index + 1, command)
        assert machine.catalog.index == before.index + 1
        if not applied.result.ok:
            assert machine.catalog.same_facts(facts)
            assert applied.events == ()
            assert applied.result.code in FAMILIES
            assert applied.result.message


@given(histories, st.integers(0, 25))
def test_a_restored_snapshot_is_equal_and_goes_on_equally(history: list[Command], cut: int) -> None:
    machine, _ = run(history[:cut])
    restored = ClusterFSM(snapshot.decode(list(snapshot.encode(machine.catalog))))
    assert restored.catalog == machine.catalog
    _, expected = run(history[cut:], machine)
    _, results = run(history[cut:], restored)
    assert results == expected
    assert restored.catalog == machine.catalog
    assert list(snapshot.encode(restored.catalog)) == list(snapshot.encode(machine.catalog))


@given(histories)
def test_marks_never_go_back(history: list[Command]) -> None:
    machine = ClusterFSM()
    tables = [(database, measurement) for database in ("a", "b") for measurement in ("cpu", "disk io")]
    for command in history:
        before = [machine.catalog.mark(*table) for table in tables]
        machine.apply(machine.catalog.index + 1, command)
        after = [machine.catalog.mark(*table) for table in tables]
        assert all(new >= old for new, old in zip(after, before, strict=True))


@given(histories)
def test_indexes_agree_with_the_facts(history: list[Command]) -> None:
    catalog = run(history)[0].catalog
    every = list(catalog.all_files())
    assert len({entry.path for entry in every}) == len(every)
    for entry in every:
        assert catalog.file(entry.path) == entry
        assert catalog.schema(entry.database, entry.measurement) is not None
        assert entry in catalog.files_between(entry.database, entry.measurement, entry.min_time_us, entry.max_time_us)
        assert entry.last_sequence <= catalog.mark(entry.database, entry.measurement)
    for database, facts in catalog.databases.items():
        for measurement in facts.measurements:
            mine = [e for e in every if (e.database, e.measurement) == (database, measurement)]
            assert list(catalog.files(database, measurement)) == mine
            stats = catalog.file_stats(database, measurement)
            assert (stats.files, stats.rows, stats.bytes) == (
                len(mine),
                sum(e.rows for e in mine),
                sum(e.size_bytes for e in mine),
            )
    assert {token.hash: token.id for token in catalog.tokens.values()} == catalog.access.by_hash
    assert all(catalog.token_by_name(token.name) is token for token in catalog.tokens.values())
    assert all(token.id < catalog.access.next_id for token in catalog.tokens.values())


@given(histories)
@settings(max_examples=100)
def test_what_apply_tells_is_the_difference(history: list[Command]) -> None:
    """P-28: who restores a snapshot hears the same as who applied the log."""
    machine = ClusterFSM()
    for command in history:
        before = machine.catalog
        applied = machine.apply(before.index + 1, command)
        assert in_order(applied.events) == in_order(difference(before, machine.catalog))


@given(histories, st.integers(0, 25))
def test_the_difference_over_many_commands_leads_to_the_same_files(history: list[Command], cut: int) -> None:
    machine, _ = run(history[:cut])
    before = machine.catalog
    run(history[cut:], machine)
    known = {(entry.path, entry.sha256) for entry in before.all_files()}
    for event in difference(before, machine.catalog):
        match event:
            case FilesAdded(added):
                known |= {(entry.path, entry.sha256) for entry in added}
            case FilesRemoved(removed):
                known -= {(entry.path, entry.sha256) for entry in removed}
    # A path that went and came back with the same hash is the same file for everybody who holds it.
    assert known == {(entry.path, entry.sha256) for entry in machine.catalog.all_files()}
    assert difference(machine.catalog, machine.catalog) == ()


def in_order(events: tuple[Event, ...]) -> list[Event]:
    """Events with what is inside them sorted: order within one step means nothing."""
    settled: list[Event] = []
    for event in events:
        match event:
            case FilesAdded(entries):
                settled.append(FilesAdded(tuple(sorted(entries, key=lambda f: f.path))))
            case FilesRemoved(entries):
                settled.append(FilesRemoved(tuple(sorted(entries, key=lambda f: f.path))))
            case FilesHeld(entries):
                settled.append(FilesHeld(tuple(sorted(entries, key=lambda f: f.path))))
            case MarksMoved(moved):
                settled.append(MarksMoved(tuple(sorted(moved, key=lambda m: (m.database, m.measurement)))))
            case TokensChanged(changed):
                settled.append(TokensChanged(tuple(sorted(changed))))
            case _:
                settled.append(event)
    return settled


def test_an_index_that_is_not_new_is_our_own_mistake() -> None:
    machine = ready()
    with pytest.raises(AssertionError):
        machine.apply(machine.catalog.index, CreateDatabase(name="x", created_us=1))


def test_entries_that_are_no_commands_move_the_index_alone() -> None:
    machine = ready()
    before = machine.catalog
    machine.skip(9)
    assert machine.catalog.index == 9
    assert machine.catalog.same_facts(before)


LIFE: tuple[Command, ...] = (
    *PREFACE,
    register(file("a", first=1, last=5, database="a"), file("b", hour=2, database="a"), mark=5),
    register(file("c", first=6, last=6, database="a"), mark=6),
    register(file("imported", database="a")),
    RegisterFiles(files=(file("d", database="a", measurement="disk io"),), epoch=1),
    replace_by_nothing(file("d", database="a", measurement="disk io")),
    DeclareColumns(database="b", measurement="cpu", columns=(ColumnSchema("t", "tag"),), created_us=2),
    RegisterFiles(files=(), flushed=(FlushMark("b", "cpu", 8), FlushMark("a", "disk io", 8)), epoch=1),
    RegisterFiles(files=(file("e", hour=5, database="b"),), epoch=1),
    CreateToken(name="t1", hash="h1", permissions=("read",), created_us=1),
    CreateToken(name="t2", hash="h2", permissions=(), created_us=1, expires_us=9),
    DeleteToken(id=2),
    DropDatabase(name="b", up_to=9, epoch=1),
    CreateDatabase(name="b", created_us=3),
    AssignLease(lease=WRITER, node=NodeId("n2"), expect_epoch=1, at_us=7, reason="fire", accepts_data_loss=True),
    Once(client="c", sequence=1, action=CreateToken(name="t3", hash="h3", created_us=1)),
    WidenColumn(database="a", measurement="cpu", column="x"),
    DescribeNode(name=NodeId("n2"), incarnation=1, address="h2:9000"),
    DescribeNode(name=NodeId("n1"), incarnation=1, address="h1:9000"),
    DescribeNode(name=NodeId("n1"), incarnation=1, address="h9:9000"),
    ForgetNode(name=NodeId("n1"), incarnation=1),
    DescribeNode(name=NodeId("n1"), incarnation=2, address="h9:9000", role="writer", cores=4, version="1", at_us=3),
    SetNodeState(name=NodeId("n1"), incarnation=2, state="healthy"),
    HoldFiles(node=NodeId("n1"), incarnation=2, holds=(("gone", "s"), *(HELD := said(file("a", database="a"))))),
    HoldFiles(node=NodeId("n2"), incarnation=1, holds=HELD, lost=said(file("b", hour=2, database="a"))),
    HoldFiles(node=NodeId("n1"), incarnation=2, lost=HELD),
    SetInSync(epoch=18, expect_members=(NodeId("n2"),), members=(NodeId("n2"), NodeId("n1"))),
    AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=18),
    FoundCluster(uuid="u" * 36, name="arc", created_us=4),
    PutPolicy(kind="retention", name="a", body="{}", at_us=5),
    PutPolicy(kind="retention", name="b", body="{}", at_us=5, title="short"),
    PutPolicy(kind="continuous", name="b", body="{}", at_us=5, title="short"),
    DropPolicy(kind="retention", name="a"),
    RegisterFiles(
        files=(file("p", hour=6, database="a"),),
        epoch=31,
        policies=(
            PutPolicy(kind="progress", name="z", body="{}", at_us=6, expect_us=0),
            PutPolicy(kind="progress", name="c", body="{}", at_us=6, expect_us=0),
        ),
    ),
    ReplaceFiles(
        remove=said(file("p", hour=6, database="a")),
        lease=WRITER,
        epoch=31,
        policies=(PutPolicy(kind="progress", name="z", body="[]", at_us=7, expect_us=6),),
    ),
    SetInSync(epoch=31, expect_members=(NodeId("n1"),), members=(NodeId("n1"), NodeId("n2"))),
    DropMeasurement(database="a", name="disk io", up_to=9, epoch=31),
    ForgetNode(name=NodeId("n2"), incarnation=1),
    CreateOrganization(name="acme", created_us=5),
    UpdateOrganization(id=1, description="all of it", at_us=6),
    CreateTeam(organization=1, name="ops", created_us=5),
    UpdateTeam(id=2, name="operators", at_us=6),
    CreateRole(team=2, database_pattern="plant_*", permissions=("read", "write"), created_us=5),
    CreateRule(role=3, measurement_pattern="cpu*", permissions=("read",), created_us=5),
    CreateRule(role=3, measurement_pattern="mem", permissions=("read",), created_us=5),
    UpdateRole(id=3, permissions=("read",)),
    DropAccess(kind="rule", id=5),
    JoinTeam(token=1, team=2, at_us=7),
    Audited(at_us=8, event_type="token.updated", actor="root", action=UpdateToken(id=1, description="the agent")),
    Audited(at_us=8, event_type="cluster.drain", actor="root", detail="{}"),
    JoinTeam(token=3, team=2, at_us=7),
    LeaveTeam(token=3, team=2),
    DropAccess(kind="organization", id=1),
)
"""A history in which everything happens and is accepted, for what random ones meet too seldom."""


def test_a_full_life_is_told_snapshotted_and_restored_at_every_step() -> None:
    machine, observer = ClusterFSM(), ClusterFSM()
    for command in LIFE:
        before = machine.catalog
        applied = machine.apply(before.index + 1, command)
        assert applied.result.ok, (command, applied.result)
        assert in_order(applied.events) == in_order(difference(before, machine.catalog))
        restored = snapshot.decode(list(snapshot.encode(machine.catalog)))
        assert restored == machine.catalog
        assert in_order(difference(observer.restore(restored), restored)) == in_order(applied.events)
    assert machine.catalog.databases["a"].created_us == 1
    assert machine.catalog.mark("b", "cpu") == 9


# ---- at most once


def once(sequence: int, action: Action, client: str = "c", asked_after: int = 0) -> Once:
    return Once(client=client, sequence=sequence, action=action, asked_after=asked_after)


def test_a_retry_gets_the_first_result_and_changes_nothing() -> None:
    """P-30."""
    machine = ClusterFSM()
    first = do(machine, once(1, CreateDatabase(name="a", created_us=1)))
    before = machine.catalog
    again = do(machine, once(1, CreateDatabase(name="a", created_us=1)))
    assert again == first
    assert machine.catalog.same_facts(before)
    assert refused(machine, once(2, CreateDatabase(name="a", created_us=1))).code == "exists"
    assert do(machine, once(2, DropDatabase(name="a"))).ok, "what was refused may be asked again"
    assert refused(machine, once(1, CreateDatabase(name="a", created_us=1))).code == "stale_request"


def test_the_refusal_of_a_retry_stands_also_for_a_first_attempt_that_comes_later() -> None:
    """Else its proposer is told no, and the copy that travelled all the time makes it yes when the name is free."""
    machine = ClusterFSM()
    do(machine, CreateDatabase(name="a", created_us=1))
    first = once(1, CreateDatabase(name="a", created_us=2))
    told = ask(machine, replace(first, is_retry=True))
    assert (told.ok, told.code) == (False, "exists")
    do(machine, DropDatabase(name="a"))
    restored = ClusterFSM(snapshot.decode(list(snapshot.encode(machine.catalog))))
    for each in (machine, restored):
        assert ask(each, first) == told and "a" not in each.catalog.databases
    assert do(machine, once(2, CreateDatabase(name="a", created_us=3))).ok


def test_a_title_is_one_policys_of_its_kind_until_that_one_gives_it_up() -> None:
    machine = ClusterFSM()

    def titled(name: str, title: str, kind: str = "k") -> PutPolicy:
        return PutPolicy(kind=kind, name=name, body="{}", at_us=1, title=title)

    do(machine, titled("a", "short"))
    assert refused(machine, titled("b", "short")).code == "exists"
    assert refused(machine, titled("b", "x" * 257)).code == "invalid"
    for allowed in (
        titled("a", "short"),
        titled("b", "short", "other"),
        titled("b", "long"),
        titled("c", ""),
        titled("d", ""),
    ):
        do(machine, allowed)
    do(machine, titled("a", "new"))
    do(machine, titled("b", "short"))
    do(machine, DropPolicy(kind="k", name="b"))
    do(machine, titled("a", "short"))
    assert snapshot.decode(list(snapshot.encode(machine.catalog))).policies == machine.catalog.policies


def full_of_clients() -> ClusterFSM:
    """As many clients as are remembered, c0 .. each with its first request, in the order of their names."""
    machine = ClusterFSM()
    for number in range(CLIENTS_MAX):
        do(machine, once(1, put(number), client=f"c{number}"))
    return machine


def put(number: int) -> PutPolicy:
    return PutPolicy(kind="k", name=f"p{number % 9}", body=f"{number}", at_us=1)


def test_the_client_who_was_silent_longest_is_forgotten_first() -> None:
    machine = full_of_clients()
    do(machine, once(2, put(1), client="c0"))
    do(machine, once(1, put(2), client="new", asked_after=machine.catalog.index))
    assert "c1" not in machine.catalog.sessions
    assert {"c0", "c2", "new"} <= set(machine.catalog.sessions)
    assert len(machine.catalog.sessions) == CLIENTS_MAX
    assert snapshot.decode(list(snapshot.encode(machine.catalog))).sessions == machine.catalog.sessions


def test_a_retry_of_a_client_that_was_forgotten_is_refused_and_not_applied_twice() -> None:
    """P-30: whether it took effect cannot be told any more, and that is what is said."""
    machine = full_of_clients()
    lost = once(1, CreateDatabase(name="a", created_us=1), client="lost", asked_after=machine.catalog.index)
    do(machine, lost)
    do(machine, DropDatabase(name="a"))
    for number in range(CLIENTS_MAX):
        do(machine, once(1, put(number), client=f"d{number}", asked_after=machine.catalog.index))
    assert "lost" not in machine.catalog.sessions
    again = refused(machine, lost)
    assert again.code == "client_forgotten" and "a" not in machine.catalog.databases
    with pytest.raises(OutcomeUnknown):
        again.unwrap()


@given(st.data())
def test_nothing_is_accepted_twice_however_few_clients_are_remembered(data: st.DataObject) -> None:
    """Three places, five clients who ask again, skip, and are late; every acceptance of one request has one index."""
    state: sessions.Sessions = {}
    accepted: dict[tuple[str, int], int] = {}
    asked: dict[tuple[str, int], Once] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions, "CLIENTS_MAX", 3)
        for index in range(1, 40):
            client = data.draw(st.sampled_from("abcde"))
            last = max((sequence for name, sequence in asked if name == client), default=0)
            sequence = data.draw(st.integers(max(1, last - 2), last + 1))
            new = once(sequence, put(1), client=client, asked_after=max(0, index - 1 - data.draw(st.integers(0, 5))))
            request = asked.setdefault((client, sequence), new)
            try:
                first = sessions.first_result(state, request)
            except Refusal:
                continue
            if first is None:
                assert (client, sequence) not in accepted, "accepted twice"
                accepted[client, sequence] = index
                state = sessions.remember(state, request, Result(ok=True, index=index))
            else:
                assert first.index == accepted[client, sequence]


def test_a_refusal_becomes_the_error_of_its_family() -> None:
    for code, family in (
        ("not_found", NotFound),
        ("exists", Conflict),
        ("invalid", InvalidRequest),
        ("too_many", TooLarge),
    ):
        with pytest.raises(family) as caught:
            Result(ok=False, code=code, message="why").unwrap()
        assert (caught.value.code, caught.value.message) == (code, "why")
    assert Result(ok=True, value=7).unwrap() == 7


def test_the_catalog_says_what_it_holds() -> None:
    assert repr(ready().catalog) == "<Catalog index=2 databases=1 files=0 writer=n1@1>"
    assert Catalog() == Catalog()
