"""A node that answers what a test tells it to, over real HTTP, and remembers what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    status: int = 200
    document: object = None
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False  # close the connection in the middle of the body

    @property
    def payload(self) -> bytes:
        if self.body is not None:
            return self.body
        return b"" if self.document is None else json.dumps(self.document).encode()


def table(columns: list[str], *rows: list[object]) -> Answer:
    return Answer(
        document={
            "columns": columns,
            "data": list(rows),
            "row_count": len(rows),
            "execution_time_ms": 3,
            "timestamp": "2026-01-01T00:00:00Z",
            "success": True,
        }
    )


def refusal(status: int, text: str, code: str, **more: object) -> Answer:
    return Answer(status=status, document={"success": False, "error": text, "message": text, "code": code, **more})


@dataclass
class FakeNode:
    endpoint: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Asked], Answer] = lambda asked: Answer(status=204)

    def script(self, *answers: Answer) -> None:
        """Give these one after another; the last one for ever."""
        left = list(answers)
        self.answer = lambda asked: left.pop(0) if len(left) > 1 else left[0]

    def by_sql(self, answers: dict[str, Answer]) -> None:
        def choose(asked: Asked) -> Answer:
            sql = json.loads(asked.body)["sql"]
            return answers.get(sql, refusal(400, f"unexpected: {sql}", "invalid"))

        self.answer = choose


@contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[FakeNode]:
    node = FakeNode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            asked = Asked(
                method=self.command,
                path=urlsplit(self.path).path,
                query=dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self._body(),
            )
            node.asked.append(asked)
            answer = node.answer(asked)
            payload = answer.payload
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("content-length", str(len(payload) + (100 if answer.cut else 0)))
            self.end_headers()
            self.wfile.write(payload)
            if answer.cut:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # http.server's names

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("content-length", 0)))

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    node.endpoint = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    try:
        yield node
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
