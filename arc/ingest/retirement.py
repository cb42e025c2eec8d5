"""Rows leave the buffer when queries on this node find them in files, and not before.

That is when the catalog's flush mark has passed them *and* every file that covers them can be read here. The same rule
decides at a start what of the log goes back into the buffer at all. Rows that are in files elsewhere only are kept, up
to a bound; beyond it the oldest go, and queries that need them are refused here until the files have come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from arc.catalog.fsm import Catalog
from arc.ingest.buffer import Buffer, Key
from arc.storage.coverage import split


class Retirement:
    """Moves the buffer's bounds to where the catalog and the files of this node are."""

    def __init__(
        self,
        buffer: Buffer,
        catalog: Callable[[], Catalog],
        is_readable: Callable[[str], bool],
        kept_bytes_max: int,
    ) -> None:
        self._buffer = buffer
        self._catalog = catalog
        self._is_readable = is_readable
        self._kept_bytes_max = kept_bytes_max

    def settle(self, keys: Iterable[Key]) -> list[Key]:
        """Look at these measurements again. Returns those of which rows had to go whose files cannot be read here."""
        catalog = self._catalog()
        for key in keys:
            mark = catalog.mark(key.database, key.measurement)
            if mark == 0:
                continue
            self._buffer.note_mark(key, mark)
            retired = retired_through(
                catalog, key, self._buffer.floor(key.database, key.measurement), self._is_readable
            )
            if retired > 0:
                self._buffer.forget(key, retired)
        return self._buffer.evict_kept(self._kept_bytes_max)


def retired_through(catalog: Catalog, key: Key, floor: int, is_readable: Callable[[str], bool]) -> int:
    """The sequence up to which files on this node answer for a measurement."""
    mark = catalog.mark(key.database, key.measurement)
    files = catalog.files(key.database, key.measurement) if floor < mark else ()
    return split(files, mark=mark, floor=floor, is_readable=is_readable)
