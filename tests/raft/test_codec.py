"""Every message survives the wire to the letter, and nothing else is a message."""

from __future__ import annotations

from typing import get_type_hints

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.raft import codec, messages
from arc.raft.messages import AppendStatus, Message
from arc.raft.types import TERM_MAX, Configuration, Entry, EntryKind, Peer, SnapshotMeta

NUMBERS = st.integers(0, TERM_MAX)
PEERS = st.builds(Peer, st.text(max_size=5), NUMBERS)
GROUPS = st.lists(PEERS, max_size=3).map(tuple)
CONFIGURATIONS = st.builds(Configuration, GROUPS, GROUPS, GROUPS, GROUPS, st.booleans())
ENTRIES = st.one_of(
    st.builds(Entry, NUMBERS, NUMBERS, st.just(EntryKind.COMMAND), st.binary(max_size=20)),
    st.builds(Entry, NUMBERS, NUMBERS, st.just(EntryKind.NOTHING), st.just(b"")),
    st.builds(Entry, NUMBERS, NUMBERS, st.just(EntryKind.MEMBERSHIP), CONFIGURATIONS),
)
METAS = st.builds(SnapshotMeta, NUMBERS, NUMBERS, CONFIGURATIONS, NUMBERS, NUMBERS, st.text(max_size=5))
BY_TYPE = {
    Peer: PEERS,
    int: NUMBERS,
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    tuple[Entry, ...]: st.lists(ENTRIES, max_size=4).map(tuple),
    AppendStatus: st.sampled_from(AppendStatus),
    SnapshotMeta: METAS,
}
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    [st.tuples(*[BY_TYPE[hint] for hint in get_type_hints(kind).values()]).map(kind._make) for kind in codec.KINDS]
)
HEARTBEAT = messages.Heartbeat(Peer("n2", 7), Peer("n1"), 3, 9, 4)


def test_every_kind_of_message_has_a_number() -> None:
    """N-04."""
    assert set(codec.KINDS) == set(Message.__args__)


@given(MESSAGES)
def test_a_message_comes_back_equal_and_with_equal_bytes(message: Message) -> None:
    """N-04, N-05: of every kind."""
    data = codec.encode(message)
    back = codec.decode(data)
    assert back == message and type(back) is type(message)
    assert codec.encode(back) == data


@given(CONFIGURATIONS)
def test_a_configuration_comes_back_equal(configuration: Configuration) -> None:
    """N-05."""
    assert codec.decode_configuration(codec.encode_configuration(configuration)) == configuration


@given(MESSAGES, st.data())
def test_a_cut_message_is_refused(message: Message, data: st.DataObject) -> None:
    """N-04."""
    whole = codec.encode(message)
    with pytest.raises(ValueError):
        codec.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(st.binary(max_size=60))
def test_whatever_decodes_from_nonsense_is_a_message_that_encodes(data: bytes) -> None:
    """N-04."""
    try:
        message = codec.decode(data)
    except ValueError:
        return
    assert codec.decode(codec.encode(message)) == message


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (17, "not a message"),
        ([], "not a message|expected|unpack"),
        ([99], "kind expected"),
        ([True, 1], "kind expected"),
        ([6, ["n2", 7], ["n1", 1], 3, 9], "Heartbeat has 5 fields, not 4"),
        ([6, ["n2", 7], ["n1", 1], 3, 9, 4, 4], "Heartbeat has 5 fields, not 6"),
        ([6, ["n2"], ["n1", 1], 3, 9, 4], "a list of 2 expected"),
        ([6, ["n2", 7], ["n1", 1], -1, 9, 4], "a number expected"),
        ([6, ["n2", 7], ["n1", 1], 1 << 63, 9, 4], "a number expected"),
        ([6, ["n2", 7], ["n1", 1], True, 9, 4], "a number expected"),
        ([6, ["n2", 7], ["n1", 1], 3.0, 9, 4], "a number expected"),
        ([6, [b"n2", 7], ["n1", 1], 3, 9, 4], "text expected"),
        ([4, ["n2", 7], ["n1", 1], 3, 0, 0, [[1, 1, 9, b""]], 0, 0], "a kind of entry expected"),
        ([4, ["n2", 7], ["n1", 1], 3, 0, 0, [[1, 1, 1, "x"]], 0, 0], "bytes expected"),
        ([5, ["n2", 7], ["n1", 1], 3, 0, 4, 0, 0, 0], "a status expected"),
    ],
)
def test_what_is_not_exactly_a_message_is_refused_and_named(value: object, rule: str) -> None:
    """N-04, N-05."""
    with pytest.raises(ValueError, match=rule):
        codec.decode(cbor2.dumps(value))


def test_deeply_nested_nonsense_is_refused() -> None:
    with pytest.raises(ValueError):
        codec.decode(b"\x81" * 100_000)
