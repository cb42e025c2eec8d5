"""`arc write` against a node that answers over real HTTP."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
import zstandard

from arc.cli import lines, sending, sources
from arc.cli.exits import Failure
from arc.cli.sending import Sender, wait_seconds
from arc.cli.sources import sniff
from tests.cli.conftest import Run, document
from tests.cli.fake_node import Answer, FakeNode, refusal

STORED = Answer(status=204)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Waits are noted, not waited."""
    waited: list[float] = []
    original = Sender.__init__

    def patched(self: Sender, **given: object) -> None:
        original(self, **given)  # type: ignore[arg-type]
        self.sleep = waited.append

    monkeypatch.setattr(Sender, "__init__", patched)
    yield waited


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PIECE_BYTES", 60)


def test_lines_of_a_file_arrive_in_order_in_pieces_with_keys_of_their_own(
    run: Run, node: FakeNode, small_pieces: None
) -> None:
    body = b"".join(b"m v=%d\n" % n for n in range(100))
    Path("rows.lp").write_bytes(body)
    found = run(
        "write", "rows.lp", "--db", "demo", "--precision", "ms", "--endpoint", node.endpoint, "--token", "t", "--json"
    )
    assert found.exit_code == 0
    assert b"".join(asked.body for asked in node.asked) == body
    first = node.asked[0]
    assert (first.method, first.path, first.query) == ("POST", "/api/v1/write/line-protocol", {"precision": "ms"})
    assert first.headers["x-arc-database"] == "demo"
    assert first.headers["authorization"] == "Bearer t"
    assert first.headers["user-agent"].startswith("arc-cli/")
    keys = [asked.headers["idempotency-key"] for asked in node.asked]
    assert len(set(keys)) == len(keys) > 5
    summary = document(found)
    assert summary["written"] == 100
    assert summary["requests"] == len(keys)
    assert summary["success"] is True


def test_the_same_key_given_twice_sends_the_same_keys_twice(run: Run, node: FakeNode, small_pieces: None) -> None:
    Path("rows.lp").write_bytes(b"m v=1\n" * 100)
    for _ in range(2):
        run("write", "rows.lp", "--idempotency-key", "night-1", "--endpoint", node.endpoint)
    keys = [(asked.headers["idempotency-key"], asked.body) for asked in node.asked]
    assert keys[: len(keys) // 2] == keys[len(keys) // 2 :]
    assert keys[0][0] == "night-1-0"


def test_refused_lines_are_reported_by_their_number_in_the_file(run: Run, node: FakeNode, small_pieces: None) -> None:
    def answer(asked: object) -> Answer:
        body = asked.body.splitlines()  # type: ignore[attr-defined]
        bad = [{"line": n, "reason": "bad", "text": t.decode()} for n, t in enumerate(body, 1) if t == b"bad"]
        if not bad:
            return STORED
        return refusal(
            400, "partial write", "partial_write", refused=bad, refused_total=len(bad), written=len(body) - len(bad)
        )

    node.answer = answer
    rows = [b"bad" if n in (1, 13, 50) else b"m v=1 %d" % n for n in range(1, 61)]
    found = run("write", "-", "--endpoint", node.endpoint, "--json", input=b"\n".join(rows))
    assert found.exit_code == 1
    assert [one["line"] for one in document(found)["refused"]] == [1, 13, 50]
    assert document(found)["written"] == 57
    assert document(found)["refused_total"] == 3


def test_refused_lines_are_listed_for_people_too(run: Run, node: FakeNode) -> None:
    listed = [{"line": 2, "reason": "invalid number", "text": "m v=\x1b[31mx"}]
    node.script(refusal(400, "partial write", "partial_write", refused=listed, refused_total=1, written=1))
    found = run("write", "-", "--endpoint", node.endpoint, input=b"m v=1\nm v=x\n")
    assert found.exit_code == 1
    assert found.stdout == "line 2: invalid number: m v=\\x1b[31mx\n"
    assert "stored 1 row in default, 1 line refused; 1 request" in found.stderr


def test_strict_stops_at_the_first_refused_line(run: Run, node: FakeNode, small_pieces: None) -> None:
    listed = [{"line": 1, "reason": "bad", "text": "x"}]
    node.script(STORED, refusal(400, "refused", "invalid", refused=listed, refused_total=1))
    found = run("write", "-", "--strict", "--endpoint", node.endpoint, input=b"m v=1\n" * 40)
    assert found.exit_code == 1
    assert len(node.asked) == 2
    assert node.asked[0].query["strict"] == "true"
    assert "line 11: bad: x" in found.stderr
    assert "Lines 1 to 10 were answered" in found.stderr


def test_busy_is_waited_for_as_long_as_it_says_and_the_key_stays(
    run: Run, node: FakeNode, no_waiting: list[float]
) -> None:
    busy = refusal(503, "no room now", "overloaded")
    busy.headers["retry-after"] = "7"
    node.script(busy, refusal(429, "slow down", "rate_limited"), STORED)
    found = run("write", "-", "--endpoint", node.endpoint, "--json", input=b"m v=1\n")
    assert found.exit_code == 0
    assert document(found)["retries"] == 2
    assert no_waiting[0] == 7.0
    assert len({asked.headers["idempotency-key"] for asked in node.asked}) == 1
    assert [asked.body for asked in node.asked] == [b"m v=1\n"] * 3
    assert "no room now; trying again in 7.0 s" in found.stderr


def test_it_gives_up_after_a_while_and_says_from_where_to_go_on(run: Run, node: FakeNode, small_pieces: None) -> None:
    Path("rows.lp").write_bytes(b"m v=1\n" * 40)
    node.script(STORED, refusal(503, "no room now", "overloaded"))
    found = run("write", "rows.lp", "--endpoint", node.endpoint, "--give-up", "0")
    assert found.exit_code == 4
    assert "Lines 1 to 10 were answered, the rest not sent" in found.stderr
    assert "--idempotency-key arc-" in found.stderr


def test_a_key_that_was_used_for_other_rows_is_not_to_be_tried_again(run: Run, node: FakeNode) -> None:
    Path("rows.lp").write_bytes(b"m v=1\n")
    node.script(refusal(422, "Idempotency-Key 'night-1-0' was used for another write", "idempotency_key_reused"))
    found = run("write", "rows.lp", "--idempotency-key", "night-1", "--endpoint", node.endpoint)
    assert found.exit_code == 1
    assert "was used for another write" in found.stderr
    assert "send these with another one" in found.stderr
    assert "Repeat it" not in found.stderr


def test_an_interrupt_says_how_far_it_came(
    run: Run, node: FakeNode, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = Sender.send

    def send(self: Sender, body: object, key: str, *, first_line: int = 1) -> object:
        if first_line > 20:
            raise KeyboardInterrupt
        return sends(self, body, key, first_line=first_line)  # type: ignore[arg-type]

    monkeypatch.setattr(Sender, "send", send)
    Path("rows.lp").write_bytes(b"m v=1\n" * 40)
    found = run("write", "rows.lp", "--endpoint", node.endpoint)
    assert found.exit_code == 130
    assert "Lines 1 to 20 were answered" in found.stderr
    assert "--idempotency-key arc-" in found.stderr


def test_a_lost_answer_is_asked_for_again_with_the_same_key(run: Run, node: FakeNode) -> None:
    node.script(Answer(status=400, document={"error": "x"}, cut=True), STORED)
    found = run("write", "-", "--endpoint", node.endpoint, "--json", input=b"m v=1\n")
    assert found.exit_code == 0
    assert document(found)["retries"] == 1
    assert len({asked.headers["idempotency-key"] for asked in node.asked}) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 413, 500])
def test_what_cannot_get_better_is_not_tried_again(run: Run, node: FakeNode, status: int) -> None:
    node.script(refusal(status, "no", "code"))
    assert run("write", "-", "--endpoint", node.endpoint, input=b"m v=1\n").exit_code == 1
    assert len(node.asked) == 1


def test_a_missing_file_sends_nothing(run: Run, node: FakeNode) -> None:
    found = run("write", "nowhere.lp", "--endpoint", node.endpoint)
    assert found.exit_code == 2
    assert "no such file: nowhere.lp" in found.stderr
    assert node.asked == []


def test_comments_alone_need_no_request(run: Run, node: FakeNode) -> None:
    assert document(run("write", "-", "--endpoint", node.endpoint, "--json", input=b"# nothing\n\n"))["written"] == 0
    assert node.asked == []


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_compressed_lines_are_read_as_lines(run: Run, node: FakeNode, pack: object) -> None:
    body = b"m v=1\nm v=2\n"
    Path("rows.lp.gz").write_bytes(pack(body))  # type: ignore[operator]
    assert run("write", "rows.lp.gz", "--endpoint", node.endpoint).exit_code == 0
    assert node.asked[0].body == body


def stream_of(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_an_arrow_stream_goes_whole_and_an_arrow_file_becomes_one(run: Run, node: FakeNode) -> None:
    table = pa.table({"time": [1, 2], "v": [0.5, 1.5]})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    Path("a.arrow").write_bytes(sink.getvalue())
    assert run("write", "a.arrow", "--measurement", "m", "--endpoint", node.endpoint).exit_code == 0
    assert run("write", "-", "--measurement", "m", "--endpoint", node.endpoint, input=stream_of(table)).exit_code == 0
    for asked in node.asked:
        assert asked.path == "/api/v1/write/arrow"
        assert asked.headers["x-arc-measurement"] == "m"
        assert pa.ipc.open_stream(asked.body).read_all() == table


def test_messagepack_goes_whole_and_again_when_the_node_was_busy(run: Run, node: FakeNode) -> None:
    body = b"\x82\xa1m\xa1a\xa7columns\x80"
    node.script(refusal(503, "busy", "overloaded"), STORED)
    assert run("write", "-", "--endpoint", node.endpoint, input=body).exit_code == 0
    assert [asked.path for asked in node.asked] == ["/api/v1/write/msgpack"] * 2
    assert [asked.body for asked in node.asked] == [body, body]


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"m v=1", "lp"),
        (b"", "lp"),
        ("дом v=1".encode(), "lp"),
        ("\u07c0 v=1".encode(), "lp"),
        (b"\xff\xff\xff\xff\x78\x00", "arrow"),
        (b"ARROW1\x00\x00", "arrow"),
        (b"\x82\xa1m", "msgpack"),
        (b"\x93\x82", "msgpack"),
        (b"\xdc\x01\x00", "msgpack"),
        (b"\xde\x00\x10", "msgpack"),
    ],
)
def test_formats_are_told_by_their_first_bytes(head: bytes, found: str) -> None:
    assert sniff(head) == found


def test_a_name_tells_the_format_before_the_bytes_do(run: Run, node: FakeNode) -> None:
    Path("x.msgpack").write_bytes(b"m v=1\n")
    run("write", "x.msgpack", "--endpoint", node.endpoint)
    run("write", "x.msgpack", "--format", "lp", "--endpoint", node.endpoint)
    assert [asked.path.rpartition("/")[2] for asked in node.asked] == ["msgpack", "line-protocol"]


@pytest.mark.parametrize(
    ("retries", "asked", "low", "high"),
    [
        (0, "", 0.2, 0.3),
        (3, "", 1.6, 2.4),
        (99, "", 4.0, 6.0),
        (0, "3", 3, 3),
        (0, "9999", 60, 60),
        (0, "soon", 0.2, 0.3),
    ],
)
def test_waits(retries: int, asked: str, low: float, high: float) -> None:
    assert low <= wait_seconds(retries, asked) <= high


def test_giving_up_counts_the_time_that_passed(node: FakeNode) -> None:
    node.script(refusal(503, "busy", "overloaded"))
    clock = iter(range(100))
    with httpx.Client(base_url=node.endpoint) as client:
        sender = Sender(
            client=client, path="/w", headers={}, parameters={}, give_up_seconds=10.0, tell=lambda text: None,
            now=lambda: float(next(clock)),
        )  # fmt: skip
        with pytest.raises(Failure, match="busy"):
            sender.send(lambda: b"x", "k")
    assert 3 <= len(node.asked) <= 10


def test_memory_is_bounded_by_blocks() -> None:
    """Nothing in the way of a stream holds more than a piece or a line."""
    assert sources.BLOCK_BYTES <= lines.PIECE_BYTES <= lines.LINE_BYTES_MAX
    assert sending.REFUSED_KEPT_MAX <= 10_000
