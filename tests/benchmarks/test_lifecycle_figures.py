"""Benchmarks of the life of data: what is measured really happens, and rows read as their targets do."""

from __future__ import annotations

import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import lifecycle, lifecycle_catalog, lifecycle_delete
from benchmarks.__main__ import BENCHMARKS
from benchmarks.measure import Run


def test_a_hundredth_is_deleted_by_both_and_the_rest_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle_delete, "FILES", 2)
    monkeypatch.setattr(lifecycle_delete, "FILE_ROWS", 1_000)
    found = lifecycle_delete.measure(1, tmp_path)
    assert {name: len(values) for name, values in found.items()} == {
        "ours": 1, "theirs": 1, "our_bytes": 2, "their_bytes": 2,
    }  # fmt: skip
    assert list(tmp_path.rglob("*.parquet")) and not list(tmp_path.glob("theirs*")), "sources stay, outputs go"


def test_the_catalog_gets_every_file_and_is_written_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FILES", 4_000), ("BATCH_FILES", 500), ("DAYS", 20), ("NEW_FILES", 200)):
        monkeypatch.setattr(lifecycle_catalog, name, value)
    found = lifecycle_catalog.measure(1)
    assert [len(found[name]) for name in ("today", "scattered", "pruned", "step")] == [10, 10, 10, 1]
    assert found["chunks"][0] > (4_000 + 20 * 200) / 1_000


def test_each_row_has_the_target_of_its_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = {
        "ours": [1.0], "theirs": [1.0], "our_bytes": [1.0], "their_bytes": [1.0], "today": [5.0], "scattered": [25.0],
        "pruned": [1.0], "step": [60.0], "chunks": [9.0], "snapshot": [1.0], "files": [3.0],
    }  # fmt: skip
    monkeypatch.setattr(lifecycle, "_child", lambda *_: told)
    run = Run(folder=tmp_path, repetitions=1, seconds=1, server_cpu=0, client_cpu=0)
    rows = [*lifecycle.delete(run), *lifecycle.catalog(run)]
    assert [(row.target, row.verdict) for row in rows] == [
        ("≤ 1.3×", "pass"), ("≤ 20 ms", "pass"), ("≤ 20 ms", "miss"), ("≤ 10 ms", "pass"), ("≤ 50 ms", "miss"),
    ]  # fmt: skip


class Answers(BaseHTTPRequestHandler):
    """Two acknowledgements, then a refusal."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(204 if len(self.bodies) < 3 else 503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_refused_write_is_no_fast_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "bodies", [], raising=False)
    with socketserver.TCPServer(("127.0.0.1", 0), Answers) as listener:
        threading.Thread(target=listener.serve_forever, args=(0.01,), daemon=True).start()
        server = SimpleNamespace(port=listener.server_address[1], auth="Bearer secret")
        with pytest.raises(RuntimeError, match="503"):
            lifecycle.pace(server, lambda _: False)  # type: ignore[arg-type]
        listener.shutdown()
    assert len(Answers.bodies) == 3 and Answers.bodies[0].count(b"\n") == lifecycle.WRITE_LINES - 1


@pytest.mark.parametrize(("percent", "value"), [(50, 51.0), (99, 100.0)])
def test_percentiles_count_from_the_fastest(percent: int, value: float) -> None:
    assert lifecycle.percentile([float(n) for n in range(100, 0, -1)], percent) == value


def test_the_names_in_a_module_s_first_lines_are_those_that_can_be_asked_for() -> None:
    assert lifecycle.__doc__ is not None
    names = lifecycle.__doc__.partition("--only ")[2].strip("`\n").split()
    assert names == ["delete", "catalog", "while-compacting"] and set(names) <= BENCHMARKS.keys()
