"""Every recorded request of the clients that cannot be installed here, against a real node, in the table's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from tests.e2e.conftest import MakeServer
from tests.e2e.harness import Server
from tests.e2e.recorded import ROWS, Recorded

pytestmark = pytest.mark.clients


def send(url: str, row: Recorded) -> httpx.Response:
    """One request on a connection of its own, with nothing added to its headers but what HTTP needs."""

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(row.body), 1000):
            yield row.body[start : start + 1000]

    content = chunks() if row.is_chunked else row.body or None
    with httpx.Client(timeout=30) as http:
        http.headers.clear()
        return http.request(row.method, url + row.path, headers=dict(row.headers), content=content)


def problem_of(url: str, row: Recorded) -> str | None:
    """What its sender would complain about."""
    answer = send(url, row)
    if answer.status_code != row.status:
        return f"{row.sender}, {row.name}: {answer.status_code} instead of {row.status}: {answer.text[:300]}"
    try:
        row.check(answer)
    except (AssertionError, KeyError, ValueError, IndexError) as problem:
        return f"{row.sender}, {row.name}: {type(problem).__name__} {problem}"
    return None


def test_every_recorded_request_gets_what_its_sender_needs(make_server: MakeServer) -> None:
    """One node, one pass, all complaints at once."""
    server: Server = make_server()
    server.start()
    problems = [problem for row in ROWS if (problem := problem_of(server.url, row)) is not None]
    assert not problems, "\n".join(problems)


def test_a_204_has_no_body_and_no_content_type(node: Server) -> None:
    """Strict clients trip over a type without a body."""
    answer = node.write("plain v=1")
    assert answer.content == b"" and "content-type" not in answer.headers, answer.headers


def test_the_table_can_fail(node: Server) -> None:
    """A row whose expectation is wrong is reported, so a green table means something."""
    row = next(row for row in ROWS if row.path == "/health")
    assert problem_of(node.url, row) is None
    assert problem_of(node.url, replace(row, status=201)) is not None
