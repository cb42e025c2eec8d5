"""`arc serve` and `arc demo` as processes: signals, exit codes, what is printed and what is not lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from arc.cli import demo
from arc.cli.configuring import parse_settings
from arc.cli.exits import Failure
from arc.cli.machine import Machine, escaped
from arc.ingest.lineprotocol import parse
from tests.cli.conftest import Run, document

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "0123456789abcdef0123456789abcdef"
Start = Callable[..., "Served"]


class Served:
    """A node in a process, its port chosen here; it may be asked to stop more than once."""

    def __init__(self, folder: Path, *arguments: str, token: str = TOKEN) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.errors = folder / "stderr"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARC_")}
        environment["PYTHONPATH"] = str(ROOT)
        if token:
            environment["ARC_AUTH_BOOTSTRAP_TOKEN"] = token
        with self.errors.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "arc", "serve", "--data-dir", "data", "--port", str(self.port), *arguments],
                cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
        )

    def wait_ready(self) -> Served:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.client.get("/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(self.said())

    def said(self) -> str:
        return self.errors.read_text("utf-8", "replace")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def clean(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Served] = []

    def go(*arguments: str, token: str = TOKEN) -> Served:
        started.append(Served(tmp_path, *arguments, token=token))
        return started[-1]

    yield go
    for served in started:
        served.clean()


def rows(served: Served) -> int:
    answer = served.client.post("/api/v1/query", json={"sql": "SELECT count(*) FROM demo.m"})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["data"][0][0])


def test_sigterm_ends_in_order_and_nothing_is_lost(start: Start, run: Run, tmp_path: Path) -> None:
    served = start("--log-format", "json").wait_ready()
    written = run("write", "-", "--db", "demo", "--endpoint", str(served.client.base_url), "--token", TOKEN,
                  input=b"".join(b"m v=%d %d\n" % (n, n) for n in range(500)))  # fmt: skip
    assert written.exit_code == 0, written.stderr
    assert served.end(signal.SIGTERM) == 0
    assert '"message": "stop_requested"' in served.said()
    assert '"message": "node_stopped"' in served.said().splitlines()[-1]
    assert list((tmp_path / "data").rglob("*.parquet")), "a stop in order leaves files"
    assert document(run("wal", "verify", "--data-dir", "data", "--json"))["success"] is True

    again = start().wait_ready()
    assert rows(again) == 500
    assert again.end(signal.SIGINT) == 0


def test_the_first_write_loads_no_pandas(start: Start) -> None:
    """Arrow imports it with its first array where it is installed: that held the loop of a new writer for seconds."""
    pytest.importorskip("pandas")
    node = start().wait_ready()
    answer = node.client.post("/api/v1/write/line-protocol?db=default", content=b"m,a=b v=1i 1779990000000000000")
    assert answer.status_code == 204, answer.text
    assert "pandas" not in Path(f"/proc/{node.process.pid}/maps").read_text()


def test_the_second_signal_ends_at_once_what_the_first_lets_finish(start: Start) -> None:
    """A request whose body never comes may hold an orderly stop for server.shutdown_seconds."""
    served = start().wait_ready()
    with socket.create_connection(("127.0.0.1", served.port)) as held:
        held.sendall(
            b"POST /api/v1/write/line-protocol HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Expect: 100-continue\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"
        )
        assert held.recv(100).startswith(b"HTTP/1.1 100"), "the handler waits for the body"
        served.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while served.process.poll() is None and time.monotonic() < deadline:
            if "node_stopping" in served.said():
                served.process.send_signal(signal.SIGTERM)
            time.sleep(0.02)
        assert served.process.poll() == -signal.SIGTERM
    assert "node_stopped" not in served.said()


def test_a_second_node_on_the_same_folder_is_refused_and_the_first_goes_on(start: Start, run: Run) -> None:
    served = start(token="").wait_ready()
    first = start()
    assert first.process.wait(60) == 2
    assert "in use by another arc process" in first.said()
    assert "First admin token" in served.said()
    assert served.said().count("export ARC_TOKEN=") == 1
    examined = document(run("doctor", "--set", f"server.port={served.port}", "--json"))
    node = next(one for one in examined["checks"] if one["name"] == "node")
    assert node["verdict"] == "ok"
    assert f"process {served.process.pid}" in node["finding"]


def test_a_wrong_setting_is_exit_code_2_and_nothing_is_made(start: Start, tmp_path: Path) -> None:
    served = start("--set", "wal.segment_byte=1")
    assert served.process.wait(60) == 2
    assert "wal.segment_bytes" in served.said()
    assert not (tmp_path / "data").exists()


def test_damage_is_exit_code_5_with_file_and_offset(start: Start, run: Run, tmp_path: Path) -> None:
    served = start().wait_ready()
    for n in range(3):
        run("write", "-", "--db", "demo", "--endpoint", str(served.client.base_url), "--token", TOKEN,
            input=b"m v=%d\n" % n)  # fmt: skip
    served.process.kill()
    served.process.wait(60)
    (log,) = (tmp_path / "data" / "wal").glob("*.log")
    with log.open("r+b") as file:
        file.seek(4096 + 100)
        file.write(b"\xff\xff\xff\xff")
    again = start()
    assert again.process.wait(60) == 5
    message = again.said()
    assert "error: wal/000000000001.log at offset 4096" in message
    assert "next: Keep a copy" in message.splitlines()[-1]
    assert "arc wal verify" in message
    assert "Traceback" not in message
    assert run("wal", "verify", "--data-dir", "data").exit_code == 5


def test_the_port_of_another_process_is_told_as_such(start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        served = start("--port", str(taken.getsockname()[1]))
        assert served.process.wait(60) == 2
    assert "the address is in use" in served.said()
    assert "Traceback" not in served.said()


def test_the_demo_loses_no_row_and_leaves_nothing_behind(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    found = run("demo", "--seconds", "1", "--json")
    assert found.exit_code == 0, found.stdout + found.stderr
    made = document(found)
    assert made["success"] is True
    assert made["before_kill"] == made["after_restart"]
    assert made["at_end"] == made["acknowledged"]
    assert made["acknowledged"]["cpu"] > 0
    assert all(one["data"] for one in made["queries"])
    assert list(tmp_path.glob("arc-demo-*")) == []


@pytest.mark.parametrize(
    ("acknowledged", "found", "gaps"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, {}),
        ({"a": 3}, {"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": 2}, {"a": -1}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_the_demo_sees_rows_that_are_missing_and_rows_that_came_twice(
    acknowledged: dict[str, int], found: dict[str, int], gaps: dict[str, int]
) -> None:
    assert demo.judge(acknowledged, found) == gaps


def test_the_metrics_of_this_machine_are_line_protocol() -> None:
    lines = Machine().lines(1_700_000_000_000_000_000)
    decoded = parse("\n".join(lines).encode(), now_us=0)
    assert decoded.refused == ()
    assert {batch.measurement for batch in decoded.batches} >= {"cpu", "memory", "load", "net"}
    assert escaped("a b,c=d\\") == "a\\ b\\,c\\=d"


def test_settings_are_section_dot_key() -> None:
    assert parse_settings(["a.b=c=d", "a.c="]) == {"a.b": "c=d", "a.c": ""}
    with pytest.raises(Failure, match=r"section\.key=value"):
        parse_settings(["nonsense"])
