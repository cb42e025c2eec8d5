"""Raft's messages between nodes: one stream to each peer, dialled by whoever has something to say.

`send` queues and returns at once. What is small and urgent (votes, heartbeats, every answer) overtakes what is large
(entries, pieces of snapshots): a megabyte on its way never delays a heartbeat by more than one frame. Queues are
bounded; a message that finds no place, or no connection, is dropped and counted, which consensus allows for.

Both ends begin with a greeting: who speaks, which incarnation, of which cluster, and where he can be reached. Until
there are authenticated sessions this port believes what it is told: `cluster.insecure_dev` says that one knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import cbor2
import trio

from arc.errors import Unavailable
from arc.ports import Network, Rng
from arc.raft import codec
from arc.raft.messages import Append, InstallSnapshot, Message
from arc.raft.types import Peer
from arc.telemetry import Log
from arc.wire.framing import FrameReader, encode_frame

VERSION = 1
CONTROL_MAX = 4096
BULK_MAX = 256
"""Messages that wait for one peer; Raft's own windows keep what is in flight well below."""

BURST_BYTES = 256 << 10
"""How much is encoded and handed to the socket at once."""

CONNECT_SECONDS = 2.0
STALL_SECONDS = 10.0
"""A peer that takes nothing for so long is dialled anew."""

BACKOFF_SECONDS = (0.02, 0.3)
"""First and longest pause before dialling again; it ends early when the peer itself dials."""

RECEIVE_BYTES = 256 << 10

_BROKEN = (OSError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError)
"""How a connection ends."""


_RAFT, _CALL = b"\x00", b"\x01"
"""First byte of every frame but the greeting: whom it is for."""


class Address(NamedTuple):
    """Where a node listens for its peers."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``host:port``. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not host:port")
        return cls(host.strip("[]"), int(port))


class Greeting(NamedTuple):
    """The first frame of each direction. ``cluster`` is empty for a node that belongs to none yet."""

    version: int
    cluster: str
    peer: Peer
    address: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportStatistics:
    """Counters since the start."""

    links: int
    connected: int
    sent_total: int
    received_total: int
    dropped_total: int
    connects_total: int
    sent_bytes_total: int
    received_bytes_total: int


class _Link:
    """What waits for one peer."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.control: deque[Message | bytes] = deque()
        self.bulk: deque[Message | bytes] = deque()
        self.wake = trio.Event()
        self.heard = trio.Event()
        self.backoff = BACKOFF_SECONDS[0]
        self.is_connected = False

    def put(self, message: Message | bytes) -> bool:
        """Whether there was a place for it."""
        is_bulk = type(message) is InstallSnapshot or (type(message) is Append and bool(message.entries))
        queue, most = (self.bulk, BULK_MAX) if is_bulk else (self.control, CONTROL_MAX)
        if len(queue) >= most:
            return False
        queue.append(message)
        self.wake.set()
        return True

    def take(self) -> bytes:
        """The next burst, empty when nothing waits."""
        frames: list[bytes] = []
        size = 0
        while size < BURST_BYTES and (self.control or self.bulk):
            message = self.control.popleft() if self.control else self.bulk.popleft()
            payload = _CALL + message if isinstance(message, bytes) else _RAFT + codec.encode(message)
            frames.append(encode_frame(payload))
            size += len(frames[-1])
        return b"".join(frames)


class PeerTransport:
    """Streams to and from all peers. ``address_of`` tells where a node listens, if the cluster knows."""

    def __init__(
        self,
        me: Peer,
        *,
        network: Network,
        rng: Rng,
        log: Log,
        cluster: Callable[[], str],
        address_of: Callable[[str], str | None],
        receive: Callable[[Message], None],
        receive_call: Callable[[str, bytes], None],
        unreachable: Callable[[Peer], None],
    ) -> None:
        self.me = me
        self._network = network
        self._rng = rng
        self._log = log.bind(component="transport")
        self._cluster = cluster
        self._address_of = address_of
        self._receive = receive
        self._receive_call = receive_call
        self._unreachable = unreachable
        self._links: dict[str, _Link] = {}
        self._heard: dict[str, Address] = {}
        """Where peers said they listen: what a newcomer knows before it has the catalog."""
        self._address: Address | None = None
        self._nursery: trio.Nursery | None = None
        self._sent = self._received = self._dropped = self._connects = 0
        self._sent_bytes = self._received_bytes = 0

    def __repr__(self) -> str:
        return f"<PeerTransport {self.me} at {self._address} links={','.join(self._links)}>"

    @property
    def address(self) -> Address:
        """Where this node tells others to reach it."""
        assert self._address is not None, "not before run has started"
        return self._address

    def send(self, message: Message) -> None:
        """Queue a message for its addressee; never waits, may lose it."""
        link = self._link(message.to)
        if link is None or not link.put(message):
            self._dropped += 1

    def post(self, name: str, call: bytes) -> bool:
        """Queue the bytes of a call for a node; says whether they found a place."""
        link = self._link(Peer(name))
        return link is not None and link.put(call)

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

    async def greet(self, address: str) -> Greeting:
        """Ask who listens at ``host:port``. Raises Unavailable."""
        try:
            where = Address.parse(address)
            with trio.fail_after(CONNECT_SECONDS):
                stream = await self._network.connect_tcp(where.host, where.port)
                async with stream:
                    return await self._exchange(stream, FrameReader())
        except (*_BROKEN, ValueError) as error:
            raise Unavailable(f"no node answers at {address}: {str(error) or type(error).__name__}") from error

    def statistics(self) -> TransportStatistics:
        """Counters since the start."""
        return TransportStatistics(
            links=len(self._links),
            connected=sum(link.is_connected for link in self._links.values()),
            sent_total=self._sent,
            received_total=self._received,
            dropped_total=self._dropped,
            connects_total=self._connects,
            sent_bytes_total=self._sent_bytes,
            received_bytes_total=self._received_bytes,
        )

    # --------------------------------------------------------------------------------------------------------- dialling

    def _link(self, peer: Peer) -> _Link | None:
        link = self._links.get(peer.name)
        if link is None and self._nursery is not None and self._where(peer.name) is not None:
            link = self._links[peer.name] = _Link(peer)
            self._nursery.start_soon(self._serve_link, link)
        return link

    def _where(self, name: str) -> Address | None:
        told = self._address_of(name)
        return Address.parse(told) if told else self._heard.get(name)

    async def _serve_link(self, link: _Link) -> None:
        """Dial, send, dial again; what waited while nobody answered is old news and goes."""
        while True:
            while not (link.control or link.bulk):
                link.wake = trio.Event()
                await link.wake.wait()
            try:
                await self._dial(link)
            except (*_BROKEN, ValueError) as error:
                self._log.debug("peer_unreachable", peer=str(link.peer), reason=str(error) or type(error).__name__)
                self._dropped += len(link.control) + len(link.bulk)
                link.control.clear()
                link.bulk.clear()
                self._unreachable(link.peer)
                link.heard = trio.Event()
                with trio.move_on_after(self._rng.uniform(link.backoff / 2, link.backoff)):
                    await link.heard.wait()
                link.backoff = min(2 * link.backoff, BACKOFF_SECONDS[1])

    async def _dial(self, link: _Link) -> None:
        where = self._where(link.peer.name)
        if where is None:
            raise OSError(f"nobody knows where {link.peer} listens")
        with trio.fail_after(CONNECT_SECONDS):
            stream = await self._network.connect_tcp(where.host, where.port)
        async with stream:
            with trio.fail_after(CONNECT_SECONDS):
                found = await self._exchange(stream, FrameReader())
            if found.peer.name != link.peer.name:
                raise OSError(f"{found.peer} listens at {where}, not {link.peer}")
            link.peer = found.peer  # Perhaps another incarnation than the one this link was made for.
            self._connects += 1
            link.is_connected = True
            link.backoff = BACKOFF_SECONDS[0]
            ends: list[str] = []
            try:
                async with trio.open_nursery() as nursery:
                    for part in (self._pump, self._watch_end):
                        nursery.start_soon(_until_broken, partial(part, link, stream), nursery.cancel_scope, ends)
            finally:
                link.is_connected = False
            raise OSError("; ".join(ends))

    async def _pump(self, link: _Link, stream: trio.abc.Stream) -> None:
        while True:
            waiting = len(link.control) + len(link.bulk)
            burst = link.take()
            if not burst:
                link.wake = trio.Event()
                await link.wake.wait()
                continue
            self._sent += waiting - len(link.control) - len(link.bulk)
            self._sent_bytes += len(burst)
            with trio.fail_after(STALL_SECONDS):
                await stream.send_all(burst)

    async def _watch_end(self, _: _Link, stream: trio.abc.Stream) -> None:
        """The other end never speaks after its greeting; when it closes, an idle link must notice, too."""
        await stream.receive_some(1)
        raise OSError("the peer closed the connection")

    # -------------------------------------------------------------------------------------------------------- listening

    async def _serve_stream(self, stream: trio.abc.Stream) -> None:
        """One incoming connection. Whatever is wrong with it ends this connection and nothing else."""
        async with stream:
            try:
                await self._listen(stream)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                return  # The peer went, or the network did.
            except (trio.TooSlowError, ValueError) as error:
                self._log.warning("peer_connection_refused", reason=str(error) or "no greeting in time")

    async def _listen(self, stream: trio.abc.Stream) -> None:
        reader = FrameReader()
        with trio.fail_after(CONNECT_SECONDS):
            speaker = await self._exchange(stream, reader)
        if speaker.cluster and self._cluster() and speaker.cluster != self._cluster():
            raise ValueError(f"{speaker.peer} belongs to cluster {speaker.cluster}, this node to {self._cluster()}")
        self._heard[speaker.peer.name] = speaker.address
        if speaker.peer.name in self._links:
            self._links[speaker.peer.name].heard.set()
        for payload in reader.feed(b""):
            self._take(payload, speaker)
        while True:
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                return
            self._received_bytes += len(data)
            for payload in reader.feed(data):
                self._take(payload, speaker)

    def _take(self, payload: bytes, speaker: Greeting) -> None:
        if payload[:1] == _CALL:
            self._received += 1
            self._receive_call(speaker.peer.name, payload[1:])
            return
        if payload[:1] != _RAFT:
            raise ValueError(f"a frame for nobody: {payload[:16]!r}")
        message = codec.decode(memoryview(payload)[1:])
        if message.sender != speaker.peer:
            raise ValueError(f"{speaker.peer} speaks for {message.sender}")  # P-34: a peer acts only for itself
        self._received += 1
        self._receive(message)

    async def _exchange(self, stream: trio.abc.Stream, reader: FrameReader) -> Greeting:
        """Greet and be greeted. Raises ValueError. What came behind the greeting stays in the reader."""
        here = [VERSION, self._cluster(), *self.me, *self.address]
        await stream.send_all(encode_frame(cbor2.dumps(here)))
        while True:
            data = await stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise ValueError("the peer closed before its greeting")
            for payload in islice(reader.feed(data), 1):
                return _greeting(payload)


async def _until_broken(part: Callable[[], Awaitable[None]], scope: trio.CancelScope, ends: list[str]) -> None:
    """Run one half of a connection; when it ends, say why and end the other half."""
    try:
        await part()
    except _BROKEN as error:
        ends.append(str(error) or type(error).__name__)
        scope.cancel()


def _greeting(payload: bytes) -> Greeting:
    try:
        version, cluster, name, incarnation, host, port = cbor2.loads(payload)
    except (cbor2.CBORDecodeError, TypeError) as error:
        raise ValueError(f"not a greeting: {error}") from error
    if version != VERSION:
        raise ValueError(f"the peer speaks version {version!r} of this protocol, this node {VERSION}")
    texts = all(isinstance(each, str) for each in (cluster, name, host))
    if not texts or type(incarnation) is not int or type(port) is not int or not 0 < port < 65536:
        raise ValueError("not a greeting: wrong types")
    return Greeting(version, cluster, Peer(name, incarnation), Address(host, port))
