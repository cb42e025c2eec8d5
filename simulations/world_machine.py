"""A simulated machine: a disk and clocks that stay, and one process after another that runs `arc.node.run_node`.

A supervisor starts the process, waits for its end and starts the next one, as systemd does. A process ends in one of
three ways: it was told to stop, it was killed (then everything it is still doing fails, and nothing of it may remain),
or it gave up by itself, which is right only after its disk had failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import trio

from arc.api.acts import RECORD_SECONDS
from arc.config import Config
from arc.errors import DiskFailed, OutcomeUnknown, Overloaded
from arc.node import Started, run_node
from arc.telemetry import Event, Log, RingSink
from simulations.chance import stream
from simulations.checkers.violation import Violation
from simulations.clock import Group, Tasks
from simulations.world_disk import Platter, Session
from simulations.world_network import Fabric
from simulations.world_plan import WorldPlan
from simulations.world_ports import MachineClock, Workers, make_ports
from simulations.world_store import Bucket, Door
from simulations.world_trace import Trace

DEATH_SECONDS = RECORD_SECONDS + 1.0
"""Longest time, in the simulated world, that the tasks of a killed process need to be gone (V-10). A process that is
really killed has none; here one that is about to put an act on record shields that from its cancellation.
"""

RESPAWN_SECONDS = 0.5
"""Pause of the supervisor after a process gave up."""


class World(Protocol):
    """What a machine needs of its world."""

    plan: WorldPlan
    trace: Trace
    fabric: Fabric
    tasks: Tasks
    bucket: Bucket | None

    def fail(self, violation: Violation) -> None:
        """A property is broken: the run ends."""
        ...

    def gone(self, machine: Machine) -> None:
        """It was killed just now."""
        ...

    def started(self, machine: Machine) -> None:
        """Its node says that it is ready."""
        ...

    def spawn(self, what: Callable[[], Awaitable[None]]) -> None:
        """Run something beside everything else."""
        ...


class Process:
    """One life of a node."""

    def __init__(self, machine: Machine, life: int, seed: int) -> None:
        plan, trace = machine.world.plan, machine.world.trace
        self.machine = machine
        self.name = f"{machine.name}.{life}"
        self.group = Group(self.name)
        self.session: Session = machine.platter.session(machine.die_in_write)
        chance = stream(seed, f"workers/{self.name}")
        self.workers = Workers(self.name, plan.threads, plan.work_seconds, chance, trace)
        self.ports = make_ports(
            machine=machine.name,
            life=life,
            seed=seed,
            clock=machine.clock,
            fabric=machine.world.fabric,
            disk=self.session,
            workers=self.workers,
        )
        bucket = machine.world.bucket
        self.objects = Door(bucket, self.session) if bucket is not None else None
        self.scope = trio.CancelScope()
        self.stop = trio.Event()
        self.is_ready = False
        self.killed_at: float | None = None
        self.failure: BaseException | None = None

    async def main(self) -> None:
        """The root task of the process."""
        machine = self.machine
        machine.world.tasks.adopt(self.group)
        ring = RingSink(200)
        log = Log([ring, _LogTrace(self.name, machine.world.trace)], self.ports.clock.wall_us)
        try:
            with self.scope:
                await run_node(
                    machine.config,
                    self.ports,
                    log,
                    ring,
                    version="sim",
                    on_started=self._started,
                    stop=self.stop,
                    objects=self.objects,
                )
        except Violation as violation:
            machine.world.fail(violation)
        except Exception as error:
            self.failure = error
        except BaseExceptionGroup as group:
            rest = group.split(trio.Cancelled)[1]
            if rest is None or self.killed_at is None:
                raise
            self.failure = rest

    def _started(self, started: Started) -> None:
        self.is_ready = True
        self.machine.world.trace.note(self.name, "ready", started.recovered_rows)
        self.machine.world.started(self.machine)


class Machine:
    """One machine of a world. ``config`` is its node's configuration."""

    def __init__(
        self, world: World, name: str, config: Config, platter: Platter, clock: MachineClock, *, is_wanted: bool = True
    ) -> None:
        self.world = world
        self.name = name
        self.config = config
        self.platter = platter
        self.clock = clock
        self.process: Process | None = None
        self.lives = 0
        self.is_wanted = is_wanted
        self._off_seconds = 0.0
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Machine {self.name} life={self.lives} {'up' if self.process else 'down'}>"

    @property
    def is_ready(self) -> bool:
        """Whether a node runs here and has said that it is ready."""
        process = self.process
        return process is not None and process.is_ready and process.killed_at is None

    # ---- what may happen to it

    def kill(self, off_seconds: float, *, is_power: bool = False) -> None:
        """The process, or the machine with ``is_power``, stops between two instructions; it is back after a while."""
        process = self.process
        if is_power:
            self.platter.lose_power()
        if process is None or process.killed_at is not None:
            return
        process.killed_at = trio.current_time()
        self._off_seconds = off_seconds
        self.world.trace.note(process.name, "power_cut" if is_power else "killed")
        self.world.gone(self)
        process.workers.kill(process.session)
        process.session.kill()
        self.world.fabric.process_died(self.name, is_machine_down=is_power)
        process.group.thaw()
        process.scope.cancel()

        async def watch() -> None:
            await trio.sleep(DEATH_SECONDS)
            if process.group.alive:
                self.world.fail(Violation("V-10", "tasks outlive their process", process.group))

        self.world.spawn(watch)

    def die_in_write(self) -> None:
        """The disk says that the process was killed in the middle of a write."""
        self.kill(RESPAWN_SECONDS)

    def pause(self) -> None:
        """SIGSTOP."""
        if self.process is not None and self.process.killed_at is None:
            self.process.group.freeze()

    def resume(self) -> None:
        """SIGCONT."""
        if self.process is not None and self.process.group.is_frozen:
            self.process.group.thaw()

    def order_stop(self, off_seconds: float = 0.0) -> None:
        """SIGTERM."""
        if self.process is not None:
            self._off_seconds = off_seconds
            self.process.stop.set()

    def want(self, is_wanted: bool) -> None:
        """Whether the supervisor starts processes."""
        self.is_wanted = is_wanted
        self._changed.set()
        self._changed = trio.Event()

    # ---- the supervisor

    async def live(self) -> None:
        """Run one process after another, for ever."""
        while True:
            while not self.is_wanted:
                await self._changed.wait()
            self.lives += 1
            self.world.fabric.machine_up(self.name)
            self.process = process = Process(self, self.lives, self.world.plan.seed)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.main)
            self._judge(process)
            process.session.kill()
            process.session.forget_mirror()
            if process.killed_at is None:
                self.world.fabric.process_died(self.name, is_machine_down=False)
            self.process = None
            off, self._off_seconds = self._off_seconds, 0.0
            await trio.sleep(off if off or process.failure is None else RESPAWN_SECONDS)

    def _judge(self, process: Process) -> None:
        failure = process.failure
        for leaf in _leaves(failure) if failure is not None else ():
            if isinstance(leaf, Violation):
                self.world.fail(leaf)
                return
        if process.group.alive:
            self.world.fail(Violation("V-10", "tasks outlive their process", process.group))
        if failure is None:
            if process.killed_at is None and not process.stop.is_set():
                self.world.fail(Violation("W-07", "the node ended and nobody asked for it", process.name))
            return
        told = sorted(f"{type(leaf).__name__}: {leaf}" for leaf in _leaves(failure))
        if process.killed_at is not None:
            return
        self.world.trace.note(process.name, "gave_up", *(each.split(":")[0] for each in told))
        self.world.trace.probe("node_gave_up")
        session = process.session
        bad_disk = session.failures and all(isinstance(leaf, DiskFailed | OSError) for leaf in _leaves(failure))
        full_disk = session.refusals and not process.is_ready and _is_full(failure)
        if not (bad_disk or full_disk):
            violation = Violation("W-07", "the node gave up without reason", process.name, *told)
            violation.__cause__ = failure
            self.world.fail(violation)


class _LogTrace:
    """What nodes log is part of the trace by its name: a difference shows early there."""

    def __init__(self, name: str, trace: Trace) -> None:
        self._name = name
        self._trace = trace

    def write(self, event: Event) -> None:
        self._trace.note(self._name, "log", event.component, event.message)


def _is_full(failure: BaseException) -> bool:
    return all(isinstance(leaf, Overloaded | OutcomeUnknown | OSError) for leaf in _leaves(failure))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error
