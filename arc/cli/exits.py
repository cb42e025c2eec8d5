"""How a command ends: one exit code, and one message that says cause, effect and next step.

`explain` turns whatever was raised, also from inside of exception groups, into a `Failure`; commands raise `Failure`
themselves where they know better. Printing is `screen`'s work, and `main` does both in one place.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator

from arc.errors import ArcError, Conflict, Corrupt, DiskFailed, Forbidden, InvalidRequest, NotFound, Unavailable

OK = 0
ERROR = 1
USAGE = 2
DEGRADED = 3
UNREACHABLE = 4
CORRUPT = 5
DISK_FAILED = 6
INTERRUPTED = 130
"""What a shell reports for SIGINT."""

TABLE = (
    (OK, "done"),
    (ERROR, "it failed, or a part of it did (refused lines, a failed check)"),
    (USAGE, "wrong usage or configuration; nothing was done"),
    (DEGRADED, "it works, with warnings (doctor), or the cluster is degraded"),
    (UNREACHABLE, "the node cannot be reached, is not ready, or did not answer in time; the cluster is unavailable"),
    (CORRUPT, "stored data is damaged; nothing was changed"),
    (DISK_FAILED, "a disk write or sync failed; the node stopped"),
    (INTERRUPTED, "interrupted by Ctrl-C"),
)
"""Exit code → meaning; shown at the end of ``arc --help``."""


class Failure(Exception):
    """The end of a command. ``next_step`` is what the reader should do now; ``code`` is for programs."""

    def __init__(
        self, cause: str, *, effect: str = "", next_step: str = "", exit_code: int = ERROR, code: str = "failed"
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.effect = effect
        self.next_step = next_step
        self.exit_code = exit_code
        self.code = code

    def document(self) -> dict[str, object]:
        """The JSON form; the same keys whatever failed."""
        return {
            "success": False,
            "error": self.cause,
            "effect": self.effect,
            "next": self.next_step,
            "code": self.code,
            "exit": self.exit_code,
        }


def explain(error: BaseException) -> Failure:
    """The failure that decides among all that were raised; the causes of the others follow in its text."""
    found = [_one(leaf) for leaf in leaves(error)]
    assert found, error
    chosen = max(found, key=lambda failure: _WEIGHT.get(failure.exit_code, 1))
    others = {failure.cause for failure in found} - {chosen.cause}
    if others:
        chosen.cause += "".join(f"\nalso: {cause}" for cause in sorted(others))
    return chosen


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside of groups of groups; the error itself when it is none."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


_WEIGHT = {CORRUPT: 9, DISK_FAILED: 8, ERROR: 5, USAGE: 4, UNREACHABLE: 3, INTERRUPTED: 0}
"""Of several, the one that tells most about the data; an interrupt only when there is nothing else."""


def _one(error: BaseException) -> Failure:
    match error:
        case Failure():
            return error
        case Corrupt():
            return Failure(
                str(error),
                effect="Nothing was changed, and a node will not start on it: bytes that were promised are gone.",
                next_step=_REPAIR,
                exit_code=CORRUPT,
                code=error.code,
            )
        case DiskFailed():
            return Failure(
                error.message,
                effect="The node stopped, because what the disk kept of that write is unknown. Writes that were"
                " acknowledged before are safe.",
                next_step="Look at the disk (dmesg, SMART, space), then start again: the log tells what was kept.",
                exit_code=DISK_FAILED,
                code=error.code,
            )
        case Unavailable():
            return Failure(error.message, next_step="Try again.", exit_code=UNREACHABLE, code=error.code)
        case Forbidden() | NotFound() | Conflict():
            return Failure(error.message, code=error.code)
        case InvalidRequest():
            return Failure(error.message, effect="Nothing was done.", exit_code=USAGE, code=error.code)
        case ArcError():
            return Failure(error.message, code=error.code)
        case KeyboardInterrupt():
            return Failure("interrupted", exit_code=INTERRUPTED, code="interrupted")
        case OSError():
            return _system(error)
        case _:
            return _bug(error)


_REPAIR = (
    "Keep a copy of the data folder as it is. `arc wal verify --data-dir D` shows the place;"
    " restore from a replica or a backup."
)


def _system(error: OSError) -> Failure:
    where = f" ({error.filename})" if error.filename else ""
    cause = f"{error.strerror or error}{where}"
    match error.errno:
        case errno.EADDRINUSE:
            return Failure(
                "the address is in use by another process",
                effect="The node did not start.",
                next_step="Choose another --port, or find who has it: ss -ltnp",
                exit_code=USAGE,
                code="address_in_use",
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            step = "Give this user the right to it, or choose another place."
            return Failure(cause, next_step=step, exit_code=USAGE, code="permission")
        case errno.ENOENT | errno.ENOTDIR | errno.EISDIR | errno.EADDRNOTAVAIL:
            return Failure(cause, exit_code=USAGE, code="not_found")
        case errno.ENOSPC | errno.EDQUOT:
            return Failure(cause, next_step="Free some space.", exit_code=DISK_FAILED, code="disk_full")
        case errno.EIO:
            return Failure(
                cause, next_step="Look at the disk (dmesg, SMART).", exit_code=DISK_FAILED, code="disk_failed"
            )
        case _:
            return Failure(cause, code="system")


def _bug(error: BaseException) -> Failure:
    text = "".join(traceback.format_exception(error))
    return Failure(
        f"{text}{type(error).__name__}: {error}",
        effect="This is a mistake in Arc, not in what you did.",
        next_step="Please report it with the text above.",
        code="internal",
    )
