"""Planted bugs of what becomes of rows after their 204: buffer, flush, log, files and their copies, keys, routing.

Where a comment says what else protects, the bug is planted in both places, since one alone changes nothing.
"""

from __future__ import annotations

from simulations.mutants.mutant import Mutant
from simulations.mutants.planting import Edit, by_story, by_tests
from simulations.mutants.rows_stream import BUSY, RECEIVER, REIGN
from simulations.plan import Fault
from simulations.world_network import NetworkKind

FLUSH = "arc/ingest/flush.py"
INTAKE = "arc/ingest/intake.py"
SNAPSHOT = "arc/query/snapshot.py"
REGISTRAR = "arc/cluster/registrar.py"
TRANSFERS = "arc/replication/transfers.py"

ALONE = {
    "size": 1,
    "founding": "join",
    "takeover_seconds_max": 0.0,
    "think_seconds": 0.05,
    "key_share": 1.0,
    "faults": tuple(
        Fault(1.0 + turn, kind, ("n1",), amount)
        for turn, (kind, amount) in enumerate([("crash_in_write", 4.0), ("break_streams", 0.0), ("crash", 0.2)] * 3)
    ),
}
"""One node that dies again and again, and keyed clients that do not let go."""

ASKING = {"query_share": 0.4, "think_seconds": 0.05, "flush_share": 0.05, "work_seconds": 0.005}
"""Clients ask all the time, and flushes happen all the time."""

FAR = {"network": NetworkKind(latency_seconds=0.02)}
"""Two entries are agreed on one after the other, and far enough apart for a query to come between."""

APART = BUSY | {
    "key_share": 1.0,
    "clients": 8,
    "think_seconds": 0.02,
    "work_seconds": 0.02,
    "takeover_seconds_max": 0.0,
    "config": {"wal": {"idempotency_window_seconds": 60.0}},
    "faults": (
        *(Fault(0.5, "clock", (name,), 100.0 * nth) for nth, name in enumerate(("n1", "n2", "n3"))),
        *(Fault(2.0 + 1.7 * turn, "crash", ("writer",), 0.5) for turn in range(5)),
    ),
}
"""Nodes whose clocks are further apart than a key is remembered take over from each other."""

FLUSHING: tuple[Mutant, ...] = (
    by_story(
        "R-31",
        "cluster and catalog",
        "the flush mark moves before the files are registered",
        "world_registrar_leader_loss",
        Edit(
            REGISTRAR,
            "        command = RegisterFiles(files=tuple(files), flushed=tuple(flushed), epoch=self._epoch)\n",
            "        await self._until_known(RegisterFiles(files=(), flushed=tuple(flushed), epoch=self._epoch))\n"
            "        command = RegisterFiles(files=tuple(files), flushed=(), epoch=self._epoch)\n",
        ),
        # The catalog refuses files below a mark; that must go, too, or no flush would ever come to its end.
        Edit(
            "arc/catalog/manifest.py",
            "if file.last_sequence > 0 and not before < file.first_sequence <= file.last_sequence <= marks.get(\n"
            "            table, before\n        ):",
            "if False:",
        ),
        more=ASKING | FAR,
    ),
    by_story(
        "R-32",
        "cluster",
        "files are registered first and their flush mark moves after them",
        "world_registrar_leader_loss",
        Edit(
            REGISTRAR,
            "        command = RegisterFiles(files=tuple(files), flushed=tuple(flushed), epoch=self._epoch)\n",
            "        await self._until_known(RegisterFiles(files=tuple(files), flushed=(), epoch=self._epoch))\n"
            "        command = RegisterFiles(files=(), flushed=tuple(flushed), epoch=self._epoch)\n",
        ),
        Edit(
            "arc/catalog/manifest.py",
            "if file.last_sequence > 0 and not before < file.first_sequence <= file.last_sequence <= marks.get(\n"
            "            table, before\n        ):",
            "if False:",
        ),
        more=ASKING,
    ),
    by_story(
        "R-33",
        "query",
        "a file is visible while its rows are still answered from the buffer",
        "world_registrar_leader_loss",
        Edit(
            SNAPSHOT,
            "rows = () if self._buffered is None else self._buffered(*key, border)",
            "rows = () if self._buffered is None else self._buffered(*key, 0)",
        ),
        more=ASKING,
    ),
    by_story(
        "R-34",
        "storage and query",
        "rows are answered from files that are not here",
        "world_registrar_leader_loss",
        # Whether a file can be read is asked when rows retire, and again by every query.
        Edit(
            "arc/storage/coverage.py",
            "cut = min((file.first_sequence - 1 for file in above if not is_readable(file.path)), default=mark)",
            "cut = mark",
        ),
        Edit(SNAPSHOT, "            self._require_readable(files)\n", ""),
        Edit(
            SNAPSHOT,
            "            rows = () if",
            "            is_here = self._is_readable\n"
            "            files = tuple(file for file in files if is_here is None or is_here(file.path))\n"
            "            rows = () if",
        ),
        more=ASKING,
    ),
    by_tests(
        "R-35",
        "ingest",
        "rows retire before their file can be read here",
        ("tests/replication/test_stream.py", "-k", "rows_leave_a_follower"),
        Edit("arc/ingest/retirement.py", "self._buffer.forget(key, retired)", "self._buffer.forget(key, mark)"),
    ),
    by_story(
        "R-36",
        "ingest",
        "a flush takes rows above the high watermark",
        "world_asymmetric",
        Edit(
            REIGN,
            "admitted=lambda: self.durability.high",
            "admitted=lambda: house.log.next_sequence - 1",
        ),
        more=BUSY,
    ),
    by_story(
        "R-37",
        "ingest",
        "the log is released as far as rows are durable, flushed or not",
        "world_writer_loss",
        Edit(FLUSH, "below = below if oldest is None else min(oldest, below)", "pass"),
        more=ALONE,
    ),
    by_tests(
        "R-38",
        "duties",
        "a follower releases its log by the flush mark alone, before its files are here",
        ("tests/replication/test_copies.py",),
        Edit(
            REIGN,
            "below = min(visible + 1, retained_from(wal, config, able), kept.first(wal.first_sequence))",
            "below = min(visible + 1, retained_from(wal, config, able))",
        ),
    ),
    by_tests(
        "R-39",
        "replication",
        "a follower that begins anew gives up its log before its files are here",
        ("tests/replication/test_copies.py",),
        Edit(RECEIVER, "                await self._wait_needless(answer.first)\n", ""),
    ),
)

FILES: tuple[Mutant, ...] = (
    by_tests(
        "R-41",
        "replication",
        "a file that is not here is announced as held",
        ("tests/replication/test_announcing.py",),
        Edit(
            "arc/replication/announcing.py",
            "        if is_here(entry.path):\n            here.append(entry)\n",
            "        here.append(entry)\n",
        ),
    ),
    by_tests(
        "R-42",
        "catalog",
        "a forgotten node still counts as a holder",
        ("tests/catalog/test_holders.py", "tests/catalog/test_insync.py"),
        Edit(
            "arc/catalog/holders.py",
            "    shared = _Shared(node)\n    told",
            "    return Step(state=state)\n    shared = _Shared(node)\n    told",
        ),
    ),
    by_tests(
        "R-43",
        "replication",
        "a file that has a holder is taken for lost, and rescued",
        ("tests/replication/test_copies.py",),
        Edit(
            "arc/replication/copies.py",
            "found = [entry for entry in self._reaching(0) if not entry.holders]",
            "found = self._reaching(0)",
        ),
    ),
    by_tests(
        "R-44",
        "ingest",
        "a rescued file comes beside the lost one: its rows are doubled when that comes back",
        ("tests/ingest/test_rescue.py",),
        Edit(
            "arc/ingest/rescue.py",
            "remove=tuple((entry.path, entry.sha256) for entry in entries if entry.path in made),",
            "remove=(),",
        ),
    ),
    by_tests(
        "R-45",
        "replication",
        "a transfer resumes at a wrong offset",
        ("tests/replication/test_puller.py", "-k", "goes_on or gone_on"),
        Edit(
            "arc/replication/fetch.py",
            "question = cbor2.dumps([entry.path, entry.sha256, offset, wanted])",
            "question = cbor2.dumps([entry.path, entry.sha256, max(0, offset - 1), wanted])",
        ),
    ),
    by_tests(
        "R-46",
        "replication",
        "the hash of a small file is not checked when it is installed",
        ("tests/replication/test_puller.py",),
        Edit(TRANSFERS, "elif sha256 != entry.sha256:", "elif not sha256:"),
    ),
    by_tests(
        "R-47",
        "replication",
        "the hash of a large file is not checked when it is installed",
        ("tests/replication/test_puller.py",),
        Edit(
            "arc/replication/drafts.py",
            "return self.is_whole and self._hash.hexdigest() == self.entry.sha256",
            "return self.is_whole",
        ),
    ),
    by_tests(
        "R-48",
        "replication",
        "anti-entropy takes files of the manifest for leftovers",
        ("tests/replication/test_antientropy.py",),
        Edit(
            "arc/replication/antientropy.py",
            "return self._catalog().file(path) is not None or self._files.is_in_use(path)",
            "return self._files.is_in_use(path)",
        ),
    ),
    by_tests(
        "R-49",
        "replication",
        "the sweeper unlinks a file that the manifest has again",
        ("tests/replication/test_antientropy.py", "tests/storage/test_keeper.py"),
        Edit(
            "arc/replication/sweeper.py",
            "self._files.due_to_go(lambda path: self._catalog().file(path) is not None)",
            "self._files.due_to_go(lambda path: False)",
        ),
    ),
)

KEYS: tuple[Mutant, ...] = (
    by_story(
        "R-51",
        "ingest",
        "who takes over does not know the keys of the writes it followed",
        "world_writer_loss",
        Edit("arc/ingest/mirror.py", "            self._keys.note(header)\n", ""),
        more=BUSY | {"key_share": 1.0},
    ),
    by_story(
        "R-52",
        "ingest",
        "keys are not read back from the log",
        "world_writer_loss",
        Edit("arc/ingest/replay.py", "            keys.note(header)\n", ""),
        more=ALONE,
    ),
    by_tests(
        "R-53",
        "ingest",
        "keys go with the segment that held them",
        ("tests/ingest/test_intake.py", "-k", "key_survives"),
        Edit(FLUSH, "keys.below(below))", "keys.below(0))"),
    ),
    by_tests(
        "R-54",
        "ingest",
        "two settlements with one key: both are stored",
        ("tests/ingest/test_intake.py",),
        Edit(INTAKE, "if key and (twin := self._in_flight.get((database, key))) is not None:", "if False:"),
    ),
    by_tests(
        "R-55",
        "ingest",
        "a twin that was stored while this one was settled is not looked for",
        ("tests/ingest/test_intake.py", "-k", "twin"),
        Edit(
            INTAKE,
            "if key and (stored := self._keys.find(database, key)) is not None:",
            "if False and (stored := self._keys.find(database, key)) is not None:",
        ),
    ),
    by_story(
        "R-56",
        "api",
        "the router sends a write again without a key",
        "world_writer_loss",
        Edit(
            "arc/api/forward_request.py",
            'self._added_key = b"arc-" + self._means.rng.bytes(16).hex().encode()',
            "self._added_key = None",
        ),
        more=BUSY | {"key_share": 0.0},
    ),
    by_tests(
        "R-57",
        "api",
        "the router sends a write again that nobody could give a key",
        ("tests/api/test_forward.py", "-k", "not_safe or sent_once"),
        Edit(
            "arc/api/forward_request.py",
            "return not self._is_write or self._is_keyed",
            "return True",
        ),
        Edit(
            "arc/api/forward_request.py",
            "is_new_try = self._is_write and self._is_keyed and",
            "is_new_try = self._is_write and",
        ),
    ),
    by_story(
        "R-112",
        "ingest",
        "who asks again is told that all is stored, also what was refused",
        "world_writer_loss",
        Edit(INTAKE, "rows=known.rows, refused=refused)", "rows=known.rows)"),
        more=BUSY | {"key_share": 1.0, "bad_share": 1.0},
    ),
    by_story(
        "R-113",
        "ingest",
        "wall clocks say how old a key is, and a clock that is ahead makes all of them old",
        "world_writer_loss",
        Edit(INTAKE, "moment_us=self._keys.moment_us(self._clock.wall_us()),", "moment_us=self._clock.wall_us(),"),
        more=APART,
    ),
    by_story(
        "R-114",
        "ingest",
        "another write under a key that is known is taken for a retry, and answered as stored",
        "world_writer_loss",
        Edit(
            "arc/ingest/keys.py",
            "if known != fingerprint and NOT_KNOWN not in (known, fingerprint):",
            "if known < NOT_KNOWN:",
        ),
        more=BUSY | {"key_share": 1.0, "reuse_share": 0.2},
    ),
    by_story(
        "R-115",
        "ingest",
        "who followed or starts knows the keys of the log without what tells a retry from another write",
        "world_writer_loss",
        Edit(
            "arc/ingest/keys.py",
            "Remembered(header.position, header.rows, header.moment_us, header.fingerprint)",
            "Remembered(header.position, header.rows, header.moment_us)",
        ),
        more=BUSY | {"key_share": 1.0, "reuse_share": 0.2},
    ),
    by_story(
        "R-116",
        "cluster",
        "the clock of one node says alone that rows are too old",
        "world_years_ahead",
        Edit("arc/cluster/clocks.py", "return min([own_us, *told])", "return own_us"),
    ),
    by_tests(
        "R-117",
        "duties",
        "a strong query does not wait for what holders before may have acknowledged",
        ("tests/node/test_readiness.py",),
        Edit(
            "arc/node/readiness.py",
            "await self._rows.wait_admitted(self._rows.inherited_sequence)",
            "await trio.sleep(0)",
        ),
    ),
    by_story(
        "R-118",
        "cluster",
        "a writer whose disk stands still keeps the lease for as long as it is heard",
        "world_stalled_writer",
        Edit("arc/cluster/failover.py", "if holder.is_stalled and policy.look_seconds is not None:", "if False:"),
    ),
    by_tests(
        "R-119",
        "cluster",
        "a node whose disk stands still is asked to finish first before its lease goes elsewhere",
        ("tests/cluster/test_failover.py",),
        Edit("arc/cluster/failover.py", "(view) and not view.is_stalled", "(view)"),
    ),
    by_tests(
        "R-120",
        "duties",
        "a node whose disk stands still lets writes in, which can only wait",
        ("tests/node/test_doors.py",),
        Edit("arc/duties/doors.py", 'self.close("disk", f"a', 'str(f"a'),
    ),
    by_story(
        "R-121",
        "replication",
        "whoever is slow leaves the in-sync set, though nothing is acknowledged without it",
        "world_narrow_writer",
        Edit("arc/replication/insync.py", "kept = kept | set(slow[: max(0, least - len(kept))])", "pass"),
    ),
    by_tests(
        "R-122",
        "replication",
        "a follower gives a session up in the middle of a long message, and gets all of it again",
        ("tests/replication/test_receiver.py",),
        Edit(RECEIVER, "max(since + seconds, self._progress_at + SILENCE_SECONDS)", "since + seconds"),
    ),
    by_tests(
        "R-123",
        "replication",
        "a follower confirms what its log has before it knows that the holder has the same",
        ("tests/replication/test_receiver.py",),
        Edit(RECEIVER, "if self._is_aligned and is_due", "if is_due"),
    ),
    by_tests(
        "R-124",
        "replication",
        "what a line carries is learnt anew with every file, and more is asked for than comes in time",
        ("tests/replication/test_puller.py",),
        Edit(TRANSFERS, "line = self._lines[holder] = Line(", "line = Line("),
    ),
)
