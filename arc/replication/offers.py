"""Files that this node made and the manifest does not have yet, put on the disks of others before it has.

What replaces files must be where they were before they go: on every node that answers queries, so that none of them has
to refuse one, and on as many disks as any file. So whoever made it *offers* it: he tells each node that should have it
(`replication.placement`), which fetches it as it fetches any file (`replication.taking`), and is asked again until it
says that it has all. Only then the catalog is asked. A node that cannot be reached is not waited for; it brings the
file when it is back, from the manifest, like any other.

An offer is no promise. A node that took a file lets go of it when nobody has asked for it for a while, so whoever
still needs it there says so again (`Spreading.spread` is repeated before a repeated swap).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import cbor2
import trio

from arc.catalog.codec import file_to_row, row_to_file
from arc.catalog.facts import Catalog
from arc.errors import ArcError, InvalidRequest, Unavailable
from arc.ids import NodeId
from arc.ports import Clock
from arc.replication.awaiting import patience_seconds
from arc.replication.fetch import Ask
from arc.replication.placement import Placement
from arc.storage.files import FileEntry
from arc.telemetry import Log

KIND = "take"
"""Of the question between nodes."""

OFFER_FILES_MAX = 64
"""Named by one question."""

ANSWER_SECONDS = 5.0
"""A node that has not all yet says what it has after so long, and is asked again."""

AGAIN_SECONDS = 1.0
"""Pause after a node that did not answer."""


class Offers:
    """What is offered now, by path."""

    def __init__(self) -> None:
        self._entries: dict[str, FileEntry] = {}

    def __repr__(self) -> str:
        return f"<Offers {len(self._entries)}>"

    def get(self, path: str) -> FileEntry | None:
        """The file of this path, if it is offered."""
        return self._entries.get(path)

    @contextmanager
    def open(self, entries: Sequence[FileEntry]) -> Iterator[None]:
        """Whoever asks for these files gets them, within the block."""
        self._entries.update((entry.path, entry) for entry in entries)
        try:
            yield
        finally:
            for entry in entries:
                self._entries.pop(entry.path, None)


def pack(entries: Sequence[FileEntry]) -> bytes:
    """The question for at most `OFFER_FILES_MAX` files."""
    assert len(entries) <= OFFER_FILES_MAX
    data: bytes = cbor2.dumps([file_to_row(entry) for entry in entries])
    return data


def unpack(question: bytes) -> list[FileEntry]:
    """The other way round. Raises InvalidRequest."""
    try:
        rows = cbor2.loads(question)
        if not isinstance(rows, list) or len(rows) > OFFER_FILES_MAX:
            raise ValueError(f"not a list of at most {OFFER_FILES_MAX}")
        entries = [row_to_file(row) for row in rows]
        if not all(isinstance(each.path, str) and type(each.size_bytes) is int for each in entries):
            raise ValueError("wrong types")
        return entries
    except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
        raise InvalidRequest(f"not an offer of files: {error}") from error


def needed(targets: Collection[str], factor: int, *, has_store: bool) -> int:
    """How many of the nodes that should have a file must have it before it may stand for others. With a store that all
    nodes share it is there already, and no node has to.
    """
    return 0 if has_store else min(factor, len(targets))


class Spreading:
    """``reachable`` are the nodes that this one has a session with; ``ask`` is None on a node alone."""

    def __init__(
        self,
        *,
        me: NodeId,
        offers: Offers,
        catalog: Callable[[], Catalog],
        reachable: Callable[[], Sequence[str]],
        ask: Ask | None,
        factor: int,
        has_store: bool,
        clock: Clock,
        log: Log,
    ) -> None:
        self._me, self._offers, self._catalog, self._reachable = me, offers, catalog, reachable
        self._ask, self._factor, self._has_store, self._clock = ask, factor, has_store, clock
        self._log = log.bind(component="spreading")

    def __repr__(self) -> str:
        return f"<Spreading by {self._me} {self._offers!r}>"

    async def spread(self, entries: Sequence[FileEntry]) -> tuple[NodeId, ...]:
        """Return, sorted, which nodes have all of these files on their disks, this one included: every node that should
        and can be reached, and enough of them; one that takes too long is left behind. The files lie in their place on
        this disk. Raises Unavailable.
        """
        if self._ask is None or not entries:
            return (self._me,)
        catalog = self._catalog()
        targets = Placement(catalog.nodes, self._factor).targets(entries[0])
        reachable = set(self._reachable())
        others = [name for name in targets if name != self._me and name in reachable]
        have: set[NodeId] = {self._me}
        reasons: dict[str, str] = {}
        with self._offers.open(entries), trio.move_on_after(patience_seconds(entries)):
            async with trio.open_nursery() as nursery:
                for name in others:
                    nursery.start_soon(self._bring_to, name, entries, have, reasons)
        least = needed(targets, self._factor, has_store=self._has_store)
        copies = len(have.intersection(targets))
        if copies < least:
            told = "; ".join(f"{name}: {why}" for name, why in sorted(reasons.items()) if name not in have)
            raise Unavailable(
                f"{copies} of the nodes that should have the files do, {least} must ({told or 'no others'})"
            )
        if behind := [name for name in others if name not in have]:
            self._log.warning(
                "files_not_everywhere",
                nodes=", ".join(behind),
                files=len(entries),
                reason="; ".join(reasons.get(name, "it took too long") for name in behind),
                effect="queries that need them are answered by others until these nodes have them",
            )
        return tuple(sorted(have))

    async def _bring_to(
        self, name: str, entries: Sequence[FileEntry], have: set[NodeId], reasons: dict[str, str]
    ) -> None:
        """Until the node has all, or cannot be reached any more."""
        assert self._ask is not None
        for start in range(0, len(entries), OFFER_FILES_MAX):
            some = entries[start : start + OFFER_FILES_MAX]
            wanted, question = {entry.path for entry in some}, pack(some)
            while wanted:
                try:
                    answer = await self._ask(name, KIND, question, timeout_seconds=2 * ANSWER_SECONDS)
                    wanted -= _paths(answer)
                except ArcError as error:
                    reasons[name] = error.message
                    if name not in self._reachable():
                        return
                    await trio.sleep(AGAIN_SECONDS)
        have.add(NodeId(name))


def _paths(answer: bytes) -> set[str]:
    """Which files a node says it has. Raises Unavailable."""
    try:
        return {str(path) for path in cbor2.loads(answer)}
    except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
        raise Unavailable(f"no answer to an offer: {error}") from error
