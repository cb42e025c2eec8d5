"""P-09: a flushed file waits for its registration as long as it takes, and is registered once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from arc.catalog.commands import COMPACTOR, WRITER, AssignLease, Command, FlushMark, ReplaceFiles
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.catalog.values import DeleteSource
from arc.cluster.bridge import CompactionBridge
from arc.cluster.registrar import FileRegistrar
from arc.errors import Conflict, NoLeaderKnown, NotCoordinator, OutcomeUnknown
from arc.ids import Epoch, NodeId
from arc.telemetry import Log, RingSink
from tests.catalog.facts import do, file, paths, ready, register


class Scripted:
    """Proposals that go as told, one word each, and then well."""

    def __init__(self, fsm: ClusterFSM, *script: str) -> None:
        self.fsm = fsm
        self.script = list(script)
        self.commands: list[Command] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.held: trio.Event | None = None

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        self.commands.append(command)
        if self.held is not None:
            await self.held.wait()
        word = self.script.pop(0) if self.script else "fine"
        if word == "no leader":
            raise NoLeaderKnown("no leader is known now")
        if word == "lost":
            raise OutcomeUnknown("no answer")
        result = self.fsm.apply(self.fsm.catalog.index + 1, command).result
        if word == "answer lost":
            self.meanwhile()
            raise OutcomeUnknown("no answer")
        return result


def registrar(propose: Scripted, log: Log, epoch: int = 1, pending_files_max: int = 4) -> FileRegistrar:
    fsm = propose.fsm
    return FileRegistrar(propose, lambda: fsm.catalog, Epoch(epoch), log, pending_files_max=pending_files_max)


F = file("f", first=1, last=3)
MARK = FlushMark("metrics", "cpu", 3)
NEXT = AssignLease(lease=WRITER, node=NodeId("n2"), expect_epoch=1, accepts_data_loss=True)


@pytest.mark.parametrize(
    "script", [(), ("no leader",) * 9, ("lost", "no leader"), ("answer lost",), ("answer lost",) * 3]
)
async def test_a_file_stays_pending_until_its_registration_is_committed(
    script: tuple[str, ...], log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    propose = Scripted(ready(), *script)
    door = registrar(propose, log)
    await door.register([F], [MARK])
    assert paths(propose.fsm.catalog) == [F.path] and propose.fsm.catalog.mark("metrics", "cpu") == 3
    numbers = door.statistics()
    assert (numbers.registered_files_total, numbers.pending_files, numbers.waiting) == (1, 0, 0)
    assert numbers.settled_files_total == ("answer lost" in script)


async def test_a_lost_answer_is_settled_though_the_file_was_merged_already(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    """Its mark stands, and in this epoch nobody else moved it: asking again would count its rows twice."""
    propose = Scripted(ready(), "answer lost")
    compactor = do(propose.fsm, AssignLease(lease=COMPACTOR, node=NodeId("n1"), expect_epoch=0)).index

    def merge() -> None:
        merged = file("m", first=1, last=3, sha256="6" * 64)
        remove = ((F.path, F.sha256),)
        do(propose.fsm, ReplaceFiles(remove=remove, add=(merged,), lease=COMPACTOR, epoch=compactor))

    propose.meanwhile = merge
    door = registrar(propose, log)
    await door.register([F], [MARK])
    assert door.statistics().settled_files_total == 1 and len(paths(propose.fsm.catalog)) == 1


@pytest.mark.parametrize("script", [(), ("lost",), ("no leader", "lost")])
async def test_when_the_epoch_is_over_a_registration_is_refused_for_good(
    script: tuple[str, ...], log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    """P-16. Its rows are the next writer's, who has them in his own log."""
    propose = Scripted(ready(), *script)
    do(propose.fsm, NEXT)
    door = registrar(propose, log)
    with pytest.raises(Conflict) as refused:
        await door.register([F], [MARK])
    assert refused.value.code == "stale_epoch" and paths(propose.fsm.catalog) == []
    assert door.statistics().refused_files_total == 1


async def test_an_attempt_that_committed_before_the_epoch_ended_counts(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    propose = Scripted(ready(), "answer lost")
    propose.meanwhile = lambda: void(do(propose.fsm, NEXT))
    await registrar(propose, log).register([F], [MARK])
    assert paths(propose.fsm.catalog) == [F.path]


async def test_too_many_pending_files_push_back_and_none_is_dropped(log: Log) -> None:
    propose = Scripted(ready())
    propose.held = trio.Event()
    door = registrar(propose, log, pending_files_max=4)
    files = [file(f"f{number}") for number in range(9)]
    async with trio.open_nursery() as nursery:
        for part in (files[0:3], files[3:4], files[4:6], files[6:9]):
            nursery.start_soon(door.register, part, [])
            await trio.testing.wait_all_tasks_blocked()
        numbers = door.statistics()
        assert (numbers.pending_files, numbers.waiting, len(propose.commands)) == (4, 4, 2), "two wait outside"
        assert numbers.document() == {"enqueued": 4, "applied": 0, "dropped": 0, "apply_errs": 0, "queue_depth": 4}
        propose.held.set()
    assert len(paths(propose.fsm.catalog)) == 9
    assert door.statistics().document()["applied"] == 9


async def test_more_files_than_may_wait_go_alone(log: Log) -> None:
    propose = Scripted(ready())
    await registrar(propose, log, pending_files_max=2).register([file(f"f{number}") for number in range(5)], [])
    assert len(paths(propose.fsm.catalog)) == 5 and len(propose.commands) == 1


async def test_a_cancelled_registration_leaves_its_place(log: Log) -> None:
    propose = Scripted(ready())
    propose.held = trio.Event()
    door = registrar(propose, log, pending_files_max=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.register, [file("a")], [])
        nursery.start_soon(door.register, [file("b")], [])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    propose.held = None
    await door.register([file("c")], [])
    assert door.statistics().pending_files == 0 and door.statistics().waiting == 0


# ---------------------------------------------------------------------------------------------------- compaction bridge


class Job:
    """A compactor ``n3`` in epoch 3 of its lease, with two sources in the manifest."""

    def __init__(self, log: Log, *script: str) -> None:
        self.fsm = ready()
        do(self.fsm, AssignLease(lease=COMPACTOR, node=NodeId("n3"), expect_epoch=0))
        self.sources = (file("s1", first=1, last=1), file("s2", first=2, last=2))
        do(self.fsm, register(*self.sources, mark=2))
        self.propose = Scripted(self.fsm, *script)
        fsm = self.fsm
        self.bridge = CompactionBridge(self.propose, lambda: fsm.catalog, Epoch(3), node=NodeId("n3"), log=log)
        self.output = file("out", first=1, last=2, sha256="7" * 64)

    @property
    def deletes(self) -> list[DeleteSource]:
        return [DeleteSource(path=each.path, reason="compaction:j1") for each in self.sources]

    async def swap(self) -> None:
        await self.bridge.batch_file_ops([self.output], self.deletes)


async def test_one_manifest_is_one_entry_and_its_output_is_of_this_node(log: Log, events: RingSink) -> None:
    job = Job(log)
    await job.swap()
    assert len(job.propose.commands) == 1
    (entry,) = job.fsm.catalog.all_files()
    assert (entry.path, entry.origin) == (job.output.path, "n3")
    assert events.select(limit=1)[0].fields["reasons"] == ["compaction:j1"]


async def test_an_empty_manifest_is_no_entry(log: Log) -> None:
    job = Job(log)
    await job.bridge.batch_file_ops([], [])
    assert job.propose.commands == []


async def test_without_a_leader_a_job_is_told_to_come_back_and_nothing_changed(log: Log) -> None:
    job = Job(log, "no leader")
    with pytest.raises(NotCoordinator):
        await job.swap()
    assert len(paths(job.fsm.catalog)) == 2 and job.bridge.statistics().not_leader_total == 1
    await job.swap()
    assert paths(job.fsm.catalog) == [job.output.path]


async def test_a_job_whose_answer_was_lost_asks_again_and_is_told_that_it_stands(log: Log) -> None:
    job = Job(log, "answer lost")
    with pytest.raises(OutcomeUnknown):
        await job.swap()
    await job.swap()
    assert len(job.propose.commands) == 1 and job.bridge.statistics().standing_total == 1


async def test_a_compactor_that_was_replaced_changes_nothing(log: Log) -> None:
    """P-22."""
    job = Job(log)
    do(job.fsm, AssignLease(lease=COMPACTOR, node=NodeId("n4"), expect_epoch=3))
    with pytest.raises(Conflict) as refused:
        await job.swap()
    assert refused.value.code == "stale_epoch" and len(paths(job.fsm.catalog)) == 2


async def test_an_output_of_a_source_that_somebody_removed_is_void(log: Log) -> None:
    """Its rows were deleted; the output would bring them back."""
    job = Job(log)
    await job.bridge.delete_compacted_source(job.sources[0].path, "retention")
    with pytest.raises(Conflict) as refused:
        await job.swap()
    assert refused.value.code == "file_gone" and paths(job.fsm.catalog) == [job.sources[1].path]


async def test_single_calls_register_and_delete_and_a_source_that_is_gone_is_fine(log: Log) -> None:
    job = Job(log)
    await job.bridge.register_compacted_file(job.output)
    for _ in range(2):
        await job.bridge.delete_compacted_source(job.sources[0].path, "compaction:j1")
    assert sorted(paths(job.fsm.catalog)) == sorted([job.output.path, job.sources[1].path])
    numbers = job.bridge.statistics()
    assert (numbers.register_calls_total, numbers.delete_calls_total, numbers.entries_total) == (1, 2, 2)


def void(result: Result) -> None:
    assert result.ok
