"""The peer port: one authenticated session to every node that this one has something to say to, or that said so first.

`send` and `post` queue and return at once. A link dials when something waits and there is no session; whoever dialled,
both directions go over the one stream (`arc.wire.session`). What waits while nobody answers is dropped and counted, and
``unreachable`` is told; ``connected`` is told when a session stands. Between these two a message that was taken in is
sent, in the order of its lane, unless the session breaks.

A node that is known by nothing but an address is dialled for the moment (`dial`, `ask`), beside all sessions.

Where a node listens is what the cluster agreed on. Nodes that all moved at once cannot agree on anything before they
reach each other, so the address with which a node proved who it is counts as well, in turn with the other one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import trio

from arc.ports import Clock, Network, Rng
from arc.raft import codec
from arc.raft.messages import Append, InstallSnapshot, Message
from arc.raft.types import Peer
from arc.telemetry import Log
from arc.wire.asking import Asking
from arc.wire.channels import Channel
from arc.wire.door import Door, DoorStatistics, PeerSecurity
from arc.wire.facts import Address, ClusterIdentity, Met, PeerFacts, SessionFacts
from arc.wire.handshake import ID_BYTES, Claims, HandshakeRefused, Purpose, Verdict, check_claims
from arc.wire.link import Link
from arc.wire.session import BROKEN, Session, Shaken, close
from arc.wire.settlement import settle

BACKOFF_SECONDS = (0.02, 0.3)
"""First and longest pause before dialling again; it ends early when the peer itself dials."""

SETTLED_SECONDS = 0.1
"""How long the session that was preferred to ours may take until it stands here."""

LINKS_MAX = 1024
"""Nodes of which anything is kept; sessions with more are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportStatistics:
    """Counters since the start."""

    links: int
    sessions: int
    sessions_total: int
    handshakes: DoorStatistics
    sent_total: int
    received_total: int
    dropped_total: Mapping[str, int] = field(metadata={"label": "channel"})
    sent_bytes_total: int
    received_bytes_total: int


class PeerTransport:
    """Sessions with all peers.

    ``identity`` is the cluster as known now, ``describe`` what others are told of this node, ``address_of`` where a
    node listens, if the cluster knows. ``receive`` takes Raft's messages, ``channels`` whatever else comes, in the
    order of its arrival; a handler that raises ValueError ends the session. ``answer`` answers those who ask without a
    session.
    """

    def __init__(
        self,
        me: Peer,
        *,
        network: Network,
        rng: Rng,
        clock: Clock,
        log: Log,
        security: PeerSecurity,
        identity: Callable[[], ClusterIdentity],
        address_of: Callable[[str], str | None],
        describe: Callable[[], PeerFacts],
        channels: Mapping[Channel, Callable[[Peer, bytes], None]],
        connected: Callable[[Peer, PeerFacts], None],
        unreachable: Callable[[Peer], None],
        receive: Callable[[Message], None],
        answer: Callable[[Peer, bytes], Awaitable[bytes]],
    ) -> None:
        assert Channel.RAFT not in channels, "Raft has its own: receive"
        self.me = me
        self._network = network
        self._rng = rng
        self._clock = clock
        self._log = log.bind(component="transport")
        self._identity = identity
        self._address_of = address_of
        self._describe = describe
        self._channels = channels
        self._connected = connected
        self._unreachable = unreachable
        self._receive = receive
        self._boot = rng.bytes(ID_BYTES)
        self._links: dict[str, Link] = {}
        self._heard: dict[str, Address] = {}
        """Where peers said they listen when they were met last."""
        self._door = Door(network=network, rng=rng, clock=clock, log=self._log, security=security)
        self._asking = Asking(
            self._door,
            clock,
            claims=partial(self._claims, purpose=Purpose.ASK),
            check=self._check,
            answer=answer,
            met=self._note_place,
        )
        self._address: Address | None = None
        self._nursery: trio.Nursery | None = None
        self._sessions = self._sent = self._received = self._sent_bytes = self._received_bytes = 0
        self._dropped = Counter(dict.fromkeys(Channel, 0))

    def __repr__(self) -> str:
        return f"<PeerTransport {self.me} at {self._address} sessions={','.join(self.sessions())}>"

    @property
    def address(self) -> Address:
        """Where this node tells others to reach it."""
        assert self._address is not None, "not before run has started"
        return self._address

    def send(self, message: Message) -> None:
        """Queue a message of Raft for its addressee; never waits, may lose it."""
        is_bulk = type(message) is InstallSnapshot or (type(message) is Append and bool(message.entries))
        self._put(message.to, Channel.RAFT, codec.encode(message), is_bulk=is_bulk)

    def post(self, name: str, channel: Channel, payload: bytes, *, is_bulk: bool = False) -> bool:
        """Queue a message for a node; False: there is no place, or nobody knows where it is.

        In order within a channel and its lane. A message of more than `URGENT_BYTES_MAX` is bulk.
        """
        return self._put(Peer(name), channel, payload, is_bulk=is_bulk)

    def sessions(self) -> Mapping[str, SessionFacts]:
        """The sessions that stand, by the name of the node."""
        return {name: link.session.look() for name, link in self._links.items() if link.session is not None}

    async def run(
        self, host: str, port: int, advertise: str = "", *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and dial until cancelled; started with the bound port. Raises OSError: the port is taken."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                bound: int = await nursery.start(self._network.serve_tcp, self._serve_stream, host, port)
                self._address = Address.parse(advertise) if advertise else Address(host, bound)
                task_status.started(bound)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def dial(self, address: str) -> Met:
        """Find out who listens at ``host:port``, proven by the secret. Raises Unavailable."""
        return await self._asking.meet(address)

    async def ask(self, address: str, question: bytes, *, timeout_seconds: float) -> bytes:
        """The answer of whoever listens at ``host:port``. Raises Unavailable (never left), OutcomeUnknown."""
        return await self._asking.ask(address, question, timeout_seconds=timeout_seconds)

    def statistics(self) -> TransportStatistics:
        """Counters since the start."""
        standing = [link.session for link in self._links.values() if link.session is not None]
        return TransportStatistics(
            links=len(self._links),
            sessions=len(standing),
            sessions_total=self._sessions,
            handshakes=self._door.statistics(),
            sent_total=self._sent,
            received_total=self._received,
            dropped_total={channel.name.lower(): count for channel, count in self._dropped.items()},
            sent_bytes_total=self._sent_bytes + sum(session.sent_bytes for session in standing),
            received_bytes_total=self._received_bytes + sum(session.received_bytes for session in standing),
        )

    # --------------------------------------------------------------------------------------------------------- sending

    def _put(self, peer: Peer, channel: Channel, payload: bytes, *, is_bulk: bool) -> bool:
        link = self._link(peer)
        if link is None or not link.outbox.put(channel, payload, is_bulk=is_bulk):
            self._dropped[channel] += 1
            return False
        self._sent += 1
        # A heartbeat goes with what consensus sends ten times a second anyway, at the latest with the next heartbeat.
        if channel is not Channel.HEARTBEAT or link.session is None or not link.session.is_talking:
            link.bell.ring()
        return True

    def _link(self, peer: Peer) -> Link | None:
        link = self._links.get(peer.name)
        if link is None and self._places(peer.name):
            link = self._new_link(peer)
        return link

    def _new_link(self, peer: Peer) -> Link | None:
        if self._nursery is None or peer.name == self.me.name or len(self._links) >= LINKS_MAX:
            return None
        link = self._links[peer.name] = Link(peer, BACKOFF_SECONDS[0])
        self._nursery.start_soon(self._serve_link, link)
        return link

    def _places(self, name: str) -> list[Address]:
        """Where to look for a node: as the cluster knows it, and as it said itself if that is another place."""
        told, heard = self._address_of(name), self._heard.get(name)
        places = [Address.parse(told)] if told else []
        return places if heard is None or heard in places else [*places, heard]

    def _note_place(self, theirs: Claims) -> None:
        """A node was met of which the cluster knows; of others nothing is kept for their having asked."""
        if self._address_of(theirs.peer.name):
            self._heard[theirs.peer.name] = Address.parse(theirs.address)

    # --------------------------------------------------------------------------------------------------------- dialling

    async def _serve_link(self, link: Link) -> None:
        """Dial when something waits and no session stands; what waited while nobody answered goes."""
        while True:
            while link.session is not None or not link.outbox:
                await (link.bell if link.session is None else link.turn).wait()
            try:
                pause = await self._dial_session(link)
            except _Crossed:
                continue
            except (*BROKEN, ValueError) as error:
                self._log.debug("peer_unreachable", peer=str(link.peer), reason=str(error) or type(error).__name__)
                link.misses += 1
                if link.session is None:
                    self._lost(link)
                pause = self._rng.uniform(link.backoff / 2, link.backoff)
                link.backoff = min(2 * link.backoff, BACKOFF_SECONDS[1])
            with trio.move_on_after(pause):
                while link.session is None:
                    await link.bell.wait()

    async def _dial_session(self, link: Link) -> float:
        """Dial and work until the session ends; returns how long to wait before the next try."""
        places = self._places(link.peer.name)
        if not places:
            raise OSError(f"nobody knows where {link.peer} listens")
        where = places[link.misses % len(places)]

        def claims() -> Claims:
            if link.session is not None:
                raise _Crossed
            link.is_proving = True
            return self._claims(known=link.known, wanted=link.peer.name)

        def check(theirs: Claims) -> None:
            self._check(theirs)
            if theirs.peer.name != link.peer.name:
                raise HandshakeRefused("stranger", f"{theirs.peer} listens at {where}, not {link.peer}")

        try:
            stream, shaken = await self._door.dial(where, claims, check)
        finally:
            link.is_proving = False
        try:
            if shaken.verdict is Verdict.SETTLED or link.session is not None:
                return SETTLED_SECONDS
            link.backoff = BACKOFF_SECONDS[0]
            await self._work(link, stream, shaken, is_dialled_here=True)
            return self._rng.uniform(link.backoff / 2, link.backoff)
        finally:
            await close(stream)

    # -------------------------------------------------------------------------------------------------------- listening

    async def _serve_stream(self, stream: trio.abc.Stream) -> None:
        """One incoming connection. Whatever is wrong with it ends this connection and nothing else."""
        admitted = await self._door.admit(stream, self._decide)
        if admitted is None:
            return
        stream, shaken = admitted
        try:
            if shaken.theirs.purpose is Purpose.ASK:
                await self._asking.serve(stream, shaken)
            else:
                await self._work(self._links[shaken.theirs.peer.name], stream, shaken, is_dialled_here=False)
        finally:
            await close(stream)

    def _decide(self, theirs: Claims) -> tuple[Claims, Verdict]:
        """What becomes of a peer that has dialled and proven who it is. Raises HandshakeRefused."""
        self._check(theirs)
        name = theirs.peer.name
        if theirs.purpose is Purpose.ASK:
            self._asking.require_place(theirs.peer)
            self._note_place(theirs)
            return self._claims(), Verdict.ACCEPTED
        link = self._links.get(name) or self._new_link(theirs.peer)
        if link is None:
            raise HandshakeRefused("too_many", f"no place for a session with {theirs.peer}")
        self._heard[name] = Address.parse(theirs.address)
        verdict = settle(self.me, theirs, link.standing, is_proving=link.is_proving)
        return self._claims(known=link.known), verdict

    # --------------------------------------------------------------------------------------------------------- sessions

    async def _work(self, link: Link, stream: trio.abc.Stream, shaken: Shaken, *, is_dialled_here: bool) -> None:
        """A session from its beginning, which is at once, to its end. It takes the place of the one that stands."""
        peer = shaken.theirs.peer
        session = Session(
            stream,
            shaken,
            is_dialled_here=is_dialled_here,
            outbox=link.outbox,
            bell=link.bell,
            clock=self._clock,
            deliver=partial(self._take, peer),
        )
        if link.session is not None:
            self._over(link, "another session took its place")
        link.peer, link.session, link.known = peer, session, session.name
        self._sessions += 1
        self._log.debug("session_open", peer=str(peer), is_dialled_here=is_dialled_here)
        _ring(link)
        self._connected(peer, session.facts)
        try:
            await session.run()
        finally:
            if link.session is session:
                self._over(link, session.ended_because)

    def _over(self, link: Link, reason: str) -> None:
        session = link.session
        assert session is not None
        session.end(reason)
        link.session = None
        self._sent_bytes += session.sent_bytes
        self._received_bytes += session.received_bytes
        self._log.debug("session_over", peer=str(link.peer), reason=session.ended_because)
        self._lost(link)
        _ring(link)

    def _lost(self, link: Link) -> None:
        """Nobody hears what waits here."""
        for channel, count in link.outbox.clear().items():
            self._dropped[channel] += count
            self._sent -= count
        self._unreachable(link.peer)

    def _take(self, speaker: Peer, channel: Channel, payload: bytes) -> None:
        """One message. Raises ValueError: the session must end."""
        if channel is not Channel.RAFT:
            handler = self._channels.get(channel)
            if handler is None:
                raise ValueError(f"a message for nobody: {channel.name}")
            handler(speaker, payload)
        else:
            message = codec.decode(payload)
            if message.sender != speaker:
                raise ValueError(f"{speaker} speaks for {message.sender}")  # P-34: a peer acts only for itself
            self._receive(message)
        self._received += 1

    # ------------------------------------------------------------------------------------------------------------- ours

    def _claims(self, *, known: bytes = b"", purpose: Purpose = Purpose.SESSION, wanted: str = "") -> Claims:
        return Claims(
            peer=self.me,
            cluster=self._identity(),
            address=str(self.address),
            facts=self._describe(),
            boot=self._boot,
            known=known,
            purpose=purpose,
            wanted=wanted,
        )

    def _check(self, theirs: Claims) -> None:
        check_claims(theirs, self.me, self._identity())


def _ring(link: Link) -> None:
    """A session began or ended."""
    link.bell.ring()
    link.turn.ring()


class _Crossed(Exception):
    """A session came while we dialled: ours is not needed."""
