"""Clock, chance and workers of a simulated process; with its disk session and its place in the network, its `Ports`.

A worker runs its function in place, all at once, between two pauses: in the first one nothing has happened, in the
second it has happened and nobody knows. A process that dies in the first pause may still have got a part of it
done: the function is then run on a disk that dies in the middle. A stalled disk makes both pauses longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from arc.ports import Load, Ports
from simulations.chance import Stream, stream
from simulations.world_disk import Dead, Session
from simulations.world_network import Fabric, Handler
from simulations.world_trace import Trace

T = TypeVar("T")

EPOCH_US = 1_780_000_000_000_000
"""When the simulated world begins, in microseconds since 1970."""

PARTIAL_OPERATIONS_MAX = 6
"""How far a function gets, in writes, that was under way when its process was killed."""


class MachineClock:
    """The clocks of one machine: a wall clock with offset (seconds) and rate, and a monotonic one with the same rate
    that begins somewhere else at every boot."""

    def __init__(self, rate: float, offset: float, chance: Stream) -> None:
        self._rate = rate
        self._offset = offset
        self._chance = chance
        self._since = 0.0

    def boot(self) -> None:
        """The monotonic clock begins anew."""
        self._since = self._chance.uniform(10.0, 100_000.0) - trio.current_time() * self._rate

    def jump(self, seconds: float) -> None:
        """Move the wall clock."""
        self._offset += seconds

    def now(self) -> float:
        """Monotonic seconds."""
        return self._since + trio.current_time() * self._rate

    def wall_us(self) -> int:
        """Microseconds since 1970."""
        return EPOCH_US + round((self._offset + trio.current_time() * self._rate) * 1e6)


class Workers:
    """`arc.ports.Workers` of one process."""

    def __init__(self, name: str, threads: int, seconds: float, chance: Stream, trace: Trace) -> None:
        self._name = name
        self._threads = trio.CapacityLimiter(threads)
        self._seconds = seconds
        self._chance = chance
        self._trace = trace
        self._changed = trio.Event()
        self._jobs: list[_Job] = []
        self._stalled_until = 0.0
        self.slow = 1.0
        self.is_dead = False

    def load(self) -> Load:
        """An idle machine."""
        return Load(cpu_seconds=0.0, memory_bytes=1 << 27, memory_total_bytes=1 << 33, cores=2)

    def stall(self, seconds: float) -> None:
        """No function begins or returns for so long."""
        self._stalled_until = trio.current_time() + seconds

    def calm(self) -> None:
        """The disk is neither slow nor stalled any more."""
        self.slow, self._stalled_until = 1.0, 0.0
        self._changed.set()
        self._changed = trio.Event()

    def kill(self, session: Session) -> None:
        """The process dies: functions that wait to begin may get a part of their work done, none returns."""
        self.is_dead = True
        for job in list(self._jobs):
            if not job.has_begun and not session.is_dead and self._chance.random() < 0.5:
                job.has_begun = True
                session.die_at(self._chance.randrange(PARTIAL_OPERATIONS_MAX))
                try:
                    job.work()
                except Exception as error:
                    self._trace.note(self._name, "died_in", job.name, type(error).__name__)
        self._changed.set()

    async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
        """Run a function. With ``abandon_on_cancel`` one that has not begun when the caller is cancelled never does."""
        if self.is_dead:
            raise Dead
        owner = object()
        await self._threads.acquire_on_behalf_of(owner)
        job = _Job(lambda: fn(*args), getattr(fn, "__qualname__", type(fn).__name__))
        self._jobs.append(job)
        try:
            with trio.CancelScope(shield=not abandon_on_cancel):
                await self._pause()
                if self.is_dead:
                    raise Dead
                job.has_begun = True
                self._trace.note(self._name, "work", job.name)
                try:
                    result = fn(*args)
                finally:
                    await self._pause()
                    if self.is_dead:
                        raise Dead
            return result
        finally:
            self._jobs.remove(job)
            self._threads.release_on_behalf_of(owner)

    async def _pause(self) -> None:
        due = trio.current_time() + self._seconds * self.slow * self._chance.expovariate(1.0)
        while not self.is_dead and trio.current_time() < max(due, self._stalled_until):
            with trio.move_on_at(max(due, self._stalled_until)):
                await self._changed.wait()


class _Job:
    """A function that was handed to a worker."""

    __slots__ = ("has_begun", "name", "work")

    def __init__(self, work: Callable[[], object], name: str) -> None:
        self.work = work
        self.name = name
        self.has_begun = False


class ProcessNetwork:
    """`arc.ports.Network` of one process; port numbers belong to its machine, whatever the host is called."""

    def __init__(self, machine: str, fabric: Fabric) -> None:
        self._machine = machine
        self._fabric = fabric

    async def serve_tcp(
        self,
        handler: Handler,
        host: str,
        port: int,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen for ever."""
        listener = self._fabric.listen(self._machine, port)
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(listener.port)
                while True:
                    nursery.start_soon(self._serve, handler, await listener.accept())
        finally:
            self._fabric.hush(self._machine, listener)

    @staticmethod
    async def _serve(handler: Handler, stream: trio.abc.Stream) -> None:
        try:
            await handler(stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def connect_tcp(self, host: str, port: int) -> trio.abc.Stream:
        """Open a stream to the machine of that name."""
        return await self._fabric.connect(self._machine, host, port)


def make_ports(
    *, machine: str, life: int, seed: int, clock: MachineClock, fabric: Fabric, disk: Session, workers: Workers
) -> Ports:
    """The bundle for one process, the ``life``-th on its machine."""
    clock.boot()
    return Ports(
        clock=clock,
        rng=stream(seed, f"rng/{machine}/{life}"),
        network=ProcessNetwork(machine, fabric),
        disk=disk,
        workers=workers,
    )
