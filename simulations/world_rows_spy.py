"""Looks into the write path of running nodes: what reaches the logs of rows, how far a holder counts, what it confirms
and what it shows.

As `world_spy` does for what is agreed on: a few methods are wrapped while the block lasts, nothing is changed and
nothing is delayed. The methods are named here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Protocol

from arc.ingest.intake import Intake
from arc.ingest.visibility import Visibility
from arc.journal import Journal
from arc.replication.watermark import Watermark
from arc.storage.wal.keys import FOLDER
from simulations.checkers.violation import Violation
from simulations.world_spy import wrapped


class RowsWatch(Protocol):
    """Who is told. ``who`` is the process, by `clock.Group.name`."""

    def log_opened(self, who: str, first: int, end: int) -> None:
        """A log of rows was opened: it holds the records from ``first`` up to, and without, ``end``."""
        ...

    def log_appending(self, who: str, first: int, records: Sequence[bytes]) -> None:
        """Records go to the disk."""
        ...

    def log_appended(self, who: str, end: int) -> None:
        """They are there."""
        ...

    def log_changing(self, who: str, first: int) -> None:
        """Records from ``first`` on are being taken back."""
        ...

    def log_changed(self, who: str, first: int, end: int) -> None:
        """The log holds these now: records were taken back, or given up."""
        ...

    def counted(self, who: str, high: int) -> None:
        """The holder takes records up to ``high`` for durable on the whole in-sync set."""
        ...

    def shown(self, who: str, through: int) -> None:
        """Queries on this node see records up to ``through`` from now on."""
        ...

    def acknowledged(self, who: str, epoch: int, sequence: int) -> None:
        """A reign confirmed a write, which is this record."""
        ...


class ConfirmWatch(Protocol):
    """Who is told of confirmed writes only."""

    def acknowledged(self, who: str, epoch: int, sequence: int) -> None:
        """See `RowsWatch.acknowledged`."""
        ...


@contextmanager
def watching_rows(
    watch: RowsWatch, who: Callable[[], str], *also: ConfirmWatch, fail: Callable[[Violation], None]
) -> Iterator[None]:
    """Tell ``watch``, and of confirmed writes ``also`` these, until the block ends; ``who`` names the process of the
    current task. ``fail`` is told what is wrong: raised, it would be an error of the request that is under way.
    """
    owners: dict[Journal, str] = {}
    with ExitStack() as stack:
        stack.enter_context(wrapped(Journal, "open", _opening(watch, who, owners), is_class_method=True))
        stack.enter_context(wrapped(Journal, "append", _appending(watch, owners)))
        for name in ("cut", "restart"):
            stack.enter_context(wrapped(Journal, name, _changing(watch, owners)))
        stack.enter_context(wrapped(Journal, "release", _releasing(watch, owners)))
        stack.enter_context(wrapped(Watermark, "_advance", _advancing(watch, who, fail)))
        stack.enter_context(wrapped(Visibility, "show", _showing(watch, who, fail)))
        stack.enter_context(wrapped(Intake, "write", _writing((watch, *also), who, fail)))
        yield


Method = Callable[..., Any]


def _opening(watch: RowsWatch, who: Callable[[], str], owners: dict[Journal, str]) -> Callable[[Method], Method]:
    """Whose log it is was seen when it was opened: what a dying process writes, it writes in nobody's task."""

    def wrap(method: Method) -> Method:
        @wraps(method)
        def wrapper(cls: type[Journal], disk: Any, folder: str, **named: Any) -> Journal:
            journal: Journal = method(cls, disk, folder, **named)
            if folder == FOLDER:
                owners[journal] = who()
                watch.log_opened(owners[journal], journal.first_index, journal.next_index)
            return journal

        return wrapper

    return wrap


def _appending(watch: RowsWatch, owners: dict[Journal, str]) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        def wrapper(self: Journal, payloads: Sequence[Any], first_index: int) -> None:
            owner = owners.get(self)
            if owner is not None:
                watch.log_appending(owner, first_index, [bytes(each) for each in payloads])
            method(self, payloads, first_index)
            if owner is not None:
                watch.log_appended(owner, self.next_index)

        return wrapper

    return wrap


def _changing(watch: RowsWatch, owners: dict[Journal, str]) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        def wrapper(self: Journal, index: int, *args: Any) -> None:
            owner = owners.get(self)
            if owner is not None:
                watch.log_changing(owner, index if method.__name__ == "cut" else 0)
            method(self, index, *args)
            if owner is not None:
                watch.log_changed(owner, self.first_index, self.next_index)

        return wrapper

    return wrap


def _releasing(watch: RowsWatch, owners: dict[Journal, str]) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        def wrapper(self: Journal, below_index: int) -> int:
            released: int = method(self, below_index)
            if self in owners:
                watch.log_changed(owners[self], self.first_index, self.next_index)
            return released

        return wrapper

    return wrap


def _advancing(
    watch: RowsWatch, who: Callable[[], str], fail: Callable[[Violation], None]
) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        def wrapper(self: Watermark) -> bool:
            has_moved: bool = method(self)
            if has_moved:
                try:
                    watch.counted(who(), self.high)
                except Violation as violation:
                    fail(violation)
            return has_moved

        return wrapper

    return wrap


def _showing(watch: RowsWatch, who: Callable[[], str], fail: Callable[[Violation], None]) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        def wrapper(self: Visibility, through: int) -> None:
            before = self.through
            method(self, through)
            if self.through > before:
                try:
                    watch.shown(who(), self.through)
                except Violation as violation:
                    fail(violation)

        return wrapper

    return wrap


def _writing(
    watches: Sequence[ConfirmWatch], who: Callable[[], str], fail: Callable[[Violation], None]
) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        async def wrapper(self: Intake, request: Any) -> Any:
            written = await method(self, request)
            if written.rows:
                try:
                    for watch in watches:
                        watch.acknowledged(who(), self._epoch, written.position.sequence)
                except Violation as violation:
                    fail(violation)
            return written

        return wrapper

    return wrap
