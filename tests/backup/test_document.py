"""The document of a backup: what goes in comes out, and a byte that changed is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.backup import document
from arc.catalog.commands import CreateToken, PutPolicy
from arc.errors import Corrupt, InvalidRequest
from tests.backup.parts import Node
from tests.fakes import MemoryDisk

ID = "backup-20260101-000000-0000abcd"


def made(**wishes: bool) -> document.Document:
    node = Node(MemoryDisk())
    node.declare()
    node.declare(measurement="mem")
    node.add(b"one")
    node.add(b"two", hour=5, measurement="mem")
    node.do(PutPolicy(kind="retention", name="7", body='{"database": "plant"}', at_us=3))
    node.do(PutPolicy(kind=document.LEDGER, name="backup-x", body="{}", at_us=3))
    node.do(CreateToken(name="t", hash="5" * 64, created_us=1))
    return document.compose(node.catalog, backup_id=ID, created_us=9, version="1", reused=False, **wishes)


@pytest.mark.parametrize("with_tokens", [True, False])
def test_what_was_written_is_read(with_tokens: bool) -> None:
    whole = made(with_tokens=with_tokens)
    data = document.encode(whole)
    assert document.decode(data, "k") == whole
    assert document.read_summary(data[: document.HEADER_BYTES_MAX], "k") == whole.summary
    assert len(whole.tokens) == with_tokens


def test_what_belongs_to_this_cluster_alone_stays_out() -> None:
    assert [policy.kind for policy in made().policies] == ["retention"]
    assert made(with_policies=False).policies == ()
    assert all(file.holders == () for file in document.decode(document.encode(made()), "k").files)


@given(st.data())
def test_a_byte_that_changed_or_is_missing_is_told(data: st.DataObject) -> None:
    """Of the header only its words for people could change unnoticed; whoever reads the whole reads the body."""
    good = document.encode(made())
    line = good.index(b"\n")
    at = data.draw(st.integers(line + 1, len(good) - 2))
    changed = bytearray(good)
    changed[at] ^= data.draw(st.integers(1, 255))
    for bad in (bytes(changed), good[:at]):
        with pytest.raises(Corrupt, match="backups/x"):
            document.decode(bad, "backups/x")


@pytest.mark.parametrize("bad", [b"", b"{}\n", b"\xff\n", b'{"format": "arc-backup-9"}\n{}\n', b"[]\n"])
def test_what_is_no_document_is_told(bad: bytes) -> None:
    with pytest.raises(Corrupt):
        document.read_summary(bad, "k")
    with pytest.raises(Corrupt):
        document.decode(bad, "k")


@pytest.mark.parametrize("bad", ["", "backup", f"{ID}x", "backup-20260101-000000-0000ABCD", "../../etc/passwd"])
def test_only_an_id_is_an_id(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        document.check_id(bad)
    assert document.id_of(f"backups/{bad}.json") is None


def test_an_id_tells_when() -> None:
    found = document.new_id(1_767_225_600_000_000, b"\0\0\xab\xcd")
    assert document.check_id(found) == ID == document.id_of(document.document_key(found))
