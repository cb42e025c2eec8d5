"""What a connection does besides carrying requests: seen on a bare socket, since clients hide it."""

from __future__ import annotations

import socket

import pytest

from tests.e2e.harness import Server


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """One whole answer with a length: its status and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        got = connection.recv(65536)
        assert got, f"closed after {data!r}"
        data += got
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    "path", ["/api/v1/query", "/api/v1/query/estimate", "/api/v1/databases", "/write", "/api/v1/nothing", "/health"]
)
def test_a_refusal_before_the_body_is_here_keeps_the_connection(node: Server, path: str) -> None:
    """Many clients send head and body apart; a connection closed without a word would lose their next request."""
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n".encode())
            status, _ = read_answer(connection)
            assert 400 <= status < 500
            connection.sendall(b"too late!")


@pytest.mark.parametrize(
    "sql", ["SHOW TABLES", "SHOW DATABASES", "DESCRIBE e", "EXPLAIN SELECT 1", "SELECT 1 WHERE 1=2"]
)
def test_the_estimate_of_any_statement_is_a_number(node: Server, sql: str) -> None:
    """Found by tests/fuzz: SHOW TABLES was answered with 500."""
    node.write("e v=1")
    answer = node.http.post("/api/v1/query/estimate", json={"sql": sql})
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 200:
        assert isinstance(answer.json()["estimated_rows"], int), answer.text
