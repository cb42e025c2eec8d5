"""Whatever is raised ends in one message and one documented exit code."""

from __future__ import annotations

import errno

import pytest

from arc.cli import exits
from arc.cli.exits import Failure, explain
from arc.errors import Conflict, Corrupt, DiskFailed, Forbidden, InvalidRequest, TimedOut, Unavailable

CORRUPT = Corrupt("record 7 does not match its checksum", path="wal/1.log", offset=8192)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure("x", exit_code=3), exits.DEGRADED),
        (InvalidRequest("bad setting"), exits.USAGE),
        (Unavailable("later"), exits.UNREACHABLE),
        (TimedOut("late"), exits.UNREACHABLE),
        (Conflict("exists"), exits.ERROR),
        (Forbidden("no"), exits.ERROR),
        (CORRUPT, exits.CORRUPT),
        (DiskFailed("write failed"), exits.DISK_FAILED),
        (OSError(errno.EADDRINUSE, "in use"), exits.USAGE),
        (OSError(errno.EACCES, "denied", "/x"), exits.USAGE),
        (OSError(errno.ENOSPC, "full"), exits.DISK_FAILED),
        (OSError(errno.EIO, "io"), exits.DISK_FAILED),
        (KeyboardInterrupt(), exits.INTERRUPTED),
        (AssertionError("broken rule"), exits.ERROR),
        (ExceptionGroup("g", [ExceptionGroup("h", [CORRUPT])]), exits.CORRUPT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert explain(error).exit_code == code


def test_damage_decides_over_everything_else_in_a_group_and_the_rest_is_told_too() -> None:
    found = explain(ExceptionGroup("g", [OSError(errno.EADDRINUSE, "in use"), CORRUPT, DiskFailed("write failed")]))
    assert found.exit_code == exits.CORRUPT
    assert "wal/1.log at offset 8192" in found.cause
    assert "also: write failed" in found.cause


def test_a_bug_shows_its_traceback_and_says_that_it_is_ours() -> None:
    try:
        raise AssertionError("broken rule")
    except AssertionError as error:
        found = explain(error)
    assert "test_exits.py" in found.cause
    assert "mistake in Arc" in found.effect


def test_damage_says_what_to_do_next() -> None:
    assert "arc wal verify" in explain(CORRUPT).next_step


def test_every_exit_code_is_documented_once() -> None:
    codes = [code for code, _ in exits.TABLE]
    assert sorted(codes) == sorted(set(codes)) == [0, 1, 2, 3, 4, 5, 6, 130]
