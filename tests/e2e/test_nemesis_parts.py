"""The pure parts of the nemesis: schedules are repeatable, and a made-up history with a lost row is found out."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest

from tests.e2e.links import Links, between
from tests.e2e.nemesis import __main__ as command
from tests.e2e.nemesis.clients import DATABASE, Client, Reply, lines_of, reply_of
from tests.e2e.nemesis.history import Batch, Done, History, Look, Seen, Told, Trouble, document
from tests.e2e.nemesis.page import COLOURS, page
from tests.e2e.nemesis.schedule import FAULT_SECONDS, ROLES, Kind, Step, bears, plan, small_disk
from tests.e2e.nemesis.verdict import gap_of, judge, roles, silences, told, verdict_document

THREE = ("n1", "n2", "n3")
FIVE = ("n1", "n2", "n3", "n4", "n5")
NOTICED_SECONDS = 1.8
"""When a silent node is dead in the eyes of others at the latest, with the defaults."""


# ---- schedules


def test_the_same_seed_gives_the_same_schedule_and_another_one_another() -> None:
    assert plan(7, 600, THREE) == plan(7, 600, THREE)
    assert plan(7, 600, THREE) != plan(8, 600, THREE)
    assert small_disk(7, FIVE) == small_disk(7, FIVE)


@pytest.mark.parametrize("names", [THREE, FIVE])
def test_faults_never_overlap_and_end_within_the_run(names: tuple[str, ...]) -> None:
    for seed in range(50):
        steps = plan(seed, 300, names)
        assert [step.number for step in steps] == list(range(1, len(steps) + 1))
        for early, late in itertools.pairwise(steps):
            assert early.at + early.seconds < late.at, (seed, early, late)
        assert steps[-1].at + steps[-1].seconds <= 300


@pytest.mark.parametrize("names", [THREE, FIVE])
def test_no_more_nodes_are_away_than_the_cluster_bears_but_where_the_fault_is_that(names: tuple[str, ...]) -> None:
    for seed in range(50):
        for step in plan(seed, 600, names):
            if step.kind is Kind.POWER:
                assert step.whom == names
            elif step.kind is not Kind.KILL_BOTH:
                assert len(step.whom) <= bears(names), step
            assert set(step.whom) <= {*names, *ROLES}


def test_every_kind_has_its_turn_before_one_comes_again() -> None:
    steps = plan(3, 3600, THREE)
    kinds = [step.kind for step in steps[: len(Kind)]]
    assert sorted(kinds) == sorted(Kind)


def test_every_kind_has_its_length_and_its_colour() -> None:
    assert set(FAULT_SECONDS) == set(Kind) == set(COLOURS)
    assert len(set(COLOURS.values())) == len(Kind)


def test_only_wanted_kinds_come() -> None:
    assert {step.kind for step in plan(3, 600, THREE, (Kind.PAUSE, Kind.FLUSH))} == {Kind.PAUSE, Kind.FLUSH}


def test_whoever_is_silent_is_so_for_longer_than_others_need_to_notice() -> None:
    for kind in (Kind.PAUSE, Kind.HALVES, Kind.ISOLATE, Kind.ONE_WAY):
        assert FAULT_SECONDS[kind][0] > NOTICED_SECONDS


def test_a_run_that_is_too_short_has_no_steps() -> None:
    assert plan(1, 3, THREE) == ()


# ---- verdicts


def batch(first: int, told: Told = Told.STORED, *, rows: int = 2, at: float = 1.0, client: str = "lines") -> Batch:
    return Batch(client=client, first=first, rows=rows, told=told, began=at - 0.1, ended=at, tries=1, node="n1")


def seen(rows: int, began: float, ended: float, **changes: object) -> Seen:
    facts: dict[str, object] = {
        "node": "n1", "start": 1, "client": "lines", "began": began, "ended": ended, "rows": rows, "distinct": rows,
        "sent": 100,
    }  # fmt: skip
    return Seen(**{**facts, **changes})  # type: ignore[arg-type]  # the keys above


def good() -> History:
    """Rows 0 to 3 are stored, 4 and 5 unknown and stored, 6 and 7 unknown and not, 8 and 9 refused."""
    return History(
        seed=1,
        seconds=60.0,
        nodes=THREE,
        batches=[
            batch(0), batch(2, at=2.5), batch(4, Told.UNKNOWN), batch(6, Told.UNKNOWN), batch(8, Told.REFUSED),
        ],
        seen=[seen(2, 1.0, 1.1), seen(4, 2.0, 2.1), seen(4, 2.2, 2.3)],
        found={name: [5, 4, 3, 2, 1, 0] for name in THREE},
        done=[Done(step=Step(number=1, kind=Kind.KILL, at=1.0, seconds=1.0, whom=("writer",)), began=1.2,
                   nodes=("n2",), healed=2.2, whole=2.4)],
        looks=[Look(at=0.5, node="n1", answers=True, writer="n2", epoch=1, leader="n1", term=1)],
        ended=10.0,
        command="python -m tests.e2e.nemesis --seed 1",
        clients=("lines",),
    )  # fmt: skip


def test_a_history_in_which_all_was_kept_is_clean() -> None:
    verdict = judge(good())
    assert verdict.troubles == ()
    assert (verdict.exit_code, verdict.acknowledged, verdict.unknown, verdict.refused) == (0, 4, 4, 2)
    assert (verdict.lost, verdict.doubled, verdict.unwanted, verdict.stored_of_unknown) == (0, 0, 0, 2)


def change_rows(node: str, rows: list[int]) -> Callable[[History], None]:
    def change(history: History) -> None:
        history.found[node] = rows

    return change


def change_all(rows: list[int]) -> Callable[[History], None]:
    def change(history: History) -> None:
        history.found = dict.fromkeys(THREE, rows)

    return change


def add_seen(*more: Seen) -> Callable[[History], None]:
    def change(history: History) -> None:
        history.seen += more

    return change


def forget(node: str) -> Callable[[History], None]:
    def change(history: History) -> None:
        del history.found[node]

    return change


def stumble(history: History) -> None:
    history.troubles.append(Trouble(kind="a node ended by itself", words="n1: 6"))


def nothing_stored(history: History) -> None:
    history.batches = [each for each in history.batches if each.told is not Told.STORED]
    history.found = {name: [4, 5] for name in THREE}


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (change_rows("n2", [5, 4, 3, 2, 0]), "lost", "n2: 1 rows: 1"),
        (change_all([0, 1, 2, 4, 5]), "lost", "n1: 1 rows: 3"),
        (change_rows("n3", [5, 4, 3, 3, 2, 1, 0]), "doubled", "n3: 1 rows: 3"),
        (change_all([0, 1, 2, 3, 4, 4, 5]), "doubled", "n1: 1 rows: 4"),
        (change_all([0, 1, 2, 3, 4, 5, 8]), "refused, and stored", "n1: 1 rows: 8"),
        (change_all([0, 1, 2, 3, 4, 5, 77]), "never sent", "n1: 1 rows: 77"),
        (change_rows("n1", [0, 1, 2, 3]), "nodes differ", "n2 has, and n1 lack some of: 2 rows: 4, 5"),
        (forget("n2"), "not counted", "n2 was never asked"),
        (add_seen(seen(5, 3.0, 3.1, distinct=4)), "a query saw a row twice", "5 rows of lines, 4 different"),
        (add_seen(seen(9, 3.0, 3.1, sent=8)), "a query saw too much", "9 rows of lines, 8 were sent"),
        (add_seen(seen(3, 3.0, 3.1)), "a node went back", "n1: 4 rows of lines at 2.10 s, 3 asked at 3.00 s"),
        (add_seen(seen(3, 3.0, 3.1, start=2)), "a node went back when it was started again", "n1: 4 rows"),
        (stumble, "a node ended by itself", "n1: 6"),
        (nothing_stored, "nothing", "no row was ever acknowledged"),
    ],
)
def test_whatever_breaks_a_promise_is_found_out(change: Callable[[History], None], kind: str, words: str) -> None:
    history = good()
    change(history)
    verdict = judge(history)
    assert verdict.exit_code == 1
    assert any(trouble.kind == kind and words in trouble.words for trouble in verdict.troubles), verdict.troubles
    text = "\n".join(told(history, verdict))
    assert "NOT CLEAN" in text and words in text
    assert verdict_document(history, verdict)["success"] is False
    assert "NOT CLEAN" in page(history, verdict)


def test_answers_that_were_under_way_together_bind_each_other_to_nothing() -> None:
    history = good()
    history.seen += [seen(9, 5.0, 6.0), seen(8, 5.5, 7.0), seen(4, 5.9, 6.5)]
    assert judge(history).is_clean
    history.seen.append(seen(8, 6.0, 6.4))
    assert [trouble.kind for trouble in judge(history).troubles] == ["a node went back"]


def test_another_node_may_be_behind() -> None:
    history = good()
    history.seen.append(seen(1, 5.0, 5.1, node="n2"))
    assert judge(history).is_clean


def test_a_refused_batch_that_was_sent_again_and_stored_is_stored() -> None:
    history = good()
    history.batches[4] = batch(8)
    history.found = {name: [*rows, 8, 9] for name, rows in history.found.items()}
    assert judge(history).is_clean


@pytest.mark.parametrize(
    ("acks", "began", "until", "gap"),
    [
        ([1.0, 2.0, 5.0, 6.0], 1.5, 9.0, 3.0),
        ([1.0, 5.0], 1.5, 3.0, 4.0),  # it was over only after the next step had begun
        ([1.0, 2.0], 1.5, 9.0, 7.0),  # it never was
        ([], 1.0, 4.0, 3.0),
        ([5.0], 1.0, 9.0, 4.0),
    ],
)
def test_a_gap_is_the_longest_silence_after_a_step_began(
    acks: list[float], began: float, until: float, gap: float
) -> None:
    assert gap_of(acks, began, until) == pytest.approx(gap)


def test_gaps_are_told_by_kind() -> None:
    (found,) = judge(good()).gaps
    assert (found.kind, found.times, found.longest) == ("kill", 1, pytest.approx(7.5))


def test_the_newest_epoch_says_who_wrote_and_old_news_say_nothing() -> None:
    history = good()

    def look(at: float, writer: str, epoch: int, *, answers: bool = True) -> Look:
        return Look(at=at, node="n1", answers=answers, writer=writer, epoch=epoch, leader="n1", term=1)

    history.looks = [look(1, "n1", 1), look(2, "n2", 2), look(3, "n1", 1), look(4, "n3", 9, answers=False)]
    writers, leaders = roles(history)
    assert writers == {"n1": [(1, 2)], "n2": [(2, 10.0)]}
    assert leaders == {"n1": [(1, 10.0)]}


def test_a_node_is_silent_from_its_first_missing_answer_to_its_next_one() -> None:
    history = good()
    answers = ((1.0, True), (2.0, False), (3.0, False), (4.0, True), (5.0, False))
    history.looks = [Look(at=at, node="n2", answers=answer) for at, answer in answers]
    assert silences(history, "n2") == [(2.0, 4.0), (5.0, 10.0)]
    assert silences(history, "n1") == []


def test_a_history_is_a_document() -> None:
    found = json.loads(json.dumps(document(good())))
    assert found["found"] == {"n1": 6, "n2": 6, "n3": 6}
    assert found["batches"][0]["told"] == "stored"


# ---- the page


class Reader(HTMLParser):
    """What refers to elsewhere, and whether every element is closed."""

    VOID = frozenset({"meta", "br", "line", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.titles: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [f"{name}={value}" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID - {"rect"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID, tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("li", "p") and self.open[-1] != tag:
            return
        assert self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "title":
            self.titles.append(data)


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere() -> None:
    history = good()
    history.done[0].note = "<script>alert(1)</script>"
    text = page(history, judge(history))
    reader = Reader()
    reader.feed(text)
    assert (reader.open, reader.links) == ([], [])
    assert "<script" not in text
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_the_page_has_a_lane_for_each_node_with_its_parts_and_faults() -> None:
    history = good()
    reader = Reader()
    reader.feed(page(history, judge(history)))
    assert "n2 writes 0.5–10.0 s" in reader.titles
    assert "n1 leads 0.5–10.0 s" in reader.titles
    assert "kill writer 1.0 s on n2, 1.2–2.2 s" in reader.titles
    assert "1 s: 1 batches stored" in reader.titles
    assert "1 s: 3 batches not stored" in reader.titles


# ---- clients


@pytest.mark.parametrize(
    ("status", "text", "reply"),
    [
        (204, "", Reply(Told.STORED)),
        (503, '{"code":"not_holder"}', Reply(Told.REFUSED)),
        (503, '{"code":"outcome_unknown"}', Reply(Told.UNKNOWN)),
        (504, "", Reply(Told.UNKNOWN)),
        (500, "a bug", Reply(Told.UNKNOWN, "500 a bug")),
        (401, "who?", Reply(Told.UNKNOWN, "401 who?")),
    ],
)
def test_an_answer_is_believed_literally(status: int, text: str, reply: Reply) -> None:
    assert reply_of(status, text) == reply


class Scripted:
    """A way to write that answers what a test says."""

    name = "scripted"

    def __init__(self, replies: Iterator[Reply], *, has_keys: bool) -> None:
        self.has_keys = has_keys
        self.replies = replies
        self.sent: list[tuple[range, str]] = []
        self.is_drained = threading.Event()

    def send(self, numbers: range, key: str) -> Reply:  # type: ignore[override]  # ranges are what clients send
        self.sent.append((numbers, key))
        found = next(self.replies, None)
        if found is None:
            self.is_drained.set()
        return found or Reply(Told.STORED)

    def close(self) -> None:
        pass


def drive(replies: list[Reply], *, has_keys: bool) -> tuple[Client, Scripted]:
    way = Scripted(iter(replies), has_keys=has_keys)
    client = Client("scripted", 1, [("n1", way)], lambda: 0.0)  # type: ignore[list-item]  # see send
    client.start()
    assert way.is_drained.wait(30)
    client.end()
    client.join()
    assert client.trouble is None
    return client, way


def test_with_a_key_a_batch_is_sent_again_until_it_is_stored() -> None:
    client, way = drive([Reply(Told.REFUSED), Reply(Told.UNKNOWN), Reply(Told.STORED)], has_keys=True)
    assert len({each for each in way.sent[:3]}) == 1
    assert (client.batches[0].told, client.batches[0].tries) == (Told.STORED, 3)


def test_without_a_key_a_batch_is_sent_once() -> None:
    client, way = drive([Reply(Told.REFUSED), Reply(Told.UNKNOWN, "500 oh")], has_keys=False)
    assert [each.told for each in client.batches[:3]] == [Told.REFUSED, Told.UNKNOWN, Told.STORED]
    assert len({numbers for numbers, _ in way.sent}) == len(way.sent)
    assert {key for _, key in way.sent} == {""}
    assert client.strange == ["scripted at 0.00 s, n1: 500 oh"]


def test_every_row_is_a_point_of_its_own() -> None:
    lines = lines_of("m", range(20)).splitlines()
    assert len({line.rpartition(" ")[2] for line in lines}) == 20
    assert DATABASE


# ---- links


@pytest.fixture
def echo() -> Iterator[int]:
    """A port that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with near:
                while data := near.recv(1024):
                    near.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.mark.parametrize("pair", [("n1", "n2"), ("n2", "n1")])
def test_one_direction_can_be_cut_and_what_was_under_way_arrives_when_it_is_healed(
    echo: int, pair: tuple[str, str]
) -> None:
    with (
        Links(lambda port: "n1") as links,
        socket.create_connection(("127.0.0.1", links.port_before("n2", echo)), timeout=30) as near,
    ):
        near.sendall(b"before")
        assert near.recv(100) == b"before"
        links.cut(frozenset({pair}))
        near.sendall(b"during")
        near.settimeout(0.2)
        with pytest.raises(TimeoutError):
            near.recv(100)
        links.cut(frozenset())
        near.settimeout(30)
        assert near.recv(100) == b"during"


def test_a_connection_of_somebody_unknown_is_closed(echo: int) -> None:
    with (
        Links(lambda port: None) as links,
        socket.create_connection(("127.0.0.1", links.port_before("n2", echo)), timeout=30) as near,
    ):
        assert near.recv(100) == b""


def test_between_two_sides_both_directions_are_cut() -> None:
    assert between(("n1",), ("n2", "n3")) == {("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")}


# ---- the command


def test_the_command_that_repeats_a_run_is_told() -> None:
    wishes = command.parse(["--seed", "9", "--minutes", "0.5", "--nodes", "5", "--faults", "kill,pause"])
    assert wishes.kinds == (Kind.KILL, Kind.PAUSE)
    found = command.command(wishes)
    assert found == "python -m tests.e2e.nemesis --seed 9 --minutes 0.5 --nodes 5 --faults kill,pause"
    assert command.command(command.parse(found.split()[3:])) == found


def test_a_fault_that_does_not_exist_is_a_usage_error() -> None:
    with pytest.raises(SystemExit) as caught:
        command.parse(["--faults", "earthquake"])
    assert caught.value.code == 2
