"""The high watermark never passes a record that a member of the in-sync set lacks, whatever was lost on the way."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.replication.insync import Heard, decide
from arc.replication.messages import (
    PIECE_BYTES,
    Ack,
    Base,
    Hello,
    Invite,
    Joiner,
    Message,
    Records,
    Resume,
    encode,
    pieces,
)
from arc.replication.watermark import Watermark
from arc.storage.coverage import split
from arc.storage.files import FileEntry
from arc.storage.wal.history import History, Span, common_end
from arc.storage.wal.keys import StoredKey

NAMES = ("n1", "n2", "n3", "n4")

steps = st.one_of(
    st.tuples(st.just("wrote"), st.sampled_from(NAMES), st.integers(0, 30)),
    st.tuples(st.just("propose"), st.sets(st.sampled_from(NAMES)), st.booleans()),
    st.tuples(st.just("settle")),
)


@given(st.lists(steps, max_size=60))
def test_watermark_never_passes_a_member_of_the_set_that_is_agreed_on(told: list[tuple[object, ...]]) -> None:
    """Against a model that knows what was really agreed on: a question may have come true long before it is settled."""
    agreed = frozenset({"n1", "n2"})
    asked: frozenset[str] | None = None
    disk = dict.fromkeys(NAMES, 0)
    mark = Watermark("n1", agreed, high=0)
    before = 0
    for step in told:
        match step:
            case ("wrote", str(name), int(through)):
                disk[name] = max(disk[name], through)
                mark.wrote(name, disk[name])
            case ("propose", set(members), bool(comes_true)) if asked is None:
                # Whoever joins has all of the log, as `decide` makes sure.
                joins = {name for name in members if name in agreed or disk[name] >= disk["n1"]}
                asked = frozenset(joins | {"n1"})
                mark.propose(asked)
                agreed = asked if comes_true else agreed
            case ("settle",) if asked is not None:
                mark.agree(agreed)
                mark.settle()
                asked = None
        assert mark.high >= before
        before = mark.high
        assert all(disk[name] >= mark.high for name in agreed), (mark, agreed)


def test_watermark_moves_without_a_member_only_after_the_change_is_agreed_on() -> None:
    mark = Watermark("n1", ["n1", "n2"], high=0)
    mark.wrote("n1", 5)
    mark.propose(["n1"])
    assert (mark.high, mark.in_sync) == (0, 1)
    mark.settle()
    assert mark.high == 0, "the question was refused: nothing has changed"
    mark.propose(["n1"])
    mark.agree(["n1"])
    assert mark.high == 5


def test_watermark_waits_for_a_new_member_from_the_moment_it_is_asked_for() -> None:
    mark = Watermark("n1", ["n1", "n2"], high=0)
    mark.propose(["n1", "n2", "n3"])
    mark.wrote("n1", 5)
    mark.wrote("n2", 5)
    assert mark.high == 0, "the question may have come true already"
    mark.agree(["n1", "n2", "n3"])
    mark.settle()
    assert mark.high == 0
    mark.wrote("n3", 5)
    assert mark.high == 5


def heard(durable: int, *, at: float = 100.0, connected: bool = True, caught_up: float | None = None) -> Heard:
    return Heard(
        durable=durable,
        is_connected=connected,
        heard_at=at,
        caught_up_at=at if caught_up is None else caught_up,
    )


@pytest.mark.parametrize(
    ("members", "facts", "able", "wanted"),
    [
        (["n1"], {}, ["n1", "n2"], None),
        (["n1"], {"n2": heard(9)}, ["n1", "n2"], None),  # may lack what was acknowledged
        (["n1"], {"n2": heard(10)}, ["n1", "n2"], ("n1", "n2")),
        (["n1"], {"n2": heard(10)}, ["n1"], None),  # may not take over
        (["n1"], {"n2": heard(10, connected=False)}, ["n1", "n2"], None),
        (["n1", "n2"], {"n2": heard(3)}, ["n1", "n2"], None),  # behind, but not for long
        (["n1", "n2"], {"n2": heard(10, at=89.0)}, ["n1", "n2"], ("n1",)),  # silent
        (["n1", "n2"], {"n2": heard(3, caught_up=89.0)}, ["n1", "n2"], ("n1",)),  # alive, and too slow for too long
        (["n1", "n2"], {}, ["n1", "n2"], ("n1",)),  # never heard in this reign
        (["n1", "n2"], {"n2": heard(10)}, ["n1"], ("n1",)),  # has left the cluster
        (["n1", "n2"], {"n3": heard(10)}, ["n1", "n2", "n3"], ("n1",)),  # one change at a time: out before in
    ],
)
def test_decide(members: list[str], facts: dict[str, Heard], able: list[str], wanted: tuple[str, ...] | None) -> None:
    found = decide(members, "n1", facts, able=able, high=10, least=1, now=100.0, began_at=50.0, timeout_seconds=10.0)
    assert found == wanted


@pytest.mark.parametrize(
    ("members", "facts", "able", "wanted"),
    [
        (["n1", "n2"], {"n2": heard(3, caught_up=89.0)}, ["n1", "n2"], None),
        (["n1", "n2"], {"n2": heard(3, at=89.0)}, ["n1", "n2"], ("n1",)),  # silent
        (["n1", "n2"], {}, ["n1", "n2"], ("n1",)),
        (["n1", "n2"], {"n2": heard(3, caught_up=89.0)}, ["n1"], ("n1",)),  # could not take over anyway
        (["n1", "n2", "n3"], {"n2": heard(3, caught_up=80.0), "n3": heard(3, caught_up=85.0)}, NAMES, ("n1", "n3")),
        (["n1", "n2", "n3"], {"n2": heard(3, caught_up=85.0), "n3": heard(3, at=80.0)}, NAMES, ("n1", "n2")),
        (["n1", "n2", "n3"], {"n2": heard(3, caught_up=85.0), "n3": heard(3)}, NAMES, ("n1", "n3")),
        (["n1", "n2"], {"n2": heard(3, caught_up=80.0), "n3": heard(10)}, NAMES, ("n1", "n2", "n3")),  # and then out
        (["n1", "n2"], {"n2": heard(10, caught_up=80.0), "n3": heard(9)}, NAMES, None),
    ],
)
def test_a_slow_member_stays_where_nothing_could_be_acknowledged_without_it(
    members: list[str], facts: dict[str, Heard], able: list[str], wanted: tuple[str, ...] | None
) -> None:
    """A burst of rows over a slow network put both followers out of the set; the writer died, and nobody could take
    over, though both had all that was acknowledged.
    """
    found = decide(members, "n1", facts, able=able, high=10, least=2, now=100.0, began_at=50.0, timeout_seconds=10.0)
    assert found == wanted


@pytest.mark.parametrize(
    ("least", "facts", "wanted"),
    [
        (1, {"n2": heard(10)}, ("n1",)),
        (2, {"n2": heard(10)}, None),  # without it nothing would be acknowledged
        (2, {"n2": heard(10, at=89.0)}, ("n1",)),  # it is not there any more
    ],
)
def test_a_member_that_is_drained_helps_on_while_it_is_needed(
    least: int, facts: dict[str, Heard], wanted: tuple[str, ...] | None
) -> None:
    """With one node dead, draining another one stopped all writes, though it was alive."""
    found = decide(
        ["n1", "n2"], "n1", facts, able=["n1"], high=10, least=least, now=100.0, began_at=50.0, timeout_seconds=10.0
    )
    assert found == wanted


def test_a_reign_that_just_began_gives_everybody_his_time() -> None:
    found = decide(["n1", "n2"], "n1", {}, able=NAMES, high=1, least=1, now=100.0, began_at=95.0, timeout_seconds=10.0)
    assert found is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=12), st.data())
def test_logs_part_where_their_records_cease_to_have_the_same_names(
    runs: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Two logs grown from one: one epoch has one holder, so a common prefix and then different epochs."""
    mine, theirs = History(), History()
    epoch = 1
    for more, count in runs:
        epoch += more
        for log in (mine, theirs):
            log.note(epoch, log.next_sequence, count)
    shared = mine.next_sequence
    mine.note(epoch + 1, shared, data.draw(st.integers(1, 5)))
    if data.draw(st.booleans()):
        theirs.note(epoch + 2, shared, data.draw(st.integers(1, 5)))
    else:
        theirs.cut(data.draw(st.integers(1, shared)))
        shared = theirs.next_sequence
    assert common_end(mine.spans(), theirs.spans()) == (shared if shared > 1 else None)


def test_a_history_that_lost_its_old_end_still_finds_where_logs_part() -> None:
    mine, theirs = History(), History()
    for log in (mine, theirs):
        log.note(3, 1, 10)
    mine.release(8)
    theirs.note(3, 11, 5)
    mine.note(4, 11, 1)
    assert common_end(mine.spans(), theirs.spans()) == 11
    theirs.cut(8)
    assert common_end(mine.spans(), theirs.spans()) is None, "all that they share is gone here"


MESSAGES: list[Message] = [
    Hello(epoch=7, session=9, first=3, next=8, spans=(Span(2, 3, 5), Span(7, 5, 8)), is_memory=False),
    Resume(epoch=7, session=9, next=6, high=4, inherited=5),
    Base(
        epoch=7,
        session=9,
        first=6,
        high=4,
        catalog_index=99,
        keys=(StoredKey(database="db", key="k", epoch=2, sequence=3, rows=4, moment_us=5, fingerprint=6),),
        inherited=5,
    ),
    Records(epoch=7, session=9, first=6, high=4, catalog_index=99, records=(b"one", b"two")),
    Ack(epoch=7, session=9, durable=7),
    Invite(epoch=7),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_from_its_bytes(message: Message) -> None:
    assert Joiner().join(encode(message)) == message


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with suppress(ValueError):
        Joiner().join(data)


def test_a_long_message_travels_in_pieces_and_one_that_lost_a_piece_never_arrives() -> None:
    message = Records(epoch=1, session=1, first=1, high=0, catalog_index=0, records=(bytes(2 * PIECE_BYTES + 5),))
    parts = list(pieces(encode(message)))
    assert len(parts) == 3
    joiner = Joiner()
    assert [joiner.join(part) for part in parts] == [None, None, message]
    assert [joiner.join(part) for part in (parts[0], parts[2])] == [None, None]
    assert joiner.join(encode(MESSAGES[-1])) == MESSAGES[-1]


def file(name: str, first: int, last: int) -> FileEntry:
    return FileEntry(
        path=name,
        database="db",
        measurement="cpu",
        sha256="0",
        size_bytes=1,
        rows=1,
        min_time_us=0,
        max_time_us=0,
        origin="n1",
        epoch=1,
        first_sequence=first,
        last_sequence=last,
        created_us=0,
    )


@pytest.mark.parametrize(
    ("files", "floor", "here", "expected"),
    [
        ([("a", 1, 5), ("b", 7, 10)], 0, "ab", 10),
        ([("a", 1, 5), ("b", 7, 10)], 0, "a", 6),
        ([("a", 1, 5), ("b", 7, 10)], 0, "b", 0),  # the buffer has all: nothing of the files counts
        ([("a", 1, 5), ("b", 7, 10)], 5, "b", 10),  # what lies below the floor is in files, for better or worse
        ([("a", 1, 5), ("b", 7, 10)], 3, "b", 0),  # below the floor: neither here nor there
        ([("c", 1, 10)], 4, "", 0),
        ([("c", 1, 8), ("b", 7, 10)], 0, "c", 0),  # compacted over the border: left out as a whole
        ([("i", 0, 0), ("a", 1, 10)], 0, "a", 10),  # an import has no records
        ([], 10, "", 10),
    ],
)
def test_split(files: list[tuple[str, int, int]], floor: int, here: str, expected: int) -> None:
    found = split([file(*each) for each in files], mark=10, floor=floor, is_readable=lambda path: path in here)
    assert found == expected
