"""Bits that flip on a disk, in a Parquet file that lies there: which copies are bad now, and whether they are found.

A bad copy is one of several: a whole one is on a disk that stays (or in the store), or the row would be lost whatever
anybody did. Until the node has read the file again and set it aside, what it answers from it may be wrong, so answers
of that node are not judged while it has a bad copy; those of all others are. What is judged: the copy is found and
replaced within a bounded time (W-20), and nothing comes of it, by a fetch, a merge or a delete: every other file on
every disk is what the manifest says (W-21), and says what was written (W-01 to W-05).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import trio

from arc.catalog.facts import Catalog
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from simulations.chance import Stream
from simulations.checkers.violation import Violation
from simulations.world_machine import Machine

KEEPS_ALL = ("standalone", "reader")
"""Roles that have every file and never give one up."""


ROT_SECONDS = 180.0
"""When nobody writes any more, a copy that rotted is found within this (W-20), and what reading all files takes."""

READ_STEPS = 500
"""Reading a file takes no more than five times as long as anything that a worker does, and rests a hundred times that
(`arc.replication.scrubbing.CORE_SHARE`).
"""

ROT_LOAD_SECONDS = 60.0
"""After the faults it is looked for so long while clients go on. They write files as fast as a small share of a core
reads them, so that alone need not come to an end (world seed 710341).
"""

LOOK_SECONDS = 0.5


class Rot:
    """Of one world. ``newest`` is the newest catalog that anybody has applied."""

    def __init__(
        self,
        machines: Callable[[], Sequence[Machine]],
        newest: Callable[[], Catalog | None],
        note: Callable[..., None],
        *,
        has_store: bool,
    ) -> None:
        self._machines, self._newest, self._note, self._has_store = machines, newest, note, has_store
        self._struck: list[tuple[Machine, str, bytearray]] = []
        self._strikes: Counter[str] = Counter()

    def strike(self, machine: Machine, chance: Stream, share: float) -> int:
        """Flip bits of one byte in this share of the files on a disk that may be spoiled; says how many there are."""
        spoiled = 0
        for entry in list(self._files()):
            if chance.random() < share and self._is_whole(machine, entry) and self._has_another(machine, entry):
                at, mask = chance.randrange(entry.size_bytes), chance.randrange(1, 256)
                body = machine.platter.rot(f"{DATA}/{entry.path}", at, mask)
                self._struck.append((machine, entry.path, body))
                self._note(machine.name, "rot", entry.path, at, mask)
                spoiled += 1
        self._strikes[machine.name] += spoiled
        return spoiled

    def is_over(self) -> bool:
        """Whether no bad copy of a file of the manifest is where queries look for it. One of a file that left while its
        node was down may lie about for as long as whoever wrote it holds his lease; nobody reads it.
        """
        newest = self._newest()
        return not any(
            newest and newest.file(path) for machine, path, body in self._struck if _lies(machine, path, body)
        )

    def seconds(self, work_seconds: float) -> float:
        """Within how long what rotted must be found (W-20), if a worker takes so long for anything."""
        return ROT_SECONDS + READ_STEPS * work_seconds * sum(1 for _ in self._files())

    async def end(self, seconds: float) -> None:
        """Wait until it is over, but no longer than this."""
        deadline = trio.current_time() + seconds
        while trio.current_time() < deadline:
            if self.is_over():
                return
            await trio.sleep(0.1)

    def forget(self) -> None:
        """It is over, and every node knows the newest catalog: whatever is answered from here on is judged."""
        self._struck.clear()

    def begun(self) -> Callable[[str], bool]:
        """Something is asked now: a function that says, when it is answered, whether the disk of the node that answered
        was sound all the while.
        """
        bad = {machine.name for machine, path, body in self._struck if _lies(machine, path, body)}
        before = self._strikes.copy()
        return lambda name: name not in bad and self._strikes[name] == before[name]

    async def watch(self) -> None:
        """`check` for ever: a bad copy that spread may be found and replaced before the end."""
        while True:
            self.check()
            await trio.sleep(LOOK_SECONDS)

    def check(self) -> None:
        """Whenever. Raises Violation W-21: a copy is bad that did not rot where it is."""
        rotten = {id(body) for machine, path, body in self._struck}
        for entry in self._files():
            for machine in self._machines():
                body = machine.platter.files.get(f"{DATA}/{entry.path}")
                if body is None or id(body) in rotten:
                    continue
                if hashlib.sha256(body).hexdigest() != entry.sha256:
                    raise Violation("W-21", "a file is not what the manifest says", machine.name, entry.path)

    def _files(self) -> Iterator[FileEntry]:
        newest = self._newest()
        return iter(()) if newest is None else newest.all_files()

    def _is_whole(self, machine: Machine, entry: FileEntry) -> bool:
        body = machine.platter.files.get(f"{DATA}/{entry.path}")
        return body is not None and hashlib.sha256(body).hexdigest() == entry.sha256

    def _has_another(self, machine: Machine, entry: FileEntry) -> bool:
        return self._has_store or any(
            other is not machine and other.config.node.role in KEEPS_ALL and self._is_whole(other, entry)
            for other in self._machines()
        )


def _lies(machine: Machine, path: str, body: bytearray) -> bool:
    return machine.platter.files.get(f"{DATA}/{path}") is body
