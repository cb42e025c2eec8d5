"""Requests that are for another node: what it gets, what the client gets, and what is tried again."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import trio
import trio.testing

from arc.cluster.router import RouterConfig
from arc.errors import Overloaded, Unavailable
from tests.api.fakes import READER, WRITER, FakeAnswers, World
from tests.api.forwarding import LINES, SQL, Answered, Client, cluster, holder, node, reader
from tests.wire.scripts import Script, Server, answer, drip, hang, hear, pause, say, until

STORED = answer(204, b"", b"X-Arc-Position: 7.1")
STORES: Script = (hear(LINES), say(STORED))
BREAKS: Script = (hear(LINES),)
ANSWERS: Script = (hear(SQL), say(answer(200, b"rows")))
N1, N2 = node("n1"), holder("n2")


def refuses(status: int, code: str) -> Script:
    return (hear(LINES), say(answer(status, b"{}", b"X-Arc-Code: " + code.encode(), b"Retry-After: 1")))


def sent_headers(server: Server, nth: int = 0) -> dict[str, list[str]]:
    lines = bytes(server.heard[nth]).partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return found


def code_of(got: Answered) -> str:
    code = json.loads(got.body)["code"]
    assert isinstance(code, str)
    return code


# ---- what the other node gets


async def test_a_write_reaches_the_lease_holder_and_its_answer_the_client() -> None:
    server = Server([STORES])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        got = await nodes.ask("/api/v2/write?bucket=a%2Fb&precision=ns", token=WRITER)()
        assert nodes.router.get_active_connections(N2.name) == 0
    assert (got.status, got.is_whole, got.body) == (204, True, b"")
    assert (got.one("x-arc-position"), got.one("x-arc-served-by")) == ("7.1", "n2")
    assert server.heard[0].startswith(b"POST /api/v2/write?bucket=a%2Fb&precision=ns HTTP/1.1\r\n")
    assert server.heard[0].endswith(b"\r\n\r\n" + LINES)
    assert nodes.world.ingest.requests == []


async def test_what_is_for_this_node_stays_here_and_says_so() -> None:
    async with cluster(holder("n1"), node("n2"), servers={}) as nodes:
        wrote = await nodes.ask()()
        asked = await nodes.ask("/api/v1/query", SQL)()
    assert (wrote.status, asked.status) == (204, 200)
    assert wrote.one("x-arc-served-by") == asked.one("x-arc-served-by") == "n1"
    assert nodes.net.dialled == []
    assert nodes.forwarder.statistics().local_total == 2


# ---- a query that needs files which are not here


def lacking(code: str = "files_missing") -> FakeAnswers:
    return FakeAnswers(error=Unavailable("a file of a.cpu is not here", code=code))


@pytest.mark.parametrize("code", ["files_missing", "file_unreadable"])
async def test_a_query_that_this_node_cannot_answer_whole_is_answered_by_another(code: str) -> None:
    server = Server([ANSWERS])
    async with cluster(holder("n1"), reader("n2"), servers={"n2": server}) as nodes:
        nodes.world.replace(queries=lacking(code))
        nodes.lacks_files = True
        got = await nodes.ask("/api/v1/query", SQL)()
    assert (got.status, got.body, got.one("x-arc-served-by")) == (200, b"rows", "n2")


async def test_a_query_whose_files_are_here_stays_here_while_others_are_missing() -> None:
    async with cluster(holder("n1"), reader("n2"), servers={}) as nodes:
        nodes.lacks_files = True
        got = await nodes.ask("/api/v1/query", SQL)()
    assert (got.status, got.one("x-arc-served-by")) == (200, "n1")


async def test_where_nobody_else_can_be_asked_the_client_is_told_what_is_missing() -> None:
    async with cluster(holder("n1"), node("n2", refuses_queries="it starts"), servers={}) as nodes:
        nodes.world.replace(queries=lacking())
        nodes.lacks_files = True
        alone = await nodes.ask("/api/v1/query", SQL)()
        strong = await nodes.ask("/api/v1/query?consistency=strong", SQL)()
    assert (alone.status, code_of(alone)) == (503, "files_missing")
    assert strong.status == 503


async def test_a_query_that_was_passed_on_already_goes_back_to_who_passed_it() -> None:
    """He knows who else there is; two nodes that lack files would send it to and fro."""
    async with cluster(holder("n1"), reader("n2"), servers={"n2": Server([])}) as nodes:
        nodes.world.replace(queries=lacking())
        nodes.lacks_files = True
        got = await nodes.ask("/api/v1/query", SQL, headers=(("x-arc-forwarded-by", "n3"),))()
    assert (got.status, code_of(got)) == (503, "files_missing")


async def test_a_node_that_lacks_files_is_not_the_last_one_asked() -> None:
    lacks, has = Server([refuses_query()]), Server([ANSWERS])
    views = (node("n1", refuses_queries="it starts"), reader("n2"), reader("n3"))
    async with cluster(*views, servers={"n2": lacks, "n3": has}) as nodes:
        got = await nodes.ask("/api/v1/query", SQL)()
    assert (got.status, got.one("x-arc-served-by")) == (200, "n3")
    assert len(lacks.heard) == 1


def refuses_query() -> Script:
    return (hear(SQL), say(answer(503, b"{}", b"X-Arc-Code: files_missing")))


ROUTED = [
    ("/write?db=a", LINES, "n2"),
    ("/api/v2/write?bucket=a", LINES, "n2"),
    ("/api/v1/write/line-protocol", LINES, "n2"),
    ("/api/v1/write/msgpack", LINES, "n2"),
    ("/api/v1/write/arrow", LINES, "n2"),
    ("/api/v1/import/csv?measurement=m", LINES, "n2"),
    ("/api/v1/import/parquet?measurement=m", LINES, "n2"),
    ("/api/v1/import/lp", LINES, "n2"),
    ("/api/v1/query", SQL, "n3"),
    ("/api/v1/query/msgpack", SQL, "n3"),
    ("/api/v1/query/arrow", SQL, "n3"),
    ("/api/v1/query/csv", SQL, "n3"),
    ("/api/v1/query/estimate", SQL, "n3"),
]


@pytest.mark.parametrize(("path", "body", "where"), ROUTED)
async def test_every_write_and_every_query_finds_its_node(path: str, body: bytes, where: str) -> None:
    script: Script = (hear(body), say(answer(200, b"done")))
    servers = {"n2": Server([script]), "n3": Server([script])}
    async with cluster(reader("n1", refuses_queries="catching up"), N2, reader("n3"), servers=servers) as nodes:
        got = await nodes.ask(path, body)()
    assert (got.status, got.body, got.one("x-arc-served-by")) == (200, b"done", where)


async def test_a_get_without_a_body_is_sent_without_one() -> None:
    server = Server([(hear(), say(answer(200, b"rows")))])
    async with cluster(reader("n1", refuses_queries="x"), reader("n3"), servers={"n3": server}) as nodes:
        got = await nodes.ask("/api/v1/query/cpu?limit=1", b"", method="GET")()
    assert got.body == b"rows"
    assert {"content-length", "transfer-encoding"}.isdisjoint(sent_headers(server))


async def test_who_a_client_says_it_is_stays_behind_and_who_it_is_goes_with_the_request() -> None:
    claims = [
        "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "forwarded",
        "x-arc-original-host", "true-client-ip", "cf-connecting-ip", "x-client-ip",
    ]  # fmt: skip
    hop = ["keep-alive", "te", "trailer", "upgrade", "proxy-authorization", "proxy-connection", "x-mine", "expect"]
    server = Server([STORES])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        await nodes.ask(
            headers=[
                *((name, "198.51.100.9") for name in (*claims, *hop)),
                ("connection", "close, X-Mine"), ("content-encoding", "identity"), ("x-other", "1"), ("x-other", "2"),
            ],
            token=WRITER,
        )()  # fmt: skip
    sent = sent_headers(server)
    assert "198.51.100.9" not in str(sent)
    assert "connection" not in sent
    assert sent["x-forwarded-for"] == ["192.0.2.7"]
    assert sent["x-arc-original-host"] == ["public.example"]
    assert sent["x-arc-forwarded-by"] == ["n1"]
    assert sent["host"] == ["n2:80"]
    assert sent["authorization"] == [f"Bearer {WRITER}"]
    assert sent["content-encoding"] == ["identity"]
    assert sent["x-other"] == ["1", "2"]


async def test_a_wrong_token_is_refused_here_and_goes_nowhere() -> None:
    async with cluster(N1, N2, servers={"n2": Server([STORES])}) as nodes:
        assert (await nodes.ask(token="wrong")()).status == 401
        assert (await nodes.ask(token=READER)()).status == 403
    assert nodes.net.dialled == []


# ---- what the client gets


ODD = [
    ("length", answer(200, b"hello", b"Content-Type: text/x"), b"hello"),
    ("chunks", b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
    ("interim", b"HTTP/1.1 100 Continue\r\n\r\n" + answer(200, b"hello"), b"hello"),
    ("error", answer(400, b'{"code":"invalid"}'), b'{"code":"invalid"}'),
    ("empty", answer(204), b""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "said", "body"), ODD, ids=[row[0] for row in ODD])
@pytest.mark.parametrize("size", [1, 5, 1000])
async def test_an_answer_arrives_as_it_was_given(name: str, said: bytes, body: bytes, size: int) -> None:
    async with cluster(N1, N2, servers={"n2": Server([(hear(LINES), drip(said, size))])}) as nodes:
        got = await nodes.ask()()
    assert (got.body, got.is_whole) == (body, True)
    assert "transfer-encoding" not in dict(got.headers)
    length = got.one("content-length")
    assert length == (str(len(body)) if name in ("length", "interim", "error") else None)


async def test_repeated_headers_of_an_answer_stay_and_those_of_the_connection_do_not() -> None:
    said = answer(
        200,
        b"",
        b"Set-Cookie: a=1",
        b"Set-Cookie: b=2",
        b"Connection: x-hop",
        b"X-Hop: 1",
        b"Keep-Alive: 5",
        b"Date: x",
    )
    async with cluster(N1, N2, servers={"n2": Server([(hear(LINES), say(said))])}) as nodes:
        got = await nodes.ask()()
    assert got.all("set-cookie") == ["a=1", "b=2"]
    assert {b"connection", b"x-hop", b"keep-alive", b"date"}.isdisjoint(dict(got.headers))


async def test_the_name_of_the_node_behind_the_next_one_is_kept() -> None:
    said = answer(204, b"", b"X-Arc-Served-By: n9")
    async with cluster(N1, N2, servers={"n2": Server([(hear(LINES), say(said))])}) as nodes:
        assert (await nodes.ask()()).one("x-arc-served-by") == "n9"


async def test_an_answer_is_passed_on_while_it_comes() -> None:
    """P-42: nothing waits for the end of an answer."""
    seen = trio.Event()
    said = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    server = Server([(hear(SQL), say(said), until(seen), say(b"4\r\nlast\r\n0\r\n\r\n"))])
    async with cluster(reader("n1", refuses_queries="x"), reader("n3"), servers={"n3": server}) as nodes:
        client = nodes.ask("/api/v1/query", SQL)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.testing.wait_all_tasks_blocked()
            assert client.answered.body == b"first"
            assert nodes.router.get_active_connections(reader("n3").name) == 1
            seen.set()
        assert client.answered.pieces == [b"first", b"last"]
        assert nodes.router.get_active_connections(reader("n3").name) == 0


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
async def test_an_answer_that_breaks_off_is_cut_and_not_ended(framing: bytes) -> None:
    part = b"4\r\nhalf\r\n" if b"chunked" in framing else b"half"
    server = Server([(hear(SQL), say(b"HTTP/1.1 200 X\r\n" + framing + b"\r\n\r\n" + part))])
    async with cluster(reader("n1", refuses_queries="x"), reader("n3"), holder("n2"), servers={"n3": server}) as nodes:
        got = await nodes.ask("/api/v1/query", SQL)()
    assert (got.status, got.body, got.is_whole) == (200, b"half", False)
    assert nodes.net.dialled == ["n3:80"], "nothing can be tried again"
    assert nodes.world.logged("answer_cut")


# ---- large bodies


async def test_a_large_body_is_passed_on_while_it_comes_and_kept_nowhere() -> None:
    pieces = [b"x" * 1000 for _ in range(50)]
    server = Server([(hear(b"x" * 50_000), say(STORED))])
    async with cluster(N1, N2, servers={"n2": server}, held_body_bytes_max=10_000) as nodes:
        got = await nodes.ask(body=pieces)()
        assert nodes.forwarder.statistics().held_bytes == 0
    assert got.status == 204
    sent = sent_headers(server)
    assert sent["content-length"] == ["50000"]
    assert "idempotency-key" not in sent


@pytest.mark.parametrize("count", [3, 50])
async def test_a_body_of_unknown_length_is_kept_while_it_is_short(count: int) -> None:
    server = Server([(hear(b"0\r\n\r\n" if count == 50 else b"x" * 3000), say(STORED))])
    async with cluster(N1, N2, servers={"n2": server}, held_body_bytes_max=10_000) as nodes:
        got = await nodes.ask(body=[b"x" * 1000] * count, sized=False)()
    assert got.status == 204
    sent = sent_headers(server)
    assert ("transfer-encoding" in sent) is (count == 50)
    assert server.heard[0].count(b"x" * 1000) == count


async def test_a_refusal_in_the_middle_of_a_large_body_reaches_the_client_at_once() -> None:
    server = Server([(hear(), say(answer(413, b"too much")), hear(b"never"))])
    async with cluster(N1, N2, servers={"n2": server}, held_body_bytes_max=10_000) as nodes:
        got = await nodes.ask(body=[b"x" * 1000] * 5000)()
        assert len(server.heard[0]) < 1_000_000, "the rest is not sent to whoever refused it"
    assert (got.status, got.body, got.is_whole) == (413, b"too much", True)


async def test_beyond_the_memory_for_kept_bodies_writes_are_sent_once_and_queries_wait_outside() -> None:
    options = {"held_body_bytes_max": 100, "held_bytes_max": 100}
    servers = {"n2": Server([STORES])}
    async with cluster(reader("n1", refuses_queries="x"), N2, servers=servers, **options) as nodes:
        with nodes.forwarder._means.hold(95):
            got = await nodes.ask()()
            asked = await nodes.ask("/api/v1/query", SQL)()
    assert got.status == 204
    assert "idempotency-key" not in sent_headers(servers["n2"])
    assert (asked.status, code_of(asked)) == (503, "overloaded")


# ---- trying again


async def test_a_retry_of_a_write_carries_the_same_key_and_is_one_write() -> None:
    """P-41."""
    server = Server([BREAKS, STORES])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        got = await nodes.ask()()
    assert got.status == 204
    keys = [sent_headers(server, nth)["idempotency-key"] for nth in (0, 1)]
    assert keys[0] == keys[1]
    assert re.fullmatch(r"arc-[0-9a-f]{32}", keys[0][0])
    assert nodes.router.statistics().retries_total == 1


async def test_the_clients_own_key_is_used_and_no_two_requests_share_an_added_one() -> None:
    server = Server([BREAKS, STORES])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        await nodes.ask(headers=[("idempotency-key", "mine")])()
        await nodes.ask()()
        await nodes.ask()()
    keys = [sent_headers(server, nth)["idempotency-key"] for nth in range(4)]
    assert keys[:2] == [["mine"], ["mine"]]
    assert keys[2] != keys[3]


UNSAFE: list[tuple[str, dict[str, Any], bytes | list[bytes]]] = [
    ("no key may be added", {"added_keys_per_second": 0.0}, LINES),
    ("the body is not kept", {"held_body_bytes_max": 5}, LINES),
    ("retries are off", {"retries": 0}, LINES),
]


@pytest.mark.parametrize(("why", "options", "body"), UNSAFE, ids=[row[0] for row in UNSAFE])
async def test_a_write_that_was_sent_is_not_tried_again_where_that_is_not_safe(
    why: str, options: dict[str, Any], body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arc.cluster.router.KEYS_AT_ONCE", 0.0 if "added_keys_per_second" in options else 10.0)
    server = Server([BREAKS, STORES])
    async with cluster(N1, N2, servers={"n2": server}, **options) as nodes:
        got = await nodes.ask(body=body)()
    assert (got.status, code_of(got)) == (503, "outcome_unknown")
    assert got.one("retry-after")
    assert len(server.heard) == 1


async def test_a_body_that_was_not_sent_whole_stored_nothing_and_the_client_is_told_so() -> None:
    server = Server([(hear(b"xx"),)])
    async with cluster(N1, N2, servers={"n2": server}, held_body_bytes_max=5) as nodes:
        got = await nodes.ask(body=[b"xx"] * 1000)()
    assert (got.status, code_of(got)) == (503, "no_writer_available")
    assert "nothing was stored" in json.loads(got.body)["error"]


async def test_a_body_whose_every_byte_was_sent_may_be_stored_though_its_end_was_not_seen_here() -> None:
    """With a length the other node knows the end when it has the last byte."""
    server = Server([(hear(b"x" * 2000),)])
    async with cluster(N1, N2, servers={"n2": server}, held_body_bytes_max=5) as nodes:
        got = await nodes.ask(body=[b"x" * 1000] * 2, end=trio.Event())()
    assert (got.status, code_of(got)) == (503, "outcome_unknown")


async def test_a_large_body_of_which_nothing_was_taken_yet_can_still_go_elsewhere(
    autojump_clock: trio.testing.MockClock,
) -> None:
    servers = {"n3": Server([(hear(b"x" * 50_000), say(STORED))])}
    async with cluster(N1, N2, servers=servers, held_body_bytes_max=1000) as nodes:
        client = nodes.ask(body=[b"x" * 1000] * 50)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.sleep(0.3)
            assert client.taken == 0
            nodes.see(N1, node("n2"), holder("n3"))
    assert (client.answered.status, client.answered.one("x-arc-served-by")) == (204, "n3")


@pytest.mark.parametrize("first", [(), (hear(SQL),), (hear(SQL), say(answer(503, b"", b"X-Arc-Code: overloaded")))])
async def test_a_query_goes_to_another_node_until_its_answer_began(first: Script) -> None:
    servers = {"n3": Server([first]), "n4": Server([ANSWERS])}
    async with cluster(
        reader("n1", refuses_queries="x"), reader("n3"), reader("n4"), servers=servers, idle_timeout_seconds=5.0
    ) as nodes:
        got = await nodes.ask("/api/v1/query", SQL)()
    assert (got.status, got.body, got.one("x-arc-served-by")) == (200, b"rows", "n4")
    assert nodes.net.dialled == ["n3:80", "n4:80"]
    assert "idempotency-key" not in sent_headers(servers["n4"])


async def test_a_node_that_takes_no_connections_is_passed_over_and_not_asked_twice_in_a_row() -> None:
    async with cluster(
        reader("n1", refuses_queries="x"), reader("n3"), reader("n4"), servers={"n4": Server([ANSWERS])}
    ) as nodes:
        assert (await nodes.ask("/api/v1/query", SQL)()).body == b"rows"
    assert nodes.net.dialled == ["n3:80", "n4:80"]


async def test_retries_end_when_their_budget_is_spent() -> None:
    server = Server([BREAKS])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        while nodes.router.retries.take():
            pass
        got = await nodes.ask()()
    assert (got.status, code_of(got)) == (503, "outcome_unknown")
    assert len(server.heard) == 1


async def test_every_forwarded_request_earns_a_share_of_a_retry() -> None:
    server = Server([STORES, STORES, BREAKS, STORES])
    async with cluster(N1, N2, servers={"n2": server}, retry_share=0.5) as nodes:
        while nodes.router.retries.take():
            pass
        assert [(await nodes.ask()()).status for _ in range(3)] == [204, 204, 204]
    assert nodes.router.retries.refused == 1


async def test_a_sick_node_is_asked_a_few_times_with_growing_pauses_and_then_the_client_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    server = Server([BREAKS])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        begun = trio.current_time()
        got = await nodes.ask()()
        assert 1.5 < trio.current_time() - begun < 3.0
    assert (got.status, code_of(got)) == (503, "outcome_unknown")
    assert len(server.heard) == 1 + RouterConfig().retries


async def test_an_answer_that_nobody_knows_whether_it_is_stored_is_asked_again_under_its_key() -> None:
    server = Server([refuses(503, "outcome_unknown"), STORES])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        assert (await nodes.ask()()).status == 204
    assert sent_headers(server, 0)["idempotency-key"] == sent_headers(server, 1)["idempotency-key"]


@pytest.mark.parametrize("share", [True, False])
async def test_the_next_holder_is_asked_again_only_if_it_knows_what_the_last_one_stored(
    share: bool, autojump_clock: trio.testing.MockClock
) -> None:
    servers = {"n2": Server([(*BREAKS, pause(0.0))]), "n3": Server([STORES])}
    async with cluster(N1, N2, servers=servers, holders_share_keys=share) as nodes:
        client = nodes.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.sleep(0.06)
            del nodes.net.servers["n2:80"]
            nodes.see(N1, node("n2"), holder("n3"))
    got = client.answered
    if share:
        assert (got.status, got.one("x-arc-served-by")) == (204, "n3")
    else:
        assert (got.status, code_of(got)) == (503, "outcome_unknown")
        assert servers["n3"].heard == []


async def test_after_an_unknown_outcome_a_plain_refusal_is_not_believed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The second answer says that nothing happened, and knows nothing of the first request."""
    server = Server([BREAKS, refuses(503, "unavailable")])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        got = await nodes.ask()()
    assert (got.status, code_of(got)) == (503, "outcome_unknown")


@pytest.mark.parametrize(
    "error", [Overloaded("memory"), Unavailable("not yet"), Unavailable("gone", code="not_holder")]
)
async def test_after_an_unknown_outcome_a_refusal_of_this_node_is_not_believed_either(
    error: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    """The holder died with the write, and the node that had passed it on became the next one."""
    server = Server([(*BREAKS, pause(0.0))])
    async with cluster(N1, N2, servers={"n2": server}, holders_share_keys=True) as nodes:
        nodes.world.ingest.error = error
        client = nodes.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.sleep(0.06)
            del nodes.net.servers["n2:80"]
            nodes.see(holder("n1"), node("n2"))
    assert nodes.world.ingest.entered.is_set()
    assert (client.answered.status, code_of(client.answered)) == (503, "outcome_unknown")


async def test_a_refusal_that_will_not_change_is_passed_on_as_it_is() -> None:
    server = Server([refuses(503, "overloaded")])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        got = await nodes.ask()()
    assert (got.status, got.body, got.one("retry-after"), len(server.heard)) == (503, b"{}", "1", 1)


async def test_a_kept_connection_that_died_is_replaced_at_once() -> None:
    """Arc's issue 851: the first forwarded write after a pause failed."""
    once: Script = (hear(LINES), say(STORED), hear(LINES))
    server = Server([once, STORES])
    async with cluster(N1, N2, servers={"n2": server}, keep=True) as nodes:
        assert (await nodes.ask()()).status == 204
        assert (await nodes.ask()()).status == 204
        statistics = nodes.forwarder.statistics()
    assert (statistics.connections.reused_total, statistics.connections.opened_total) == (1, 2)
    assert nodes.router.statistics().retries_total == 0


# ---- waiting for a node


@pytest.mark.parametrize("here", [False, True])
async def test_a_write_during_a_failover_waits_for_the_next_holder(
    here: bool, autojump_clock: trio.testing.MockClock
) -> None:
    servers = {"n3": Server([STORES])}
    async with cluster(N1, node("n2"), node("n3"), servers=servers) as nodes:
        client = nodes.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.sleep(2.0)
            assert client.answered.status == 0
            assert nodes.forwarder.statistics().waiting == 1
            nodes.see(holder("n1") if here else N1, node("n2"), node("n3") if here else holder("n3"))
        assert trio.current_time() < 2.5
    assert client.answered.status == 204
    assert client.answered.one("x-arc-served-by") == ("n1" if here else "n3")
    assert len(nodes.world.ingest.requests) == int(here)


async def test_a_write_waits_while_this_node_opens_its_log(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster(holder("n1", refuses_writes="replay"), servers={}) as nodes:
        client = nodes.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.sleep(1.0)
            assert client.answered.status == 0
            nodes.see(holder("n1"))
    assert client.answered.status == 204


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [("/write", LINES, "no_writer_available"), ("/api/v1/query", SQL, "no_reader_available")],
)
async def test_when_nobody_comes_the_answer_is_503_with_a_code(
    path: str, body: bytes, code: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with cluster(reader("n1", refuses_queries="catching up"), servers={}) as nodes:
        got = await nodes.ask(path, body)()
        assert trio.current_time() >= RouterConfig().failover_wait_seconds
    assert (got.status, code_of(got), got.one("x-arc-code")) == (503, code, code)
    assert got.one("retry-after")


async def test_no_more_than_so_many_wait(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster(N1, node("n2"), servers={}, waiting_max=2) as nodes:
        clients = [nodes.ask() for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(client)
            await trio.sleep(0.1)
            assert sorted(client.answered.status for client in clients) == [0, 0, 503]


async def test_errors_name_no_addresses(autojump_clock: trio.testing.MockClock) -> None:
    """P-40."""
    secret = "10.20.30.40"
    down = holder("n2", api_address=f"{secret}:8000", address=f"{secret}:9100")
    async with cluster(node("n1", refuses_queries="x"), down, servers={}) as nodes:
        for path, body in (("/write", LINES), ("/api/v1/query", SQL)):
            got = await nodes.ask(path, body)()
            assert got.status == 503
            assert secret not in f"{got.headers} {got.body!r}"
    assert secret in str(nodes.world.logged("forward_failed")), "an operator finds it in the log"


async def test_a_silent_node_has_limits_for_the_connection_and_for_the_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    options = {"write_timeout_seconds": 4.0, "query_timeout_seconds": 9.0, "connect_timeout_seconds": 1.0}
    server = Server([(hear(LINES), hang)])
    async with cluster(node("n1", refuses_queries="x"), N2, servers={"n2": server}, **options) as nodes:
        got = await nodes.ask()()
        assert (got.status, code_of(got), round(trio.current_time())) == (503, "outcome_unknown", 4)
        server.scripts = [(hear(SQL), hang)]
        begun = trio.current_time()
        got = await nodes.ask("/api/v1/query", SQL)()
        assert (got.status, code_of(got), round(trio.current_time() - begun)) == (504, "timeout", 9)
        nodes.net.silent.add("n2:80")
        got = await nodes.ask()()
        assert (got.status, code_of(got)) == (503, "no_writer_available")


async def test_an_import_may_take_as_long_as_a_query(autojump_clock: trio.testing.MockClock) -> None:
    server = Server([(hear(LINES), pause(50.0), say(answer(200, b"done")))])
    options = {"write_timeout_seconds": 4.0, "query_timeout_seconds": 55.0}
    async with cluster(N1, N2, servers={"n2": server}, **options) as nodes:
        got = await nodes.ask("/api/v1/import/lp")()
    assert (got.status, got.body) == (200, b"done")


async def test_an_answer_that_stands_still_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    said = b"HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\nhalf"
    server = Server([(hear(LINES), say(said), hang)])
    async with cluster(N1, N2, servers={"n2": server}, idle_timeout_seconds=7.0) as nodes:
        got = await nodes.ask()()
        assert round(trio.current_time()) == 7
    assert (got.body, got.is_whole) == (b"half", False)


async def test_an_answer_of_a_node_that_lost_the_lease_is_waited_for_a_moment_only(
    autojump_clock: trio.testing.MockClock,
) -> None:
    servers = {"n2": Server([(hear(LINES), hang)]), "n3": Server([STORES])}
    async with cluster(N1, N2, servers=servers, holders_share_keys=True) as nodes:
        client = nodes.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.sleep(1.0)
            nodes.see(N1, node("n2"), holder("n3"))
        assert trio.current_time() < 4.0
    assert (client.answered.status, client.answered.one("x-arc-served-by")) == (204, "n3")


# ---- hanging up


@pytest.mark.parametrize("is_large", [False, True])
async def test_a_client_that_hangs_up_ends_the_request_at_the_other_node(is_large: bool) -> None:
    server = Server([(hear(b"x"), hear(b"never"))])
    async with cluster(N1, N2, servers={"n2": server}, held_body_bytes_max=5) as nodes:
        client = nodes.ask(body=b"x" * (100 if is_large else 3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.testing.wait_all_tasks_blocked()
            client.gone.set()
        await server.ended[0].wait()
        assert nodes.router.get_active_connections(N2.name) == 0
        assert nodes.forwarder.statistics().held_bytes == 0
    assert client.answered.status == 0


async def test_a_client_that_hangs_up_waits_no_longer(autojump_clock: trio.testing.MockClock) -> None:
    async with cluster(N1, node("n2"), servers={}) as nodes:
        client = nodes.ask()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client)
            await trio.sleep(0.1)
            client.gone.set()
        assert trio.current_time() < 1.0
        assert nodes.forwarder.statistics().waiting == 0


async def test_a_cancelled_server_cancels_what_it_asked_for() -> None:
    server = Server([(hear(SQL), hear(b"never"))])
    async with cluster(reader("n1", refuses_queries="x"), reader("n3"), servers={"n3": server}) as nodes:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nodes.ask("/api/v1/query", SQL))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await server.ended[0].wait()


# ---- the loop guard


@pytest.mark.parametrize(
    ("mark", "status"),
    [("n7", 204), ("n7, n8", 508), ("n1", 508), ("n7,n1", 508), (",,,,,,", 508), ("x" * 5000, 204)],
)
async def test_a_request_passes_at_most_two_nodes_and_none_twice(mark: str, status: int) -> None:
    server = Server([STORES])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        got = await nodes.ask(headers=[("x-arc-forwarded-by", mark)])()
    assert got.status == status
    if status == 508:
        assert code_of(got) == "forward_loop"
        assert server.heard == []
    else:
        assert sent_headers(server)["x-arc-forwarded-by"] == [f"{mark}, n1"]


async def test_the_mark_gives_no_rights_and_is_no_reason_to_refuse_what_can_be_done_here() -> None:
    async with cluster(holder("n1"), servers={}) as nodes:
        marks = [("x-arc-forwarded-by", "n7, n8, n9")]
        assert (await nodes.ask(headers=marks)()).status == 204
        assert (await nodes.ask(headers=marks, token="wrong")()).status == 401


async def test_nodes_that_disagree_are_asked_again_until_they_agree(autojump_clock: trio.testing.MockClock) -> None:
    server = Server([refuses(508, "forward_loop"), STORES])
    async with cluster(N1, N2, servers={"n2": server}) as nodes:
        assert (await nodes.ask()()).status == 204


# ---- strong reads


@pytest.mark.parametrize("how", [("?consistency=strong", ()), ("", (("x-arc-consistency", "Strong"),))])
async def test_a_strong_query_goes_to_the_holder_and_waits_there_for_what_was_agreed_on(
    how: tuple[str, tuple[tuple[str, str], ...]],
) -> None:
    asked = 0

    async def read_index() -> int:
        nonlocal asked
        asked += 1
        return 11  # FakeNode has seen 10

    server = Server([ANSWERS])
    async with cluster(reader("n1"), N2, servers={"n2": server}) as nodes:
        nodes.world.replace(read_index=read_index)
        got = await nodes.ask(f"/api/v1/query{how[0]}", SQL, headers=how[1])()
        assert (got.one("x-arc-served-by"), asked) == ("n2", 0)
        nodes.see(holder("n1"), node("n2"))
        got = await nodes.ask(f"/api/v1/query{how[0]}", SQL, headers=how[1])()
        assert (got.status, code_of(got), asked) == (503, "not_seen_yet", 1)
        assert (await nodes.ask("/api/v1/query", SQL)()).status == 200
        assert (asked, nodes.world.node.strongly) == (1, 1)


async def test_a_holder_that_learns_that_it_is_none_any_more_answers_no_strong_query() -> None:
    async with cluster(holder("n1"), node("n2"), servers={}) as nodes:

        async def read_index() -> int:
            nodes.see(N1, N2)
            return 1

        nodes.world.replace(read_index=read_index)
        got = await nodes.ask("/api/v1/query?consistency=strong", SQL)()
    assert (got.status, code_of(got)) == (503, "not_holder")


async def test_a_consistency_that_is_not_known_is_refused() -> None:
    async with cluster(holder("n1"), servers={}) as nodes:
        got = await nodes.ask("/api/v1/query?consistency=all", SQL)()
    assert (got.status, code_of(got)) == (400, "invalid")


# ---- alone


async def test_a_node_alone_forwards_nothing_and_says_nothing_of_it() -> None:
    got = await Client(World(), "/write", LINES)()
    assert got.status == 204
    assert got.one("x-arc-served-by") is None
