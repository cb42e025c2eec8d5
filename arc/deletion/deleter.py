"""Rows deleted by a condition, on the node that holds the writer lease: flush, look, check, write again, swap.

*Which rows.* All of the measurement that anybody was told to be stored before the order was taken. They are flushed
first, so each is in a file, and a flush mark stands behind them: no buffer and no log brings them back. Rows that come
later may be deleted too, if a merge puts them into a file with older ones meanwhile.

*How.* A file whose rows all match leaves the manifest; another is written again under a new path without those that
match, brought to the other nodes, and put in the place of the old one, some files in one entry of the log. What
somebody else replaced meanwhile (a merge) refuses that entry, and is looked at again under its new name, until no file
is left that has such rows.

*What if it ends in the middle.* Each entry is whole or not at all, under the epoch of the lease: after a failover the
rest of this order is void. What is deleted stays deleted, the answer tells how much is left, and the same order again
goes on: deleting twice is deleting once. Files that were written and not registered are collected as leftovers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import trio

from arc.catalog.commands import WRITER, PutPolicy, ReplaceFiles
from arc.catalog.facts import Catalog
from arc.catalog.policies import DELETED_THROUGH
from arc.deletion.config import DeleteConfig
from arc.deletion.names import JOBS, rewritten_path
from arc.deletion.orders import DeleteOrder, Outcome
from arc.deletion.plan import covered, pieces
from arc.deletion.ports import Condition, Conditions, Copies, Files, Propose, Writer
from arc.deletion.rewrite import count, rewrite
from arc.errors import (
    ArcError,
    Conflict,
    Corrupt,
    DiskFailed,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from arc.ids import NodeId
from arc.ports import Ports, is_full
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.storage.shelf import Shelf
from arc.telemetry import Log

FOLDER = "deletion"
"""Of drafts. What is there when an order begins is left over."""

LOOKS_MAX = 10
"""Files that somebody else replaced meanwhile make it look again, so often."""

ASKED_MAX = 6
"""An entry whose outcome is not known is asked for so often; each time the cluster is given some seconds."""

FILES_SECONDS = 30.0
"""How long files may take to come to this node."""

PATHS_TOLD_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteStatistics:
    """Orders carried out on this node (dry runs not counted), those that failed, and what was removed."""

    orders_total: int
    failures_total: int
    rows_total: int
    files_removed_total: int
    files_rewritten_total: int


@dataclass(slots=True, kw_only=True)
class _Job:
    """One order under way. ``found`` has the matches of every file that was looked at."""

    order: DeleteOrder
    condition: Condition
    epoch: int
    through: int
    found: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    removed: int = 0
    rewritten: int = 0
    paths: list[str] = field(default_factory=list)


class Deleter:
    """One order at a time. ``suspect`` is told a file that is not what the manifest says; ``reserve_bytes`` of the disk
    are left to others; ``shelf`` is the store that all nodes share, None without.
    """

    def __init__(
        self,
        *,
        config: DeleteConfig,
        node: NodeId,
        ports: Ports,
        catalog: Callable[[], Catalog],
        propose: Propose,
        writer: Writer,
        conditions: Conditions,
        copies: Copies,
        files: Files,
        suspect: Callable[[Sequence[FileEntry]], None],
        reserve_bytes: int,
        log: Log,
        shelf: Shelf | None = None,
    ) -> None:
        self._config, self._node, self._ports = config, node, ports
        self._catalog, self._propose, self._writer = catalog, propose, writer
        self._conditions, self._copies, self._files = conditions, copies, files
        self._suspect, self._reserve_bytes, self._shelf = suspect, reserve_bytes, shelf
        self._log = log.bind(component="delete")
        self._turn = trio.StrictFIFOLock()
        self._orders = self._failures = self._rows = self._removed = self._rewritten = 0

    def __repr__(self) -> str:
        return f"<Deleter {self._node} orders={self._orders} rows={self._rows}>"

    async def delete(self, order: DeleteOrder) -> Outcome:
        """Carry out an order, or count what it would delete.

        Raises NotFound, InvalidRequest (the condition; over a limit, or not confirmed), Unavailable, Overloaded,
        OutcomeUnknown (some rows are deleted, or may be; `delete_incomplete` where it is known how many); DiskFailed,
        after which the node must stop.
        """
        async with self._turn:
            began = self._ports.clock.now()
            job = await self._begin(order)
            dirty = await self._look(job)
            matching = sum(job.found[file.path] for file in dirty)
            if order.is_dry:
                return self._outcome(job, began, dirty, rows=matching)
            self._check(job, matching)
            self._orders += 1
            try:
                await self._carry_out(job, dirty)
            except (Unavailable, OutcomeUnknown) as error:
                self._failures += 1
                raise self._told_how_far(error, job) from error
            finally:
                self._rows += job.rows
                self._removed += job.removed
                self._rewritten += job.rewritten
                self._log.info(
                    "rows_deleted",
                    measurement=f"{order.database}.{order.measurement}",
                    where=order.where,
                    rows=job.rows,
                    files_removed=job.removed,
                    files_rewritten=job.rewritten,
                )
            return self._outcome(job, began, (), rows=job.rows)

    # ------------------------------------------------------------------------------------------------ before anything

    async def _begin(self, order: DeleteOrder) -> _Job:
        reign = self._writer.require_reign()
        # First: the log and the catalog here may be old, and what they do not show would not be deleted.
        await reign.confirm()
        schema = self._catalog().schema(order.database, order.measurement)
        if schema is None:
            raise NotFound(f"measurement {order.measurement!r} not found in database {order.database!r}")
        now_us = self._ports.clock.wall_us()
        run = self._ports.workers.run
        condition = await run(self._conditions.parse, order.where, order.measurement, schema, now_us)
        through = await reign.flush_rows(order.database, order.measurement)
        return _Job(order=order, condition=condition, epoch=reign.epoch, through=through)

    async def _look(self, job: _Job) -> list[FileEntry]:
        """The files that have rows to delete, all files that are covered having been looked at."""
        for _ in range(LOOKS_MAX):
            files = self._covered(job)
            unknown = [file for file in files if file.path not in job.found]
            if not unknown:
                return [file for file in files if job.found[file.path]]
            paths = [file.path for file in unknown]
            self._files.pin(paths)
            try:
                await self._until_here(unknown)
                for file in unknown:
                    job.found[file.path] = await self._ports.workers.run(count, self._ports.disk, file, job.condition)
            except NotFound:
                continue  # Somebody replaced it a moment ago.
            except Corrupt as error:
                raise self._unreadable(error, unknown) from error
            finally:
                self._files.unpin(paths)
        raise Unavailable(
            f"files of {job.order.database}.{job.order.measurement} kept changing: nothing was deleted now"
        )

    def _unreadable(self, error: Corrupt, files: Sequence[FileEntry]) -> Unavailable:
        self._suspect([file for file in files if file.path == error.path])
        return Unavailable(f"a file cannot be read on this node: {error.message}", code="file_unreadable")

    def _covered(self, job: _Job) -> list[FileEntry]:
        return covered(
            self._catalog(),
            job.order.database,
            job.order.measurement,
            through=job.through,
            low_us=job.condition.low_us,
            high_us=job.condition.high_us,
            clean=(),
        )

    async def _until_here(self, files: Sequence[FileEntry]) -> None:
        """Files of other nodes come by themselves."""
        with trio.move_on_after(FILES_SECONDS):
            while True:
                seen = self._files.changes
                catalog = self._catalog()
                if all(self._files.is_here(file.path) or catalog.file(file.path) is None for file in files):
                    return
                await self._files.wait_changed(seen)
        raise Unavailable(f"files of {files[0].database}.{files[0].measurement} have not come to this node yet")

    def _check(self, job: _Job, matching: int) -> None:
        most, sure = self._config.max_rows_per_delete, self._config.confirmation_threshold
        if most and matching > most:
            raise InvalidRequest(
                f"{matching} rows match, and delete.max_rows_per_delete is {most}: narrow the condition, or drop the "
                "measurement",
                code="too_many_rows",
            )
        if not job.order.is_confirmed and (matching > sure or (matching and not job.condition.columns)):
            raise InvalidRequest(
                f"{matching} rows will be deleted for good: send 'confirm': true, or 'dry_run': true to look first",
                code="not_confirmed",
            )

    # ------------------------------------------------------------------------------------------------------ in earnest

    async def _carry_out(self, job: _Job, dirty: Sequence[FileEntry]) -> None:
        if dirty:
            await self._void_buffers(job)
        for _ in range(LOOKS_MAX):
            if not dirty:
                return
            for piece in pieces(dirty):
                if not await self._replace(job, piece):
                    break
            dirty = await self._look(job)
        if dirty:
            raise Unavailable(f"{len(dirty)} files kept changing")

    async def _void_buffers(self, job: _Job) -> None:
        """From here on no node answers from its buffer for rows that are in files, if it lacks these."""
        name = job.order.database
        while (catalog := self._catalog()).deleted_through(name) < job.through:
            stands = catalog.policies.get((DELETED_THROUGH, name))
            before_us = stands.updated_us if stands is not None else 0
            command = PutPolicy(
                kind=DELETED_THROUGH,
                name=name,
                body=str(job.through),
                at_us=max(self._ports.clock.wall_us(), before_us + 1),
                expect_us=before_us,
            )
            try:
                (await self._propose.propose(command)).unwrap()
            except Conflict:  # Another measurement of the database, on the holder before: look again.
                self._require_lease(job)
                await trio.lowlevel.checkpoint()

    async def _replace(self, job: _Job, files: Sequence[FileEntry]) -> bool:
        """Put files without the rows in the place of these; False when one of them was replaced meanwhile."""
        paths = [file.path for file in files]
        outputs: list[FileEntry] = []
        holders: Sequence[NodeId] = ()
        self._files.pin(paths)
        try:
            matches = await self._write(job, files, outputs)
            if outputs:
                holders = await self._copies.spread(outputs)
        except NotFound:
            self._discard(outputs)
            return False
        except BaseException:
            self._discard(outputs)
            raise
        finally:
            self._files.unpin(paths)
        remove = tuple((file.path, file.sha256) for file in files)
        command = ReplaceFiles(remove=remove, add=tuple(outputs), lease=WRITER, epoch=job.epoch, holders=tuple(holders))
        try:
            await self._ask_until_told(command)
        except Conflict:
            self._discard(outputs)
            self._require_lease(job)
            return False
        except (InvalidRequest, Unavailable):
            self._discard(outputs)
            raise
        job.rows += matches
        job.rewritten += len(outputs)
        job.removed += len(files) - len(outputs)
        job.paths += paths[: PATHS_TOLD_MAX - len(job.paths)]
        job.found.update((entry.path, 0) for entry in outputs)
        return True

    async def _write(self, job: _Job, files: Sequence[FileEntry], outputs: list[FileEntry]) -> int:
        """Add to ``outputs`` what is installed on this disk; how many rows the files have more than these."""
        before = after = 0
        run = self._ports.workers.run
        try:
            await run(self._clear)
            for file in files:
                if await run(self._ports.disk.free_bytes) < self._reserve_bytes + file.size_bytes:
                    raise Unavailable(f"a file of {file.size_bytes} bytes may need as many beside it: no room for that")
                output = await run(self._write_one, job, file)
                before += file.rows
                if output is not None:
                    after += output.rows
                    self._files.came(output.path)
                    outputs.append(output)
                    if self._shelf is not None:
                        self._shelf.note(output.path)
        except Corrupt as error:
            raise self._unreadable(error, files) from error
        except OSError as error:
            if is_full(error):
                raise Unavailable(f"the disk is full: {error}", code="disk_full") from error
            raise DiskFailed(f"writing a file again failed: {error}") from error
        return before - after

    def _write_one(self, job: _Job, file: FileEntry) -> FileEntry | None:
        """Blocking. The file is durable under its path on return; None when no row is left."""
        number = int.from_bytes(self._ports.rng.bytes(8), "big") % JOBS
        disk, draft = self._ports.disk, f"{FOLDER}/{number:014d}"
        part = rewrite(disk, file, job.condition, draft, node=self._node, epoch=job.epoch)
        if part is None:
            return None
        path = rewritten_path(file.path, epoch=job.epoch, job=number, node=self._node)
        if self._shelf is not None:
            self._shelf.put(path, disk.map(draft), part.sha256)
        disk.install([(draft, f"{DATA}/{path}")])
        return FileEntry(
            path=path,
            database=file.database,
            measurement=file.measurement,
            sha256=part.sha256,
            size_bytes=part.size_bytes,
            rows=part.rows,
            min_time_us=part.min_time_us,
            max_time_us=part.max_time_us,
            origin=self._node,
            epoch=job.epoch,
            first_sequence=file.first_sequence,
            last_sequence=file.last_sequence,
            created_us=self._ports.clock.wall_us(),
            columns=file.columns,
        )

    def _clear(self) -> None:
        self._ports.disk.make_dirs(FOLDER)
        for path in self._ports.disk.walk(FOLDER):
            self._ports.disk.remove(path)

    def _discard(self, outputs: Sequence[FileEntry]) -> None:
        """Files that the catalog will never have. What of them is in a shared store is collected there as leftover."""
        self._files.left([entry.path for entry in outputs])
        if self._shelf is not None:
            for entry in outputs:
                self._shelf.forget(entry.path)

    async def _ask_until_told(self, command: ReplaceFiles) -> None:
        """Raises Conflict, Unavailable (it did not happen), OutcomeUnknown."""
        unknown: OutcomeUnknown | None = None
        for _ in range(ASKED_MAX):
            try:
                (await self._propose.propose(command)).unwrap()
                return
            except OutcomeUnknown as error:
                unknown = error
            except Unavailable as error:
                if unknown is None:
                    raise
                unknown = OutcomeUnknown(error.message)
            except Conflict:
                if unknown is not None and self._stands(command):
                    return  # An attempt whose answer was lost.
                raise
            command = await self._spread_again(command)
        assert unknown is not None
        raise unknown

    async def _spread_again(self, command: ReplaceFiles) -> ReplaceFiles:
        """Nodes do not keep for ever what the manifest does not have."""
        if not command.add:
            return command
        try:
            return replace(command, holders=tuple(await self._copies.spread(command.add)))
        except Unavailable:
            return command  # Who has the files now may know better than who cannot be asked.

    def _stands(self, command: ReplaceFiles) -> bool:
        catalog = self._catalog()
        added = [catalog.file(entry.path) for entry in command.add]
        is_in = all(entry is not None for entry in added)
        return is_in and all(catalog.file(path) is None for path, _ in command.remove)

    def _require_lease(self, job: _Job) -> None:
        if self._catalog().lease_epoch(WRITER) != job.epoch:
            raise Unavailable("the writer lease went elsewhere meanwhile", code="stale_epoch")

    # --------------------------------------------------------------------------------------------------------- telling

    def _told_how_far(self, error: Unavailable | OutcomeUnknown, job: _Job) -> ArcError:
        left = sum(1 for file in self._covered(job) if job.found.get(file.path, 1))
        done = f"{job.rows} rows of {job.removed + job.rewritten} files were deleted"
        text = f"{error.message}; {done}, {left} files are left: the same order again goes on"
        if isinstance(error, Unavailable):
            if job.rows:  # Unavailable says that nothing happened.
                return OutcomeUnknown(text, code="delete_incomplete")
            return type(error)(text, code=error.code, retry_after_seconds=error.retry_after_seconds)
        return OutcomeUnknown(text, code=error.code)

    def _outcome(self, job: _Job, began: float, dirty: Sequence[FileEntry], *, rows: int) -> Outcome:
        partly = [file for file in dirty if job.found[file.path] < file.rows]
        return Outcome(
            rows=rows,
            files=len(dirty) + job.removed + job.rewritten,
            rewritten=len(partly) + job.rewritten,
            paths=(*(file.path for file in dirty[:PATHS_TOLD_MAX]), *job.paths),
            milliseconds=(self._ports.clock.now() - began) * 1e3,
            index=self._catalog().index,
        )

    def statistics(self) -> DeleteStatistics:
        """Numbers for status and metrics."""
        return DeleteStatistics(
            orders_total=self._orders,
            failures_total=self._failures,
            rows_total=self._rows,
            files_removed_total=self._removed,
            files_rewritten_total=self._rewritten,
        )
