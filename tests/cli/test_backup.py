"""How ``arc backup`` ends: what became of an operation, as text, as JSON and as an exit code."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from arc.cli.backup import _tell
from arc.cli.exits import CORRUPT, DISK_FAILED, ERROR, UNREACHABLE, USAGE, Failure
from arc.cli.screen import Screen

GOOD: dict[str, Any] = {
    "operation": "backup", "backup_id": "b", "status": "completed", "phase": "over", "total_files": 3,
    "processed_files": 3, "reused_files": 1, "skipped_files": 0, "total_bytes": 2048, "processed_bytes": 2048,
    "reused_bytes": 5, "rows": 1000, "error": None, "code": None, "damaged_files": 0, "damaged": [],
}  # fmt: skip


def told(found: dict[str, Any], *, is_json: bool = False) -> str:
    out = io.StringIO()
    _tell(Screen(out=out, err=io.StringIO(), json=is_json), found)
    return out.getvalue()


def test_what_was_done_is_told_in_a_line_or_a_document() -> None:
    assert told(GOOD) == "backup b completed: 3 of 3 files (1 were there), 2.0 KiB, 1,000 rows\n"
    assert json.loads(told(GOOD, is_json=True)) == GOOD
    assert told({"status": "idle", "place": "x"}) == "idle\n"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("corrupt", CORRUPT),
        ("disk", DISK_FAILED),
        ("unavailable", UNREACHABLE),
        ("no_space", USAGE),
        ("exists", USAGE),
        ("not_found", ERROR),
        ("internal", ERROR),
    ],
)
def test_what_failed_has_an_exit_code_and_a_next_step(code: str, exit_code: int) -> None:
    with pytest.raises(Failure, match="because") as caught:
        told({**GOOD, "status": "failed", "error": "because", "code": code})
    assert caught.value.exit_code == exit_code
    assert caught.value.code == code and caught.value.next_step


def test_damaged_files_are_named_and_never_pass_for_done() -> None:
    damage = {"damaged": ["plant/cpu/x.parquet"], "damaged_files": 1}
    for status, code in (("failed", "corrupt"), ("incomplete", None)):
        with pytest.raises(Failure, match="plant/cpu/x") as caught:
            told({**GOOD, **damage, "status": status, "code": code, "error": "because"})
        assert caught.value.exit_code == CORRUPT
