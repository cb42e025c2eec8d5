"""Clients: one operation after the other each, on a few keys, with values that are never written twice.

A client asks whom it believes to lead, follows hints, and gives up an attempt that takes too long. With sessions it
then tries the same operation again under the same serial; without, the outcome stays unknown and it goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from arc.raft import events
from arc.raft.effects import Committed, NotLeader, Readable, Unknown
from arc.raft.types import Peer
from simulations.chance import stream
from simulations.checkers import clients as checks
from simulations.history import Operation
from simulations.machine import CAS, READ, WRITE, command

if TYPE_CHECKING:
    from simulations.cores import Cores
    from simulations.host import Host

ATTEMPTS_MAX = 40

PROBER = 1000
"""Number of the client that asks at the end, when everything must be answered; the others are below."""


class Client:
    """One client; ``operation`` is what it waits for."""

    def __init__(self, world: Cores, number: int) -> None:
        self.world = world
        self.number = number
        self.chance = stream(world.plan.seed, f"client/{number}")
        self.serial = 0
        self.attempt = 0
        self.leader: Peer | None = None
        self.operation: Operation | None = None
        self.is_unsure = False
        self.seen: dict[str, str] = {}

    def begin(self, is_forced: bool = True) -> None:
        """Start the next operation."""
        world, chance, plan = self.world, self.chance, self.world.plan
        if world.is_closing:
            return
        self.serial += 1
        key = f"k{chance.randrange(plan.keys)}"
        draw = chance.random()
        kind = READ if draw < plan.read_share else CAS if draw < plan.read_share + 0.15 else WRITE
        value = f"{self.number}.{self.serial}"
        expected = self.seen.get(key, "-") if kind == CAS else "-"
        if plan.asked is not None and (self.number, self.serial) not in plan.asked:
            self._rest()
            return
        self.ask(Operation(self.number, self.serial, kind, key, value, expected, world.now))

    def ask(self, operation: Operation) -> None:
        """Take on an operation."""
        self.operation = operation
        operation.floor = self.world.ghost.floor
        self.is_unsure = False
        self.world.history.append(operation)
        self.attempt = 0
        self.send()

    def send(self) -> None:
        """One attempt."""
        world, operation = self.world, self.operation
        assert operation is not None
        self.attempt += 1
        token = (self.number, operation.serial, self.attempt)
        peers = world.peers
        target = self.leader
        if target is None or target not in world.peers or self.chance.random() < 0.1 or operation.kind == READ:
            target = (
                peers[self.chance.randrange(len(peers))] if target is None or self.chance.random() < 0.5 else target
            )
        if self.number >= PROBER and self.leader is None:
            # Each machine in turn: most may be spares, who know of no leader and never answer (swarm seed 737282).
            target = peers[(operation.serial + self.attempt // 2) % len(peers)]
        world.at(world.now + 0.001, self._arrive, token, target)
        world.at(world.now + self.chance.uniform(0.7, 2.5), self._timeout, token, None)

    def _arrive(self, token: tuple[int, int, int], target: Peer) -> None:
        host, operation = self.world.hosts[target], self.operation
        if not self._is_current(token) or operation is None:
            return
        if host.core is None:
            self._again(is_definite=True)
            return
        host.outstanding.add(token)
        if operation.kind == READ and token[2] % 4:
            host.step(events.Read(token))
        else:
            payload = command(token, operation.kind, operation.key, operation.value, operation.expected)
            host.step(events.Propose(((token, payload),)))

    def _is_current(self, token: tuple[int, int, int]) -> bool:
        return self.operation is not None and token == (self.number, self.operation.serial, self.attempt)

    def _timeout(self, token: tuple[int, int, int], _: object) -> None:
        if self._is_current(token):
            self.leader = None
            self._again(is_definite=self.operation is not None and self.operation.kind == READ and token[2] % 4 != 0)

    def answered(self, host: Host, token: tuple[int, int, int], result: Any) -> None:
        """A node gave its one answer to an attempt."""
        if isinstance(result, Committed):
            host.waiting[result.index] = token
            return
        if isinstance(result, Readable):
            if self._is_current(token) and self.operation is not None:
                value = host.machine.registers.get(self.operation.key, "-")
                self._complete(value, 2 * host.applied + 1)
            return
        is_definite = not isinstance(result, Unknown)
        if is_definite:
            checks.i27_failed(self.world.ghost, token)
        if self._is_current(token):
            self.leader = result.leader if isinstance(result, NotLeader) else None
            self._again(is_definite=is_definite)

    def finished(self, host: Host, token: tuple[int, int, int], index: int, answer: str) -> None:
        """The state machine executed our proposal; ``answer`` is what it said."""
        ghost = self.world.ghost
        first = ghost.first_at[token[:2]]
        if self.world.plan.has_sessions and first != index:
            self.world.probes["retry_deduplicated"] += 1
        checks.i26_acknowledged(ghost, token, index, answer)
        if self._is_current(token):
            self.leader = host.peer
            self._complete(answer, 2 * first)

    def _complete(self, answer: str, position: int) -> None:
        world, operation = self.world, self.operation
        assert operation is not None
        operation.answer, operation.returned, operation.position = answer, world.now, position
        self.operation = None
        if operation.kind == READ:
            self.seen[operation.key] = answer
        elif answer == "ok":
            self.seen[operation.key] = operation.value
        checks.witness(world.ghost, operation)
        world.completed += 1
        self._rest()

    def _again(self, *, is_definite: bool) -> None:
        operation = self.operation
        assert operation is not None
        self.is_unsure = self.is_unsure or not is_definite
        give_up = self.is_unsure and not self.world.plan.has_sessions
        if give_up or self.attempt >= ATTEMPTS_MAX:
            self.world.probes["outcome_unknown"] += 1
            self.operation = None
            self._rest()
            return
        if self.is_unsure:
            self.world.probes["unknown_outcome_retried"] += 1
        self.world.at(self.world.now + self.chance.uniform(0.02, 0.3), self._retry, operation, self.attempt)
        self.attempt += 1  # Whatever the attempt before still brings belongs to nobody.

    def _retry(self, operation: Operation, _: int) -> None:
        if self.operation is operation and not (self.world.is_closing and operation.client < PROBER):
            self.send()

    def _rest(self) -> None:
        if self.number < PROBER:
            self.world.at(self.world.now + self.chance.expovariate(1 / self.world.plan.think_seconds), self._next, 0, 0)

    def _next(self, _: object, __: object) -> None:
        if self.operation is None:
            self.begin()
