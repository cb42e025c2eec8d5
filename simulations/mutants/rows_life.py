"""Planted bugs of what operators order over data that is stored: retention, deletes, drops, continuous queries,
backups, and who may order it.
"""

from __future__ import annotations

from simulations.mutants.mutant import Mutant
from simulations.mutants.planting import Edit, by_story, by_tests
from simulations.plan import Fault

RETENTION = "arc/compaction/retention.py"
RETENTION_RUNNER = "arc/compaction/retention_runner.py"
DELETER = "arc/deletion/deleter.py"
DROPPER = "arc/deletion/dropper.py"
MANIFEST = "arc/catalog/manifest.py"
EXECUTION = "arc/continuous/execution.py"
RUNNER = "arc/continuous/runner.py"
WINDOWS = "arc/continuous/windows.py"
PLAN = "arc/backup/plan.py"
TEAMS = "arc/catalog/teams.py"

DELETING = {"delete_share": 0.2, "flush_share": 0.1}
"""Clients that delete often, from files and from the buffer."""

SEEN = {
    "size": 1,
    "founding": "join",
    "takeover_seconds_max": 0.0,
    "think_seconds": 0.05,
    "key_share": 1.0,
    "clients": 4,
    "seconds": 18.0,
    "faults": tuple(
        Fault(1.0 + 1.5 * turn, kind, ("n1",), amount)
        for turn, (kind, amount) in enumerate([("crash_in_write", 4.0), ("power_off", 0.2)] * 5)
    ),
}
"""One node that dies in the middle of a write, finds what it can read of it, and loses power."""

AGEING: tuple[Mutant, ...] = (
    by_tests(
        "R-125",
        "cluster",
        "a node that all others have left goes by its clock alone",
        ("tests/cluster/test_registry.py",),
        Edit("arc/cluster/memories.py", "            self._note_left(name, before[name])\n", "            pass\n"),
    ),
    by_tests(
        "R-128",
        "cluster",
        "the clock of a node that has just started is right because whoever could deny it is dead",
        ("tests/cluster/test_registry.py",),
        Edit(
            "arc/cluster/memories.py",
            "self.of(record).clock_us(now) for record in records}",
            "self.of(record).clock_us(now) for record in records if self.state(record) is not NodeState.DEAD}",
        ),
    ),
    by_tests(
        "R-73",
        "compaction",
        "a file expires with its oldest row, however young its newest is",
        ("tests/compaction/test_retention.py",),
        Edit(RETENTION, "if file.max_time_us < cutoff", "if file.min_time_us < cutoff"),
    ),
    by_tests(
        "R-74",
        "catalog",
        "files leave the manifest in the name of a lease that has moved",
        ("tests/compaction/test_retention.py",),
        Edit(
            "arc/catalog/fsm.py",
            "            leases.require_epoch(catalog.leases, command.lease, command.epoch)\n"
            "            files = manifest.replace(",
            "            files = manifest.replace(",
        ),
    ),
    by_tests(
        "R-75",
        "compaction",
        "a dry run of retention leaves the buffer days out, and counts more than will go",
        ("tests/compaction/test_retention.py",),
        Edit(
            RETENTION_RUNNER,
            "policy, now_us = retention.require(self._catalog(), policy_id), self._now_us()",
            "policy, now_us = replace(retention.require(self._catalog(), policy_id), buffer_days=0), self._now_us()",
        ),
    ),
    by_tests(
        "R-76",
        "compaction",
        "what one writer has executed is due again with the next look",
        ("tests/compaction/test_retention.py",),
        Edit(RETENTION, "not (last and last[0].at_us <= now_us < last[0].at_us + every_us)", "now_us"),
    ),
)

DELETION: tuple[Mutant, ...] = (
    by_tests(
        "R-77",
        "query",
        "a row of which nobody knows whether it matches is deleted, too",
        ("tests/deletion/test_deleter.py",),
        Edit("arc/query/predicate.py", 'WHERE ({where}\\n)")', 'WHERE coalesce(({where}\\n), TRUE)")'),
    ),
    by_story(
        "R-78",
        "duties",
        "rows in the buffer are not flushed before it is looked what to delete",
        "world",
        Edit(
            "arc/duties/reign.py",
            "        await self.flusher.flush_all(lambda key: key == Key(database, measurement))\n",
            "",
        ),
        more=DELETING,
    ),
    by_story(
        "R-79",
        "deletion",
        "a file that is written again keeps the rows of a row group that does not match as a whole",
        "world",
        Edit(
            "arc/deletion/rewrite.py",
            "rows.filter(pa.array(~mask)) if mask.any() else rows",
            "rows.filter(pa.array(~mask)) if mask.all() else rows",
        ),
        more=DELETING,
    ),
    by_tests(
        "R-80",
        "deletion",
        "a file that was merged meanwhile is not looked for under its new name",
        ("tests/deletion/test_deleter.py",),
        Edit(
            DELETER,
            "            dirty = await self._look(job)\n        if dirty:",
            "            dirty = []\n        if dirty:",
        ),
    ),
    by_tests(
        "R-81",
        "deletion",
        "nodes go on answering from their buffers for rows that were deleted from files",
        ("tests/deletion/test_deleter.py",),
        Edit(DELETER, "            await self._void_buffers(job)\n", "            pass\n"),
    ),
    by_tests(
        "R-82",
        "catalog",
        "a dropped database leaves no floor: its log brings its rows back",
        ("tests/deletion/test_dropper.py",),
        Edit(MANIFEST, "    if floor > 0:\n", "    if False:\n"),
    ),
    by_tests(
        "R-83",
        "ingest",
        "writes are let in while their measurement is being dropped",
        ("tests/ingest/test_holds.py",),
        Edit(
            "arc/ingest/holds.py",
            "return next((hold for hold in self._holds if hold.covers(database, measurements)), None)",
            "return None",
        ),
    ),
    by_tests(
        "R-84",
        "deletion",
        "rows come in again before it is known whether the drop happened",
        ("tests/deletion/test_dropper.py",),
        Edit(
            DROPPER,
            "            index = await self._until_known(\n",
            "            hold.release()\n            index = await self._until_known(\n",
        ),
    ),
    by_tests(
        "R-85",
        "deletion",
        "a copy with a bit that has rotted gets a fresh hash by being written again",
        ("tests/deletion/test_deleter.py",),
        Edit("arc/deletion/rewrite.py", "    verify(view, entry)\n", ""),
    ),
)

CONTINUOUS: tuple[Mutant, ...] = (
    by_tests(
        "R-86",
        "continuous",
        "the progress moves before the files of the window are registered, in an entry of its own",
        ("tests/continuous/test_runner.py", "-k", "wherever_the_process_dies"),
        Edit(EXECUTION, "policies=(look.unchanged, put),\n    )", "policies=(look.unchanged,),\n    )"),
        Edit(
            EXECUTION,
            "                await self._commit(_command(entries, holders, look, put), finished.task)\n",
            "                await self._propose_once(self._catalog(), look.query, put)\n"
            "                await self._commit(_command(entries, holders, look, put), finished.task)\n",
        ),
    ),
    by_tests(
        "R-87",
        "catalog",
        "a policy is set although it was changed meanwhile: two nodes execute one window",
        ("tests/continuous/test_runner.py", "-k", "two_nodes"),
        Edit(
            "arc/catalog/policies.py",
            "if command.expect_us is not None and command.expect_us != stands:",
            "if False:",
        ),
    ),
    by_tests(
        "R-88",
        "continuous",
        "whoever wrote once goes on with the schedule, beside his successor",
        ("tests/continuous/test_runner.py",),
        Edit(RUNNER, "return self._config.enabled and self.holds_writer", "return self._config.enabled"),
    ),
    by_tests(
        "R-89",
        "continuous",
        "the schedule executes a window again that somebody else has executed meanwhile",
        ("tests/continuous/test_runner.py",),
        Edit(RUNNER, "                    return  # Somebody else has executed it", "                    pass  #"),
    ),
    by_tests(
        "R-90",
        "continuous",
        "the old result of a window stays beside the one with its late rows",
        ("tests/continuous/test_runner.py",),
        Edit("arc/continuous/names.py", "    return [entry for _, entry in own]\n", "    return []\n"),
    ),
    by_tests(
        "R-91",
        "continuous",
        "lateness is ignored: a window closes when it ends",
        ("tests/continuous/test_runner.py",),
        Edit(WINDOWS, "return window[1] + lateness_us > now_us", "return window[1] > now_us"),
    ),
    by_tests(
        "R-92",
        "continuous",
        "the source is counted after it was read: a row that came between is counted and in no result",
        ("tests/continuous/test_runner.py",),
        Edit(
            EXECUTION,
            "        counted = task.rows if task.rows is not None else "
            "(await self.count(query, [task.window]))[task.window]\n"
            "        shaped = await self._shaped(query, task.window, look.tags)\n",
            "        shaped = await self._shaped(query, task.window, look.tags)\n"
            "        counted = (await self.count(query, [task.window]))[task.window]\n",
        ),
    ),
    by_tests(
        "R-93",
        "continuous",
        "an execution whose answer was lost is not looked for in the history, and fails",
        ("tests/continuous/test_runner.py",),
        Edit(EXECUTION, "if is_unknown and self._stands(task):", "if False:"),
    ),
)

BACKUP: tuple[Mutant, ...] = (
    by_tests(
        "R-94",
        "backup",
        "bytes of the backup are restored without proving that they are those of the file",
        ("tests/backup/test_backup.py",),
        Edit("arc/backup/restoring.py", "if digest.hexdigest() != file.sha256:", "if False:"),
    ),
    by_tests(
        "R-95",
        "backup",
        "a restore that goes on registers a batch again that was merged since",
        ("tests/backup/test_backup.py",),
        Edit(PLAN, "if known is not None and number < known[0]:", "if False:"),
        Edit(
            PLAN,
            "    return Once(\n        client=ledger.client,\n",
            '    return Once(\n        client=f"{ledger.client}/{index}",\n',
        ),
    ),
)

ACCESS: tuple[Mutant, ...] = (
    by_tests(
        "R-96",
        "catalog",
        "who leaves a team keeps what it grants",
        ("tests/catalog/test_teams.py",),
        Edit(TEAMS, "tuple(m for m in found if m.team != command.team)", "found"),
    ),
    by_tests(
        "R-97",
        "api",
        "what a caller may do is asked when a request begins, and not when its rows are stored",
        ("tests/api/test_rbac.py",),
        Edit("arc/api/principal.py", "        return Principal.of(token, catalog)\n", "        return self\n"),
    ),
    by_tests(
        "R-98",
        "security",
        "measurement rules are ignored: the role grants its permissions on all measurements",
        ("tests/security/test_rights.py",),
        Edit("arc/security/rights.py", "    if not grant.rules:\n", "    if True:\n"),
    ),
    by_tests(
        "R-99",
        "api",
        "a line of the audit log tells every key of the body, secrets with them",
        ("tests/api/test_acts.py",),
        Edit("arc/api/acts.py", "    for key in TOLD_KEYS:\n", "    for key in given:\n"),
    ),
)

TITLES: tuple[Mutant, ...] = (
    by_tests(
        "R-105",
        "catalog",
        "only who proposes it looks whether a policy's title is taken, at a catalog that may be old",
        ("tests/catalog/test_fsm.py", "tests/continuous/test_runner.py"),
        Edit("arc/catalog/policies.py", "    if not command.title:\n", "    if True:\n"),
    ),
)

ROT: tuple[Mutant, ...] = (
    by_story(
        "R-126",
        "storage",
        "what can be read at the end of a log is taken for durable",
        "world_writer_loss",
        Edit("arc/journal/segments.py", "        journal._write_again(found.last_offset)\n", ""),
        more=SEEN,
    ),
    by_tests(
        "R-127",
        "ingest",
        "a measurement is dropped while the log may have a write to it or not",
        ("tests/ingest/test_holds.py",),
        Edit("arc/ingest/intake.py", "if self._has_unknown:", "if False:"),
    ),
    by_tests(
        "R-100",
        "replication",
        "bytes that are read again are not compared with the checksum: what rotted stays",
        ("tests/replication/test_antientropy.py",),
        Edit("arc/replication/scrubbing.py", 'return "" if found == entry.sha256 else', 'return "" if found else'),
    ),
    by_tests(
        "R-104",
        "storage",
        "a bad copy is told to be gone before it is moved: the good one that comes at once is moved in its place",
        ("tests/replication/test_antientropy.py",),
        Edit(
            "arc/storage/keeper.py",
            "        try:\n            await self._workers.run(self._disk.rename",
            "        self.went(path)\n        try:\n            await self._workers.run(self._disk.rename",
        ),
    ),
    by_tests(
        "R-101",
        "query",
        "a query that fails on bytes that are no Parquet is taken for a mistake of the user's",
        ("tests/query/test_limits.py",),
        Edit("arc/query/mistakes.py", " or not sort or _DAMAGED.search(message)", ""),
    ),
    by_tests(
        "R-102",
        "query",
        "the files of a query that failed on one of them wait for their turn to be read again",
        ("tests/query/test_limits.py",),
        Edit("arc/query/service.py", "if error.code == FILE_UNREADABLE:", "if False:"),
    ),
    by_tests(
        "R-103",
        "api",
        "a query that this node cannot read its files for is not asked of another",
        ("tests/api/test_forward.py",),
        Edit(
            "arc/api/forward_request.py",
            'frozenset({"files_missing", FILE_UNREADABLE})',
            'frozenset({"files_missing"})',
        ),
    ),
)
