"""Many sorted files into few, in memory that does not grow with them.

Every run (`windows.Run`) shows some rows, at least a window of them. The *cut* is the least last key of the runs of
which more is to come: all rows below it are known, so they are sorted together, in one go of vectors, and written. Runs
usually cover the same keys, so their windows end close to each other: were each refilled only when it is used up, of as
many steps as there are runs one would take nearly everything, and the others next to nothing.

Rows with the key of the cut follow by themselves, run after run, since there may be more of them than memory holds. So
the rows of a key are always whole, and in the order of the WAL: older runs first, within a run as they were.

De-duplication keeps the last row of each key. As runs are ordered by their WAL records (`tiers`), and rows of a key
within a file by theirs, that is the row written last, however merges nest.

Runs that are not in the order of the output are sorted first, piece by piece, onto the disk; the same when there are
more runs than fit. Blocks; for a worker's thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from arc.catalog.schemas import MeasurementSchema
from arc.compaction.output import Output
from arc.compaction.shape import is_in_order, output_metadata, output_schema, tags_of
from arc.compaction.tiers import Job
from arc.compaction.windows import NotSorted, Run, Source, Stop, Stopped
from arc.ports import Disk
from arc.storage.drafting import HashedSink, Part, one_chunk
from arc.storage.parquet import ROW_GROUP_ROWS, number_series

WINDOW_ROWS_MIN = 1_024
WINDOW_ROWS_MAX = 65_536
WINDOWS = 3
"""Two that rows are taken from, and one that is known to follow."""
PAGE_ROWS = 20_000
"""Rows that the reader of a column decodes at once, whatever was asked for."""


@dataclass(slots=True)
class Progress:
    """What a merge has done. Written by the worker, read by anybody."""

    rows_total: int = 0
    rows_done: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """The outputs as drafts, the columns that each of them has, and rows before and after."""

    parts: tuple[Part, ...]
    columns: tuple[str, ...]
    rows_in: int
    rows_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes that bound the memory of a merge: see `limits_of`."""

    runs_max: int
    window_rows: int
    row_group_rows: int = ROW_GROUP_ROWS


def limits_of(memory_bytes: int, runs: int, row_bytes: int) -> Limits:
    """Half of the memory for windows and what decodes them; the rest for the rows being sorted and written.

    Of each run there are less than `WINDOWS` windows; their rows are copied twice when all of them are sorted at once.
    """
    runs_max = max(2, memory_bytes // 2 // ((PAGE_ROWS + WINDOWS * WINDOW_ROWS_MIN) * row_bytes))
    window_rows = memory_bytes // 10 // (min(runs, runs_max) * row_bytes)
    return Limits(runs_max=runs_max, window_rows=max(WINDOW_ROWS_MIN, min(window_rows, WINDOW_ROWS_MAX)))


def merge(
    job: Job,
    *,
    disk: Disk,
    folder: str,
    known: MeasurementSchema | None,
    node: str,
    epoch: int,
    number: int,
    deduplicate: bool,
    target_bytes: int,
    memory_bytes: int,
    stop: Stop,
    progress: Progress,
    limits: Limits | None = None,
) -> Merged:
    """Write the outputs of a job as drafts into ``folder``; when that fails nothing is left there.

    Raises Corrupt (a source is not what the manifest says, or cannot be one table with the others), NotFound (a source
    is not on this disk), Stopped, OSError (of what was written).
    """
    disk.make_dirs(folder)
    unsorted: set[int] = set()
    while True:
        output = None
        try:
            sources = [[Source(disk, entry) for entry in files] for files in job.chains]
            flat = [source for files in sources for source in files]
            schema = output_schema(flat, known)
            tags = tags_of(schema)
            rows_in = sum(source.entry.rows for source in flat)
            progress.rows_total, progress.rows_done = rows_in, 0
            row_bytes = sum(s.raw_bytes for s in flat) // max(1, rows_in) + 8 * len(schema)
            bounds = limits if limits is not None else limits_of(memory_bytes, len(sources), row_bytes)
            metadata = output_metadata(
                job, flat, node=node, epoch=epoch, number=number, deduplicate=deduplicate, tags=tags
            )
            merger = _Merger(disk, folder, schema, bounds, stop)
            output = Output(
                disk,
                folder,
                schema,
                metadata,
                target_bytes=target_bytes,
                row_group_rows=bounds.row_group_rows,
            )
            for n, files in enumerate(sources):
                if not all(is_in_order(source.schema, tags) for source in files):
                    unsorted.add(n)
            streams = list(chain.from_iterable(merger.streams(n, s, n in unsorted) for n, s in enumerate(sources)))
            for table in merger.merged(merger.few(streams), deduplicate=deduplicate):
                output.add(table)
                progress.rows_done += len(table)
            parts = output.finish()
            merger.remove_spills()
            rows_out = sum(part.rows for part in parts)
            if not (rows_out == rows_in or (deduplicate and 0 < rows_out < rows_in)):
                raise AssertionError(f"{rows_in} rows became {rows_out}")
            return Merged(parts=parts, columns=tuple(schema.names), rows_in=rows_in, rows_out=rows_out)
        except NotSorted as found:
            _clear(disk, folder, output)
            if found.run in unsorted:
                raise AssertionError(f"run {found.run} was sorted and is not") from found
            unsorted.add(found.run)
        except BaseException:
            _clear(disk, folder, output)
            raise


def _clear(disk: Disk, folder: str, output: Output | None) -> None:
    if output is not None:
        output.close()
    for path in disk.walk(folder):
        disk.remove(path)


@dataclass(frozen=True, slots=True)
class _Stream:
    """Sorted batches of the chain ``number``."""

    number: int
    batches: Iterator[pa.RecordBatch]


def _taken(table: pa.Table, order: np.ndarray) -> pa.Table:
    """Rows of a table of one chunk in an order. Of a dictionary only the indices move, in a third of the time that
    `Table.take` needs for all.
    """
    places = pa.array(order)
    columns = []
    for column in (each.chunk(0) for each in table.columns):
        if pa.types.is_dictionary(column.type):
            columns.append(pa.DictionaryArray.from_arrays(column.indices.take(places), column.dictionary))
        else:
            columns.append(column.take(places))
    return pa.Table.from_arrays(columns, schema=table.schema)


class _Merger:
    def __init__(self, disk: Disk, folder: str, schema: pa.Schema, limits: Limits, stop: Stop) -> None:
        self._disk = disk
        self._folder = folder
        self._schema = schema
        self._tags = tags_of(schema)
        self._limits = limits
        self._stop = stop
        self._spills: list[str] = []

    def streams(self, number: int, files: Sequence[Source], is_unsorted: bool) -> list[_Stream]:
        """The chain as it is, or, when it is in another order, as sorted pieces: oldest first."""
        rows = self._limits.window_rows
        batches = chain.from_iterable(source.batches(rows, self._schema, self._stop) for source in files)
        if not is_unsorted:
            return [_Stream(number, batches)]
        pieces = []
        for batch in batches:
            table, _ = self._sorted([batch])
            pieces.append(self._spill(number, iter([table])))
        return pieces

    def few(self, streams: list[_Stream]) -> list[_Stream]:
        """Neighbours merged onto the disk until no more are left than may be read at a time."""
        most = self._limits.runs_max
        while len(streams) > most:
            groups = [streams[n : n + most] for n in range(0, len(streams), most)]
            streams = [
                group[0] if len(group) == 1 else self._spill(group[0].number, self.merged(group, deduplicate=False))
                for group in groups
            ]
        return streams

    def merged(self, streams: Sequence[_Stream], *, deduplicate: bool) -> Iterator[pa.Table]:
        """All rows in order; streams oldest first."""
        runs = [Run(stream.batches, self._tags, stream.number) for stream in streams]
        while True:
            if self._stop():
                raise Stopped("the merge was cancelled")
            for run in runs:
                run.fill(self._limits.window_rows)
            runs = [run for run in runs if run.window is not None]
            if not runs:
                return
            cut = min((run.last for run in runs if run.has_more and run.last is not None), default=None)
            slices, at_cut = [], []
            for run in runs:
                below, is_at_cut = run.take_below(cut)
                slices += below
                if is_at_cut:
                    at_cut.append(run)  # Whose rows with this key may go on behind the windows.
            if slices:
                table, keys = self._sorted(slices)
                if deduplicate:
                    is_last = np.append(keys[1:] != keys[:-1], True)
                    table = table if is_last.all() else table.filter(pa.array(is_last))
                yield table
            if cut is not None:
                yield from self._equal(at_cut, cut, deduplicate)

    def _equal(self, runs: Sequence[Run], cut: tuple[tuple[bytes, ...], int], deduplicate: bool) -> Iterator[pa.Table]:
        """All rows with this key, which is the least there is."""
        last: pa.RecordBatch | None = None
        for run in runs:
            while run.window is not None:
                _, count = run.window.around(cut)
                if count and self._stop():
                    raise Stopped("the merge was cancelled")
                if count:
                    rows = run.window.take(count)
                    if deduplicate:
                        last = rows.slice(count - 1)
                    else:
                        yield pa.Table.from_batches([rows])
                if run.window.rows:
                    break
                run.fill(1)
        if last is not None:
            yield pa.Table.from_batches([last])

    def _sorted(self, slices: list[pa.RecordBatch]) -> tuple[pa.Table, np.ndarray]:
        """The rows by key, equal ones as they come; and a number for each key."""
        table = one_chunk([pa.Table.from_batches(slices)])
        keys = self._keys(table)
        if bool((keys[1:] >= keys[:-1]).all()):
            return table, keys
        # Of sorted runs, a stable sort only merges them.
        order = np.argsort(keys, kind="stable")
        return _taken(table, order), keys[order]

    def _keys(self, table: pa.Table) -> np.ndarray:
        times = table.column("time").chunk(0).cast(pa.int64()).to_numpy()
        low = int(times.min())
        span = int(times.max()) - low + 1
        series, count = number_series(table.select(self._tags)) if self._tags else (np.zeros(len(times), np.int64), 1)
        if count * span < 1 << 62:
            packed: np.ndarray = series * span + (times - low)
            return packed
        order = np.lexsort((times, series))
        is_new = (np.diff(series[order]) != 0) | (np.diff(times[order]) != 0)
        keys = np.empty(len(times), np.int64)
        keys[order] = np.concatenate(([0], np.cumsum(is_new)))
        return keys

    def _spill(self, number: int, tables: Iterator[pa.Table]) -> _Stream:
        path = f"{self._folder}/spill-{len(self._spills):04d}"
        self._spills.append(path)
        sink = HashedSink(self._disk.open_draft(path))
        try:
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), self._schema, options=options) as writer:
                for table in tables:
                    writer.write_table(table, max_chunksize=self._limits.window_rows)
        finally:
            sink.close()
        return _Stream(number, self._spilled(path))

    def _spilled(self, path: str) -> Iterator[pa.RecordBatch]:
        with pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(self._disk.map(path)))) as reader:
            yield from (batch for batch in reader if batch.num_rows)

    def remove_spills(self) -> None:
        for path in self._spills:
            self._disk.remove(path)
