"""The command line as a whole: help, usage errors, failures, versions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from arc.cli.main import ORDER
from tests.cli.conftest import Run, document

ROOT = Path(__file__).resolve().parents[2]


def arc(*arguments: str, input: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ARC_")}
    command = [sys.executable, "-m", "arc", *arguments]
    return subprocess.run(command, capture_output=True, cwd=ROOT, env=environment, input=input, timeout=60, check=False)


def test_help_names_every_command_and_every_exit_code(run: Run) -> None:
    found = run("--help")
    assert found.exit_code == 0
    for name in ("serve", "demo", "write", "import", "query", "sql", "doctor", "wal", "version"):
        assert f"\n  {name} " in found.stdout
    assert "5 stored data is damaged" in " ".join(found.stdout.split())


def test_help_imports_no_engine() -> None:
    """What keeps `arc --help` immediate; the time itself is the machine's."""
    script = (
        "import sys; sys.argv = ['arc', '--help']; from arc.cli.main import main; main();"
        "print([n for n in ('pyarrow', 'duckdb', 'quart', 'trio', 'httpx', 'numba', 'numpy') if n in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, cwd=ROOT, timeout=60, check=True, text=True
    )
    assert found.stdout.rstrip().endswith("[]"), found.stdout


def test_a_wrong_option_is_a_usage_error(run: Run) -> None:
    assert run("query", "--nonsense").exit_code == 2
    assert run("write", "--precision", "fortnights").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_nothing_listens_is_exit_code_4_with_the_next_step(run: Run) -> None:
    found = run("query", "SELECT 1", "--endpoint", "http://127.0.0.1:1")
    assert found.exit_code == 4
    assert "cannot reach a node at http://127.0.0.1:1: Connection refused" in found.stderr
    assert "arc serve" in found.stderr
    assert found.stdout == ""


def test_a_failure_with_json_is_one_document_on_stdout(run: Run) -> None:
    found = run("query", "SELECT 1", "--endpoint", "http://127.0.0.1:1", "--json")
    assert found.exit_code == 4
    assert document(found)["code"] == "unreachable"
    assert set(document(found)) == {"success", "error", "effect", "next", "code", "exit"}


def test_an_address_that_is_none_is_a_usage_error(run: Run) -> None:
    for endpoint in ("ftp://x", "http://[", "http://"):
        found = run("query", "SELECT 1", "--endpoint", endpoint)
        assert found.exit_code == 2, endpoint
        assert "is not the address of a node" in found.stderr


def test_version_lists_what_decides(run: Run) -> None:
    found = document(run("version", "--json"))
    assert set(found) == {"arc", "python", "trio", "pyarrow", "duckdb", "numba"}
    assert found["python"].startswith("3.")
    assert "duckdb" in run("version").stdout


def test_the_module_runs_and_its_exit_code_reaches_the_shell() -> None:
    assert arc("version").returncode == 0
    found = arc("wal", "inspect", "--data-dir", "/nowhere")
    assert found.returncode == 2
    assert b"no such folder: /nowhere" in found.stderr


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    command = f"{sys.executable} -m arc version | true"
    found = subprocess.run(command, shell=True, capture_output=True, cwd=ROOT, timeout=60, check=False)
    assert b"Traceback" not in found.stderr


def test_the_page_about_the_command_line_names_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
    assert [name for name in ORDER if f"| `arc {name}" not in page] == []
