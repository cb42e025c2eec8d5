"""What a doctor says of any machine, and that he can look at this one."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest

from arc.cli import checks
from arc.cli.checks import EARLIEST, judge_clock, judge_contradictions, judge_files, judge_space, judge_sync
from arc.config import Config, load
from tests.cli.conftest import Run, document

GIB = 1 << 30


def config(**flags: object) -> Config:
    return load(environment={}, flags={name.replace("__", "."): value for name, value in flags.items()}).config


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling kernels takes longer than all the rest, and is another test's."""
    monkeypatch.setattr(checks, "check_kernels", lambda: checks.ok("kernels", "not looked at"))


@pytest.mark.parametrize(
    ("flags", "memory", "words"),
    [
        ({}, 16 * GIB, []),
        ({"auth__enabled": False}, 16 * GIB, []),
        ({"auth__enabled": False, "server__host": "0.0.0.0"}, 16 * GIB, ["auth.enabled = false"]),
        ({"server__host": "0.0.0.0"}, 16 * GIB, ["without TLS"]),
        ({"wal__max_bytes": "128MiB"}, 16 * GIB, ["less than four segments"]),
        ({"ingest__memory_bytes": "100MiB"}, 16 * GIB, ["less than two full buffers"]),
        ({}, 1 * GIB, ["may take 1.5 GiB of 1.0 GiB memory"]),
    ],
)
def test_settings_that_contradict_each_other(flags: dict[str, object], memory: int, words: list[str]) -> None:
    found = list(judge_contradictions(config(**flags), memory_bytes=memory))
    assert len(found) == len(words)
    for check, word in zip(found, words, strict=True):
        assert word in check.finding
        assert check.verdict == "warn"
        assert check.next_step


@pytest.mark.parametrize(
    ("milliseconds", "direct", "filesystem", "verdicts"),
    [
        ([1.0] * 50, True, "ext4", ["ok", "ok"]),
        ([25.0] * 50, True, "ext4", ["warn", "ok"]),
        ([0.001] * 50, True, "ext4", ["warn", "ok"]),
        ([1.0] * 50, False, "tmpfs", ["warn", "warn"]),
    ],
)
def test_durable_writes(milliseconds: list[float], direct: bool, filesystem: str, verdicts: list[str]) -> None:
    assert [one.verdict for one in judge_sync(milliseconds, direct=direct, filesystem=filesystem)] == verdicts


@pytest.mark.parametrize(("free", "verdict"), [(100 * GIB, "ok"), (GIB, "warn"), (1 << 20, "fail")])
def test_space(free: int, verdict: str) -> None:
    assert judge_space(free, config()).verdict == verdict


@pytest.mark.parametrize(("hard", "verdict"), [(resource.RLIM_INFINITY, "ok"), (65535, "ok"), (1024, "warn")])
def test_open_files(hard: int, verdict: str) -> None:
    assert judge_files(hard, config()).verdict == verdict


@pytest.mark.parametrize(
    ("now", "newest", "verdict"),
    [(EARLIEST + 1e6, None, "ok"), (EARLIEST + 1e6, EARLIEST, "ok"), (1000.0, None, "fail"),
     (EARLIEST + 1e6, EARLIEST + 2e6, "warn")],
)  # fmt: skip
def test_clock(now: float, newest: float | None, verdict: str) -> None:
    assert judge_clock(now, newest).verdict == verdict


def checks_of(found: dict[str, object]) -> dict[str, dict[str, str]]:
    listed = found["checks"]
    assert isinstance(listed, list)
    return {one["name"]: one for one in listed}


def test_this_machine_can_be_examined_and_is_left_as_it_was(run: Run, tmp_path: Path) -> None:
    found = run("doctor", "--data-dir", "fresh", "--set", "server.port=0", "--settings", "--json")
    made = document(found)
    assert found.exit_code in (0, 3), found.stdout
    assert made["verdict"] in ("ok", "warn")
    wanted = {"configuration", "tls", "data folder", "disk space", "disk sync", "direct writes", "clock", "open files"}
    assert wanted | {"versions", "kernels", "node", "port"} <= set(checks_of(made))
    rows = {(row["section"], row["key"]): row for row in made["settings"]}
    assert rows["server", "port"]["value"] == "0"
    assert rows["server", "port"]["source"] == "flag server.port"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_variable_and_a_wrong_file_fail_and_the_rest_is_still_looked_at(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARC_SERVER_PROT", "9000")
    Path("arc.toml").write_text("[sever]\nport = 1\n")
    found = run("doctor", "--json")
    assert found.exit_code == 1
    named = checks_of(document(found))
    assert named["configuration"]["verdict"] == "fail"
    assert "ARC_SERVER_PORT" in named["configuration"]["finding"]
    assert "did you mean [server]" in named["configuration"]["finding"]
    assert "disk sync" in named


def test_a_port_that_is_taken_fails(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = run("doctor", "--set", f"server.port={port}")
    assert found.exit_code == 1
    assert f"127.0.0.1:{port}: Address already in use" in found.stdout
    assert "→ Choose another server.port" in found.stdout or "→ Choose another --port" in found.stdout


def test_a_certificate_that_cannot_be_used_fails(run: Run) -> None:
    Path("key.pem").write_text("not a key")
    Path("cert.pem").write_text("not a certificate")
    tls = ("--set", "server.tls_cert_file=cert.pem", "--set", "server.tls_key_file=key.pem", "--set", "server.port=0")
    found = run("doctor", *tls, "--json")
    assert checks_of(document(found))["tls"]["verdict"] == "fail"
    assert found.exit_code == 1
