"""Heartbeats: every node tells the others that it lives and how it is, in one small message on the session it has.

Who decides is told often: voters, any of which may lead the next moment, and the holders of leases hear of everybody
every ``heartbeat_seconds``. All others hear of a node every ``far_heartbeat_seconds``, spread evenly over that time.
With 100 nodes, 5 of them voters, and the defaults a node sends 20 messages a second to the watchers and 47 to the rest,
of about 130 bytes each, and the cluster grows by voters times nodes where it would by nodes squared. Up to
`registry.SMALL_CLUSTER_NODES` nodes everybody is told often.

A heartbeat carries numbers and no state: how its sender is, the others see for themselves (P-37).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import cbor2
import trio

from arc.cluster.judging import HealthConfig
from arc.cluster.memories import Told
from arc.cluster.registry import Registry
from arc.cluster.views import NodeStats
from arc.ports import Clock
from arc.raft.types import Peer
from arc.telemetry import Log

TEXT_CHARS_MAX = 512
"""A reason is cut there by its sender; a longer one is refused by its receiver."""

HEARTBEAT_BYTES_MAX = 8 << 10
"""Two texts of 512 characters of 4 bytes, and numbers; room for what later versions add."""

FIRST_FIELDS = 13
"""Of `NodeStats`: what every version tells. Later ones came at the end, and who does not tell them has them unset."""

STRANGER_WARNING_SECONDS = 60.0
STRANGERS_MAX = 128
"""Strangers that are remembered, so that each is warned of once a minute; more are counted only."""

_FIELDS = tuple((part.name, {"float": float, "int": int, "str": str}[str(part.type)]) for part in fields(NodeStats))


class Post(Protocol):
    """Queues a heartbeat for a node, ahead of what is bulk."""

    def __call__(self, name: str, payload: bytes, /) -> bool:
        """Whether it found a place; False also when there is no session now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatStatistics:
    """``dropped_total`` found no place or no session: the next one comes soon, nothing is sent again."""

    sent_total: int
    sent_bytes_total: int
    dropped_total: int
    received_total: int
    strangers_total: int


class Heartbeats:
    """Sends what ``stats`` says of this node, and notes what others say of themselves in the registry."""

    def __init__(
        self,
        *,
        registry: Registry,
        config: HealthConfig,
        post: Post,
        stats: Callable[[], NodeStats],
        started_us: int,
        clock: Clock,
        log: Log,
    ) -> None:
        self._registry = registry
        self._config = config
        self._post = post
        self._stats = stats
        self._started_us = started_us
        self._clock = clock
        self._log = log.bind(component="heartbeat")
        self._sent = self._sent_bytes = self._dropped = self._received = self._strangers = 0
        self._warned_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Heartbeats sent={self._sent} received={self._received} dropped={self._dropped}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled. What this node slept through is not made up for."""
        task_status.started()
        tick = 0
        while True:
            self.send(tick)
            tick += 1
            await trio.sleep(self._config.heartbeat_seconds)

    def send(self, tick: int) -> None:
        """Tell those whose turn it is."""
        names = due(self._registry.others(), self._registry.watchers(), tick, far_ticks(self._config))
        if not names:
            return
        payload = encode(Told(started_us=self._started_us, stats=self._stats()))
        for name in names:
            if self._post(name, payload):
                self._sent += 1
                self._sent_bytes += len(payload)
            else:
                self._dropped += 1

    def receive(self, peer: Peer, payload: bytes) -> None:
        """A heartbeat came from a peer. Raises ValueError when it is none: the session must be closed."""
        told = decode(payload)
        self._received += 1
        if not self._registry.record_heartbeat(peer, told):
            self._strangers += 1
            self._warn_of(peer)

    def statistics(self) -> HeartbeatStatistics:
        """Counters since the start."""
        return HeartbeatStatistics(
            sent_total=self._sent,
            sent_bytes_total=self._sent_bytes,
            dropped_total=self._dropped,
            received_total=self._received,
            strangers_total=self._strangers,
        )

    def _warn_of(self, peer: Peer) -> None:
        """A node that believes to be a member and is none, or another incarnation of one: told once a minute."""
        now, name = self._clock.now(), str(peer)
        before = self._warned_at.get(name)
        if before is None and len(self._warned_at) >= STRANGERS_MAX:
            self._warned_at = {each: at for each, at in self._warned_at.items() if now - at < STRANGER_WARNING_SECONDS}
            if len(self._warned_at) >= STRANGERS_MAX:
                return
        if before is None or now - before >= STRANGER_WARNING_SECONDS:
            self._warned_at[name] = now
            self._log.warning("heartbeat_of_stranger", node=name, reason="it is no member of this cluster as such")


def far_ticks(config: HealthConfig) -> int:
    """How many ticks of ``heartbeat_seconds`` there are from one far heartbeat to the next."""
    return max(1, round(config.far_heartbeat_seconds / config.heartbeat_seconds))


def due(others: Sequence[str], watchers: Collection[str], tick: int, every: int) -> list[str]:
    """Whom to tell in this tick: every watcher, and of the rest each one in one tick of ``every``."""
    near = [name for name in others if name in watchers]
    far = [name for name in others if name not in watchers]
    return near + far[tick % every :: every]


def encode(told: Told) -> bytes:
    """A heartbeat as bytes: when the node started, and its numbers in the order of `NodeStats`."""
    values = (getattr(told.stats, name) for name, _ in _FIELDS)
    numbers = [value[:TEXT_CHARS_MAX] if isinstance(value, str) else value for value in values]
    return cbor2.dumps([told.started_us, *numbers])


def decode(payload: bytes) -> Told:
    """Read what `encode` wrote; fields that a later version adds at the end are passed over, and those that an
    earlier one lacks there are as if unknown. Raises ValueError.
    """
    if len(payload) > HEARTBEAT_BYTES_MAX:
        raise ValueError(f"a heartbeat of {len(payload)} bytes is larger than {HEARTBEAT_BYTES_MAX}")
    try:
        found = cbor2.loads(payload)
    except (cbor2.CBORDecodeError, RecursionError) as error:
        raise ValueError(f"not a heartbeat: {error}") from error
    if not isinstance(found, list) or len(found) < 1 + FIRST_FIELDS or type(found[0]) is not int:
        raise ValueError("not a heartbeat: wrong shape")
    values: dict[str, Any] = {}
    for (name, kind), value in zip(_FIELDS, found[1:], strict=False):
        if type(value) is not kind or (isinstance(value, str) and len(value) > TEXT_CHARS_MAX):
            raise ValueError(f"not a heartbeat: {name} is {value!r:.40}")
        values[name] = value
    return Told(started_us=found[0], stats=NodeStats(**values))
