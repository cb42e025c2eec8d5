"""The holder's side of the stream: one task and one window per follower, for the length of a reign.

A follower opens a session; its task answers where to begin and then sends what the log has, from memory while the
follower is near the end and from segments while it is not. A window of bytes bounds what is on the way, so a slow
follower waits for itself and for nobody else. Nothing is sent before it is durable here.

The sender moves the high watermark by what followers confirm. It does not decide who is in sync.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from arc.ports import Clock
from arc.replication.durability import Durability
from arc.replication.insync import Heard
from arc.replication.log import ReplicaLog
from arc.replication.messages import Ack, Base, Hello, Invite, Message, Records, Resume, encode, pieces
from arc.replication.ports import Facts, Post
from arc.storage.wal.history import common_end
from arc.telemetry import Log

BATCH_BYTES = 1 << 20
"""Records of one message, unless a single request has more: 8 ms at 1 Gbit/s, and enough to hide a round trip."""

HEARTBEAT_SECONDS = 0.5
"""A silent stream says this often that it is alive, how far the log is and how far the rest is: four times in the lag
timeout, so that one that is late or lost makes nobody leave the in-sync set.
"""

FULL_SECONDS = 0.02
"""Pause before a message is offered again that found no place: a queue of bulk empties in about this time."""

TICK_SECONDS = 0.5
"""How often the end of the log is noted down, to know later when a follower had all of it."""

FOLLOWERS_MAX = 64
"""Sessions beyond this are not served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerStatistics:
    """One follower. ``lag`` counts records that it has not confirmed; ``state`` is live or catch-up, or gone.

    ``lag_seconds`` is how old the oldest of them is, by when the log last ended where the follower is, give or take
    `TICK_SECONDS`; of one that never had all in this reign, how long the reign is. 0 without lag.
    """

    name: str
    state: str
    is_in_sync: bool
    durable: int
    lag: int
    lag_seconds: float
    in_flight_bytes: int
    sent_bytes_total: int
    sent_records_total: int
    resumed_total: int
    cut_records_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderStatistics:
    """The stream from this node. ``refused_total`` counts messages of other reigns and of sessions that are over."""

    epoch: int
    high: int
    next_sequence: int
    tail_bytes: int
    refused_total: int
    followers: tuple[FollowerStatistics, ...]


@dataclass(slots=True, eq=False)
class _Follower:
    name: str
    session: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    next: int = 0
    told_high: int = 0
    is_live: bool = False
    is_connected: bool = True
    is_memory: bool = False
    durable: int = 0
    in_flight: deque[tuple[int, int]] = field(default_factory=deque)
    in_flight_bytes: int = 0
    heard_at: float = 0.0
    caught_up_at: float = 0.0
    sent_bytes: int = 0
    sent_records: int = 0
    resumed: int = 0
    cut_records: int = 0


class Sender:
    """Serves followers under ``epoch``."""

    def __init__(
        self,
        *,
        epoch: int,
        log: ReplicaLog,
        durability: Durability,
        facts: Facts,
        post: Post,
        clock: Clock,
        window_bytes: int,
        tell: Log,
    ) -> None:
        self._epoch = epoch
        self._log = log
        self._durability = durability
        self._facts = facts
        self._post = post
        self._clock = clock
        self._window_bytes = window_bytes
        self._tell = tell
        self._followers: dict[str, _Follower] = {}
        self._nursery: trio.Nursery | None = None
        self._ends: deque[tuple[float, int]] = deque(maxlen=2048)
        self._began_at = clock.now()
        self._databases: object = None
        self._schema_index = 0
        self._refused = 0

    def __repr__(self) -> str:
        return f"<Sender epoch={self._epoch} followers={sorted(self._followers)} {self._durability!r}>"

    async def run(
        self, connected: Sequence[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; those who are ``connected`` are told that the reign has begun. Raises DiskFailed,
        Corrupt.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                for name in connected:
                    self._post(name, encode(Invite(epoch=self._epoch)), is_bulk=False)
                while True:
                    self._ends.append((self._clock.now(), self._log.next_sequence - 1))
                    await trio.sleep(TICK_SECONDS)
            finally:
                self._nursery = None

    # ---------------------------------------------------------------------------------------------------- what comes in

    def receive(self, peer: str, message: Message) -> None:
        """A follower said something. Never waits."""
        match message:
            case Hello():
                self._greeted(peer, message)
            case Ack():
                self._confirmed(peer, message)
            case _:
                self._refused += 1

    def progress(self, peer: str) -> None:
        """Followers send nothing that is long."""

    def peer_up(self, name: str) -> None:
        """A node can be reached again: it may not know of this reign."""
        self._post(name, encode(Invite(epoch=self._epoch)), is_bulk=False)

    def peer_down(self, name: str) -> None:
        """The connection broke; whatever was on the way is lost."""
        follower = self._followers.get(name)
        if follower is not None:
            self._end(follower)

    def _greeted(self, peer: str, hello: Hello) -> None:
        if hello.epoch != self._epoch or self._nursery is None:
            self._refused += 1
            return
        before = self._followers.get(peer)
        if before is None and len(self._followers) >= FOLLOWERS_MAX:
            self._refused += 1
            self._tell.warning("follower_refused", peer=peer, reason=f"{FOLLOWERS_MAX} are served already")
            return
        if before is not None:
            self._end(before)
        follower = _Follower(peer, hello.session, is_memory=hello.is_memory)
        if before is not None:
            follower.resumed, follower.cut_records = before.resumed + 1, before.cut_records
            follower.sent_bytes, follower.sent_records = before.sent_bytes, before.sent_records
            follower.heard_at, follower.caught_up_at = before.heard_at, before.caught_up_at
        self._followers[peer] = follower
        self._nursery.start_soon(self._serve, follower, hello)

    def _confirmed(self, peer: str, ack: Ack) -> None:
        follower = self._followers.get(peer)
        is_ours = follower is not None and (ack.epoch, ack.session) == (self._epoch, follower.session)
        if not is_ours or follower is None or not follower.is_connected or ack.durable >= follower.next:
            self._refused += 1
            return
        now = self._clock.now()
        follower.durable, follower.heard_at = ack.durable, now
        while follower.in_flight and follower.in_flight[0][0] <= ack.durable:
            follower.in_flight_bytes -= follower.in_flight.popleft()[1]
        follower.caught_up_at = self._had_all(ack.durable, now, follower.caught_up_at)
        if not follower.is_memory:
            self._durability.wrote(peer, ack.durable)
        self._log.pulse.beat()

    def _had_all(self, durable: int, now: float, before: float) -> float:
        """The latest known time at which the log ended at or below ``durable``."""
        if durable >= self._log.next_sequence - 1:
            return now
        return next((at for at, end in reversed(self._ends) if end <= durable), before)

    def _lag_seconds(self, follower: _Follower, now: float) -> float:
        """Of one that is away, too: nothing is missing to it before something was written."""
        return now - max(self._had_all(follower.durable, now, follower.caught_up_at), self._began_at)

    def _end(self, follower: _Follower) -> None:
        follower.is_connected = False
        follower.scope.cancel()

    # ----------------------------------------------------------------------------------------------- what one task does

    async def _serve(self, follower: _Follower, hello: Hello) -> None:
        with follower.scope:
            self._log.follows(1)
            try:
                await self._begin(follower, hello)
                await self._stream(follower)
            finally:
                self._log.follows(-1)
                follower.is_connected = False

    async def _begin(self, follower: _Follower, hello: Hello) -> None:
        """Tell the follower where our logs part, or where to begin."""
        common = common_end(self._log.spans(), hello.spans)
        is_fresh = hello.first == hello.next == self._log.first_sequence == 1
        if common is not None or is_fresh:
            follower.next = common if common is not None else hello.next
            follower.cut_records += hello.next - follower.next
            answer: Message = Resume(
                epoch=self._epoch,
                session=hello.session,
                next=follower.next,
                high=self._durability.high,
                inherited=self._durability.inherited,
            )
        else:
            first = self._facts.oldest_needed() if follower.is_memory else self._log.first_sequence
            follower.next = max(first, self._log.first_sequence)
            answer = Base(
                epoch=self._epoch,
                session=hello.session,
                first=follower.next,
                high=self._durability.high,
                catalog_index=self._facts.catalog().index,
                keys=tuple(self._facts.keys(follower.next)),
                inherited=self._durability.inherited,
            )
        # What it confirmed in an earlier session is what it still has now.
        follower.durable = min(self._durability.confirmed(follower.name), follower.next - 1)
        if not follower.is_memory:
            self._durability.wrote(follower.name, follower.durable)
        self._tell.info(
            "follower_begins",
            peer=follower.name,
            epoch=self._epoch,
            next=follower.next,
            cut=max(0, hello.next - follower.next),
            from_base=isinstance(answer, Base),
        )
        await self._send(follower, answer)

    async def _stream(self, follower: _Follower) -> None:
        while True:
            room = self._window_bytes - follower.in_flight_bytes
            if follower.next < self._log.next_sequence and (room > 0 or not follower.in_flight):
                records, follower.is_live = await self._log.read(follower.next, min(BATCH_BYTES, max(1, room)))
                if not records:
                    # Released, or cut, under a follower that was too slow: it has to begin again.
                    self._post(follower.name, encode(Invite(epoch=self._epoch)), is_bulk=False)
                    return
                await self._send_records(follower, tuple(records))
            elif follower.told_high < self._durability.high:
                await self._send_records(follower, ())
            else:
                with trio.move_on_after(HEARTBEAT_SECONDS) as waiting:
                    await self._log.pulse.wait()
                if waiting.cancelled_caught:
                    await self._send_records(follower, ())

    async def _send_records(self, follower: _Follower, records: tuple[bytes, ...]) -> None:
        message = Records(
            epoch=self._epoch,
            session=follower.session,
            first=follower.next,
            high=self._durability.high,
            catalog_index=self._schemas_at(),
            records=records,
        )
        size = sum(map(len, records))
        if records:
            # Counted before it is sent: the answer may be here before `_send` returns.
            follower.next += len(records)
            follower.in_flight.append((follower.next - 1, size))
            follower.in_flight_bytes += size
        follower.told_high = message.high
        follower.sent_bytes += size
        follower.sent_records += len(records)
        await self._send(follower, message)

    async def _send(self, follower: _Follower, message: Message) -> None:
        """All of the stream goes through one lane, so that its order holds."""
        for piece in pieces(encode(message)):
            while not self._post(follower.name, piece, is_bulk=True):  # noqa: ASYNC110 (the queue tells nobody)
                await trio.sleep(FULL_SECONDS)
        await trio.lowlevel.checkpoint()

    def _schemas_at(self) -> int:
        """The catalog's index from which on the schemas are as they are now: a follower has to be that far."""
        catalog = self._facts.catalog()
        if catalog.databases is not self._databases:
            self._databases, self._schema_index = catalog.databases, catalog.index
        return self._schema_index

    # --------------------------------------------------------------------------------------------------------- told

    def heard(self) -> dict[str, Heard]:
        """What is known of those who could be in sync, by name."""
        return {
            name: Heard(
                durable=follower.durable,
                is_connected=follower.is_connected,
                heard_at=follower.heard_at,
                caught_up_at=follower.caught_up_at,
            )
            for name, follower in sorted(self._followers.items())
            if not follower.is_memory
        }

    def durable(self, name: str) -> int:
        """The last record that a follower has confirmed in this reign; 0 when it never did."""
        follower = self._followers.get(name)
        return follower.durable if follower is not None else 0

    def statistics(self) -> SenderStatistics:
        """Numbers for status and metrics."""
        end, now = self._log.next_sequence - 1, self._clock.now()
        return SenderStatistics(
            epoch=self._epoch,
            high=self._durability.high,
            next_sequence=self._log.next_sequence,
            tail_bytes=self._log.tail_bytes,
            refused_total=self._refused,
            followers=tuple(
                FollowerStatistics(
                    name=name,
                    state=("live" if f.is_live or f.next > end else "catch-up") if f.is_connected else "gone",
                    is_in_sync=name in self._durability.members,
                    durable=f.durable,
                    lag=max(0, end - f.durable),
                    lag_seconds=self._lag_seconds(f, now),
                    in_flight_bytes=f.in_flight_bytes,
                    sent_bytes_total=f.sent_bytes,
                    sent_records_total=f.sent_records,
                    resumed_total=f.resumed,
                    cut_records_total=f.cut_records,
                )
                for name, f in sorted(self._followers.items())
            ),
        )
