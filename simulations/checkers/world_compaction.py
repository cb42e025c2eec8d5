"""Swaps of files: what a compactor puts in the place of others has all of their rows, and is on enough disks by then
(DURABILITY 8). That queries see every row once all along is `world_rows`' matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio

from arc.catalog import manifest
from arc.catalog.commands import ReplaceFiles
from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeState
from arc.catalog.values import COMPACTOR
from arc.replication.placement import targets
from arc.storage.files import FileEntry
from simulations.checkers.violation import Violation

FACTOR = 2
"""The default of ``replication.factor``; no plan sets another."""

SPREAD_SECONDS = 10.0
"""A node that is back from an orderly stop is a target again; a swap that was asked for before cannot know that."""


class Swaps:
    """``disks`` says on how many disks a file is whole, ``lost`` how many were lost in this run: whoever had taken a
    file may have lost it before the swap.
    """

    def __init__(
        self,
        disks: Callable[[FileEntry], int],
        lost: Callable[[], int],
        probe: Callable[[str], None],
        *,
        has_store: bool,
    ) -> None:
        self._disks, self._lost, self._probe, self._has_store = disks, lost, probe, has_store
        self._leaving: set[str] = set()
        self._back_at: dict[str, float] = {}

    def saw(self, catalog: Catalog) -> None:
        """Every version in its turn: who is a target of files again."""
        leaving = {name for name, node in catalog.nodes.items() if node.state == NodeState.LEAVING}
        self._back_at.update(dict.fromkeys(self._leaving - leaving, trio.current_time()))
        self._leaving = leaving

    def check(self, before: Catalog, after: Catalog, command: ReplaceFiles) -> None:
        """Of two versions, one after the other. Raises Violation."""
        if command.lease != COMPACTOR:
            return
        rows: Counter[tuple[str, str]] = Counter()
        news: list[FileEntry] = []
        for old, new in manifest.differing(before.manifest, after.manifest):
            known, kept = {file.path for file in old}, {file.path for file in new}
            for file in old:
                if file.path not in kept:
                    rows[file.database, file.measurement] += file.rows
            for file in new:
                if file.path not in known:
                    rows[file.database, file.measurement] -= file.rows
                    news.append(file)
        self._probe("swapped_files" if news else "swapped_files_for_nothing")
        if any(rows.values()):
            raise Violation("C-01", "a swap changed the number of rows", after.index, dict(rows))
        for file in () if self._has_store else news:
            least = min(FACTOR, sum(map(self._was_known, targets(file, after.nodes, FACTOR)))) - self._lost()
            if self._disks(file) < least:
                raise Violation("C-02", "files were replaced by one on too few disks", file.path, self._disks(file))

    def _was_known(self, name: str) -> bool:
        """Whether it has been a target for so long that whoever asks for a swap has known it."""
        return trio.current_time() - self._back_at.get(name, float("-inf")) > SPREAD_SECONDS
