"""Planted bugs of what a 204 rests on: the watermark, the in-sync set, the stream between nodes, epochs and leases.

Where a comment says what else protects, the bug is planted in both places, since one alone changes nothing.
"""

from __future__ import annotations

from simulations.mutants.mutant import Mutant
from simulations.mutants.planting import Edit, by_story, by_tests
from simulations.plan import Fault

DURABILITY = "arc/replication/durability.py"
WATERMARK = "arc/replication/watermark.py"
RECEIVER = "arc/replication/receiver.py"
SENDER = "arc/replication/sender.py"
REIGN = "arc/duties/reign.py"

BUSY = {"think_seconds": 0.03, "clients": 4, "query_share": 0.05, "work_seconds": 0.01}
"""Quick clients and slow disks, so that somebody is always in the middle of a write."""

LATE = {
    "faults": (Fault(1.5, "isolate", ("n3",), 3.0), Fault(4.6, "crash", ("writer",), 8.0)),
    "takeover_seconds_max": 0.0,
}
"""The writer dies in the moment in which a node is back that has left the in-sync set."""

ASKED_AGAIN = {
    "size": 2,
    "seconds": 9.0,
    "clients": 8,
    "think_seconds": 0.1,
    "delete_share": 0.6,
    "config": {"delete": {"enabled": True}},
    "faults": (
        Fault(0.5, "slow_disk", ("n2",), 100.0),
        *(Fault(1.0 + 1.2 * turn, "crash", ("n1",), 0.05) for turn in range(6)),
    ),
}
"""A node asks another one that is slow, and is started again and again meanwhile."""

ACKNOWLEDGING: tuple[Mutant, ...] = (
    by_story(
        "R-01",
        "replication",
        "a write is acknowledged when the holder has it, before the in-sync set does",
        "world_writer_loss",
        Edit(DURABILITY, 'reached = end if self._level == "local" else self._watermark.high', "reached = end"),
    ),
    by_story(
        "R-02",
        "replication",
        "the high watermark is the end of the holder's log",
        "world_writer_loss",
        Edit(WATERMARK, "min(map(self.durable, self.counted))", "self.durable(self._me)"),
    ),
    by_tests(
        "R-03",
        "replication",
        "the high watermark counts as many nodes as the set has, members or not",
        ("tests/replication/test_watermark.py",),
        Edit(
            WATERMARK,
            "min(map(self.durable, self.counted))",
            "sorted(self._durable.values(), reverse=True)[: len(self.counted)][-1]",
        ),
    ),
    by_tests(
        "R-04",
        "replication",
        "wal.min_insync is ignored",
        ("tests/replication/test_stream.py", "-k", "too_few"),
        Edit(DURABILITY, "if there >= wanted:", "if there >= min(1, wanted):"),
    ),
    by_story(
        "R-05",
        "replication",
        "a follower confirms records before they are on its disk",
        "world_writer_loss",
        Edit(
            RECEIVER,
            "            await self._store(expected, records)\n",
            "            ack = Ack(epoch=self._epoch, session=self._session, durable=expected + len(records) - 1)\n"
            "            self._post(self._holder, encode(ack), is_bulk=False)\n"
            "            await self._store(expected, records)\n",
        ),
    ),
    by_story(
        "R-06",
        "replication",
        "the holder counts what it sent, not what was confirmed",
        "world_writer_loss",
        Edit(
            SENDER,
            "self._durability.wrote(peer, ack.durable)",
            "self._durability.wrote(peer, follower.next - 1)",
        ),
    ),
    by_story(
        "R-07",
        "duties",
        "a reign begins with all of its log below the watermark",
        "world_writer_loss",
        Edit(REIGN, "high=house.visibility.through", "high=house.log.next_sequence - 1"),
        more=BUSY,
    ),
    by_story(
        "R-08",
        "replication",
        "a follower shows rows above the high watermark",
        "world_writer_loss",
        Edit(RECEIVER, "self._rows.show(min(self._high, here))", "self._rows.show(here)"),
    ),
    by_tests(
        "R-09",
        "duties",
        "a holder goes on acknowledging after its lease",
        ("tests/replication/test_takeover.py", "-k", "runs_out"),
        Edit(
            "arc/duties/doors.py",
            "            acknowledging.pause(reason)\n            self.close",
            "            self.close",
        ),
    ),
    by_tests(
        "R-10",
        "ingest",
        "a retry is answered from a record that is not durable everywhere",
        ("tests/replication/test_takeover.py", "tests/ingest/test_intake.py", "-k", "not_durable_everywhere or twin"),
        Edit(
            "arc/ingest/intake.py",
            "if known.position.sequence > self._answered_through:",
            "if known.position.sequence > self._log.next_sequence:",
        ),
    ),
)

IN_SYNC: tuple[Mutant, ...] = (
    by_story(
        "R-11",
        "replication",
        "the set shrinks when it is asked for, not when it is agreed on",
        "world_asymmetric",
        Edit(WATERMARK, "else self._agreed | self._proposed", "else self._proposed"),
        more=BUSY,
    ),
    by_tests(
        "R-12",
        "replication",
        "who is being taken in counts only once that is agreed on",
        ("tests/replication/test_watermark.py", "-k", "new_member or never_passes"),
        Edit(WATERMARK, "else self._agreed | self._proposed", "else self._agreed"),
    ),
    by_story(
        "R-13",
        "replication",
        "the set grows too early: whoever is connected joins",
        "world_joins",
        Edit(
            "arc/replication/insync.py",
            "known.is_connected and known.durable >= high and not lags(name)",
            "known.is_connected",
        ),
    ),
    by_tests(
        "R-14",
        "replication",
        "a change of the set that may have come true is given up at the next refusal",
        ("tests/replication/test_keeper.py",),
        Edit("arc/replication/keeper.py", "is_known = not may_have_happened", "is_known = True"),
    ),
    by_tests(
        "R-15",
        "catalog",
        "the epoch of a change of the in-sync set is ignored",
        ("tests/catalog/test_insync.py",),
        Edit(
            "arc/catalog/insync.py",
            "    require_epoch(leases, WRITER, command.epoch)\n"
            '    assert state is not None and state.epoch == command.epoch, "the set begins with the reign"\n',
            "    assert state is not None\n",
        ),
    ),
    by_tests(
        "R-16",
        "catalog",
        "the in-sync set changes without compare-and-set",
        ("tests/catalog/test_insync.py",),
        Edit(
            "arc/catalog/insync.py",
            "if tuple(sorted(command.expect_members)) != state.members:",
            "if not command.expect_members:",
        ),
    ),
    by_tests(
        "R-17",
        "catalog",
        "the old holder stays in the in-sync set of the next reign",
        ("tests/catalog/test_insync.py",),
        Edit(
            "arc/catalog/insync.py",
            "kept = (name for name in old if name != previous or name == holder)",
            "kept = (name for name in old)",
        ),
    ),
)

STREAM: tuple[Mutant, ...] = (
    by_tests(
        "R-18",
        "replication",
        "the receiver takes records of another epoch",
        ("tests/replication/test_receiver.py",),
        # Alone it changes little: a session's number is drawn anew each time, and guards the same.
        Edit(RECEIVER, "if peer != self._holder or message.epoch != self._epoch:", "if peer != self._holder:"),
    ),
    by_story(
        "R-19",
        "ingest",
        "the tail that was cut from the log stays in the buffer",
        "world_asymmetric",
        Edit(
            "arc/ingest/mirror.py",
            "        self._buffer.cut(first)\n",
            "",
        ),
        more=BUSY,
    ),
    by_story(
        "R-20",
        "replication",
        "the tail is cut from the buffer, and not from the log on the disk",
        "world_asymmetric",
        Edit("arc/replication/log.py", "        await self._storage.cut(first)\n", ""),
        more=BUSY,
    ),
    by_tests(
        "R-21",
        "ingest",
        "keys of records that were cut are remembered",
        ("tests/replication/test_takeover.py", "-k", "deposed"),
        Edit("arc/ingest/mirror.py", "        self._keys.cut(first)\n", ""),
    ),
    by_story(
        "R-22",
        "replication",
        "the stream resumes where the follower's log ends, not where the two logs part",
        "world_asymmetric",
        Edit(SENDER, "follower.next = common if common is not None else hello.next", "follower.next = hello.next"),
        more=BUSY,
    ),
    by_tests(
        "R-23",
        "replication",
        "records are taken before their schema is known here",
        ("tests/replication/test_stream.py", "-k", "schema"),
        Edit(RECEIVER, "            await self._wait_index(catalog_index)\n", ""),
    ),
)

LEASES: tuple[Mutant, ...] = (
    by_story(
        "R-24",
        "cluster and catalog",
        "the lease goes to a node that is not in sync",
        "world_writer_loss",
        # Who chooses and who applies both ask, and the longest log is chosen first.
        Edit(
            "arc/cluster/candidates.py",
            "return (0, -view.stats.durable_sequence, view.name)",
            "return (0, view.stats.durable_sequence, view.name)",
        ),
        Edit(
            "arc/cluster/candidates.py",
            "if lease == WRITER and catalog.in_sync is not None and record.name not in catalog.in_sync.members:",
            "if False:",
        ),
        Edit("arc/catalog/fsm.py", "if not is_clean and not command.accepts_data_loss:", "if False:"),
        Edit(
            "arc/catalog/fsm.py",
            "is_clean = in_sync is None or lease.holder in in_sync.members",
            "is_clean = True",
        ),
        more=LATE,
    ),
    by_tests(
        "R-25",
        "cluster",
        "failover chooses a node that is not in sync",
        ("tests/cluster/test_failover.py",),
        Edit(
            "arc/cluster/candidates.py",
            "if lease == WRITER and catalog.in_sync is not None and record.name not in catalog.in_sync.members:",
            "if False:",
        ),
    ),
    by_tests(
        "R-26",
        "catalog",
        "the lease may go to who is no member of the cluster",
        ("tests/catalog/test_insync.py", "tests/catalog/test_fsm.py"),
        Edit("arc/catalog/leases.py", "    _require_able(command, nodes)\n", ""),
    ),
    by_tests(
        "R-27",
        "catalog",
        "files are registered under an old epoch",
        ("tests/catalog/test_manifest.py", "tests/cluster/test_registrar.py"),
        Edit("arc/catalog/leases.py", "    if epoch != current:\n", "    if epoch > current:\n"),
    ),
    by_tests(
        "R-28",
        "duties",
        "a hand-over waits neither for the writes inside nor until the next holder has every record",
        ("tests/replication/test_takeover.py", "-k", "hand_over"),
        # Each alone does: who is in sync has all that was answered, and what is answered last is what is copied last.
        Edit(
            "arc/duties/writer.py",
            "            await self._reign.intake.drain()\n            await self._reign.wait_copied(target)\n",
            "            await trio.lowlevel.checkpoint()\n",
        ),
    ),
)

CALLS: tuple[Mutant, ...] = (
    by_story(
        "R-106",
        "cluster",
        "an answer goes to whoever has the name now, whoever asked: a later life has a question of that number, too",
        "world_writer_loss",
        Edit("arc/cluster/calls.py", "is_over = self._sessions_over[peer.name] != session", "is_over = False"),
        more=ASKED_AGAIN,
    ),
    by_tests(
        "R-107",
        "raft",
        "a snapshot that is on its way to somebody is removed when two newer ones are there",
        ("tests/raft/test_snapshots.py",),
        Edit("arc/raft/snapshots.py", "if index < kept[0] and index not in keep:", "if index < kept[0]:"),
    ),
    by_tests(
        "R-108",
        "raft",
        "the log behind a snapshot that is on its way is cut as if nobody would need it",
        ("tests/raft/test_core_snapshots.py",),
        Edit("arc/raft/snapshot.py", "if held < least and _is_being_rebuilt(state, progress):", "if False:"),
    ),
    by_tests(
        "R-109",
        "duties",
        "a holder that was replaced and has not heard of it says which rows there are to delete",
        ("tests/replication/test_takeover.py",),
        Edit("arc/duties/reign.py", "        await self._house.confirm()\n", ""),
    ),
    by_tests(
        "R-110",
        "api",
        "a file of which some rows are stored is refused as if none were",
        ("tests/api/test_imports.py",),
        Edit("arc/api/imports.py", "if isinstance(error, Unavailable):  # That is: nothing happened.", "if False:"),
    ),
    by_tests(
        "R-111",
        "api",
        "a node that became the holder refuses as if nothing had happened what it had sent to the last one",
        ("tests/api/test_forward.py",),
        Edit(
            "arc/api/forward_request.py",
            "if self._stored_maybe_at is not None and isinstance(worst(error), Unavailable):",
            "if False:",
        ),
    ),
)
