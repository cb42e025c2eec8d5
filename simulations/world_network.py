"""The network between simulated machines: streams in memory with latency, cuts per direction, resets, full buffers, and
machines that send slowly.

A stream is two `Pipe`s. Bytes in a pipe arrive in order, each piece at its own time. What a machine with a narrow line
sends goes through it one piece after the other, whatever stream it belongs to, and is held until it arrived. While the
link is cut bytes wait, and come some time after it healed, as TCP sends again. A process that dies resets its streams;
a machine that lost power says nothing until it is up again. Whoever connects over a cut link, or to a machine that is
down, waits and then gets ETIMEDOUT; without a listener ECONNREFUSED.
"""

from __future__ import annotations

import errno
import re
import socket
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import trio

from simulations.chance import Stream
from simulations.world_trace import Trace

PIECE_BYTES = 64 * 1024
NARROW_SECONDS = 1.0
"""What is so long on its way has waited for a line that carries less than is sent."""
_DATE = re.compile(rb"\r\ndate: [^\r]*")

Handler = Callable[[trio.abc.Stream], Awaitable[None]]


class NetworkKind(NamedTuple):
    """How the links of a world behave. Seconds; ``buffer_bytes`` is what a pipe holds before its sender waits."""

    latency_seconds: float = 0.0005
    tail_chance: float = 0.01
    tail_seconds: float = 0.02
    buffer_bytes: int = 256 * 1024
    connect_seconds: float = 5.0


class Fabric:
    """All machines and what lies between them."""

    def __init__(self, kind: NetworkKind, chance: Stream, trace: Trace) -> None:
        self._kind = kind
        self._chance = chance
        self.trace = trace
        self._cuts: set[tuple[str, str]] = set()
        self._narrow: dict[str, tuple[float, float]] = {}
        """Bytes per second that a machine sends, and until when it is busy with what it has sent."""
        self._changed = trio.Event()
        self._listeners: dict[tuple[str, int], _Listener] = {}
        self._links: dict[int, tuple[SimStream, SimStream]] = {}
        self._numbers: dict[str, int] = {}
        self._down: set[str] = set()
        self._opened = 0

    def __repr__(self) -> str:
        return f"<Fabric cuts={sorted(self._cuts)} listeners={sorted(self._listeners)} links={len(self._links)}>"

    def address(self, machine: str) -> str:
        """An address that looks like one, for logs of the programs under test."""
        number = self._numbers.setdefault(machine, len(self._numbers) + 1)
        return f"10.0.{number // 250}.{number % 250 + 1}"

    # ---- faults

    def cut(self, sources: Iterable[str], targets: Iterable[str], *, is_one_way: bool = False) -> None:
        """Nothing passes from sources to targets, nor back unless ``is_one_way``."""
        for source in sources:
            for target in targets:
                if source != target:
                    self._cuts.add((source, target))
                    if not is_one_way:
                        self._cuts.add((target, source))
        self._tell()

    def heal(self) -> None:
        """Everything passes again."""
        self._cuts.clear()
        self._tell()

    def narrow(self, machine: str, bytes_per_second: float) -> None:
        """It sends no more than that; 0: as much as it likes."""
        self._narrow.pop(machine, None)
        if bytes_per_second:
            self._narrow[machine] = (bytes_per_second, trio.current_time())

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing passes now."""
        return (source, target) in self._cuts

    def break_streams(self, machine: str) -> None:
        """Every stream of this machine is reset on both sides."""
        for ours, theirs in list(self._links.values()):
            if machine in (ours.machine, theirs.machine):
                ours.reset()
                theirs.reset()

    def process_died(self, machine: str, *, is_machine_down: bool) -> None:
        """Its listeners and streams are gone; the other sides hear of it unless the machine itself went down."""
        for key in [key for key in self._listeners if key[0] == machine]:
            del self._listeners[key]
        if is_machine_down:
            self._down.add(machine)
        for ours, theirs in list(self._links.values()):
            for mine, other in ((ours, theirs), (theirs, ours)):
                if mine.machine == machine:
                    mine.reset()
                    if not is_machine_down:
                        other.reset(self.latency())

    def machine_up(self, machine: str) -> None:
        """It has power again: whoever still speaks to its former life is told."""
        self._down.discard(machine)
        for ours, theirs in list(self._links.values()):
            for mine, other in ((ours, theirs), (theirs, ours)):
                if mine.machine == machine and mine.is_reset:
                    other.reset(self.latency())

    # ---- for ports

    def latency(self) -> float:
        """Seconds that the next piece needs."""
        kind, chance = self._kind, self._chance
        tail = chance.expovariate(1 / kind.tail_seconds) if chance.random() < kind.tail_chance else 0.0
        return kind.latency_seconds * chance.uniform(0.5, 1.5) + tail

    def sent_at(self, machine: str, size: int) -> float:
        """When a piece that a machine sends now is out of it."""
        now = trio.current_time()
        if machine not in self._narrow:
            return now
        rate, busy_until = self._narrow[machine]
        done = max(now, busy_until) + size / rate
        if done > now + NARROW_SECONDS:
            self.trace.probe("line_was_narrow")
        self._narrow[machine] = (rate, done)
        return done

    def resend_seconds(self) -> float:
        """How long TCP needs to notice that a link is back."""
        return self._chance.uniform(0.0, 0.4)

    async def passable(self, source: str, target: str) -> None:
        """Wait until something passes."""
        while (source, target) in self._cuts:
            await self._changed.wait()

    async def connect(self, source: str, target: str, port: int) -> SimStream:
        """Open a stream. Raises OSError."""
        with trio.move_on_after(self._kind.connect_seconds):
            while True:
                await trio.sleep(self.latency())
                await self.passable(source, target)
                await self.passable(target, source)
                if target not in self._down:
                    break
                await self._changed.wait()
            listener = self._listeners.get((target, port))
            await trio.sleep(self.latency())
            if listener is None or listener.is_closed:
                raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
            return self._join(source, target, port, listener)
        self.trace.probe("connect_timed_out")
        raise TimeoutError(errno.ETIMEDOUT, "connection timed out")

    def listen(self, machine: str, port: int) -> _Listener:
        """Take a port. Raises OSError when it is taken."""
        bound = port or 40_000 + len(self._listeners)
        if (machine, bound) in self._listeners:
            raise OSError(errno.EADDRINUSE, "address already in use")
        listener = self._listeners[machine, bound] = _Listener(bound)
        return listener

    def hush(self, machine: str, listener: _Listener) -> None:
        """Give a port back."""
        listener.is_closed = True
        if self._listeners.get((machine, listener.port)) is listener:
            del self._listeners[machine, listener.port]

    def forget(self, number: int) -> None:
        """Both ends of a stream are closed."""
        self._links.pop(number, None)

    def _join(self, source: str, target: str, port: int, listener: _Listener) -> SimStream:
        self._opened += 1
        number, size = self._opened, self._kind.buffer_bytes
        there, back = Pipe(self, source, target, number, size), Pipe(self, target, source, number, size)
        near, far = (self.address(source), 30_000 + number % 30_000), (self.address(target), port)
        ours = SimStream(self, source, number, back, there, _Endpoint(near, far))
        theirs = SimStream(self, target, number, there, back, _Endpoint(far, near))
        self._links[number] = (ours, theirs)
        self.trace.note(source, "connect", target, port, number)
        listener.offer(theirs)
        return ours

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class _Listener:
    """Streams that wait for their server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.is_closed = False
        self._streams: deque[SimStream] = deque()
        self._came = trio.Event()

    def offer(self, stream: SimStream) -> None:
        self._streams.append(stream)
        self._came.set()

    async def accept(self) -> SimStream:
        while not self._streams:
            self._came = trio.Event()
            await self._came.wait()
        return self._streams.popleft()


class _Endpoint(NamedTuple):
    """What servers ask a socket."""

    own: tuple[str, int]
    peer: tuple[str, int]
    family: int = socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        """Own address."""
        return self.own

    def getpeername(self) -> tuple[str, int]:
        """The other side's address."""
        return self.peer


class Pipe:
    """One direction of a stream: pieces with the time at which each arrives; an empty piece is the end.

    Whoever waits for a piece sleeps in a scope whose deadline is moved to the time of its arrival, so that a piece
    wakes its reader once and not twice.
    """

    def __init__(self, fabric: Fabric, source: str, target: str, number: int, size: int) -> None:
        self.fabric = fabric
        self.source = source
        self.target = target
        self._number = number
        self._size = size
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._last = 0.0
        self._reader: trio.CancelScope | None = None
        self._room = trio.Event()
        self.is_ended = False
        self.is_abandoned = False

    @property
    def is_full(self) -> bool:
        """Whether the sender must wait."""
        return self._held >= self._size

    def put(self, piece: bytes) -> None:
        """Send one piece; b"" ends."""
        self._last = max(self._last, self.fabric.sent_at(self.source, len(piece)) + self.fabric.latency())
        self._pieces.append((self._last, piece))
        self._held += len(piece)
        checksum = zlib.crc32(_DATE.sub(b"", piece) if piece.startswith(b"HTTP/1.1 ") else piece)
        self.fabric.trace.note(self.source, "send", self.target, self._number, len(piece), checksum)
        self.wake_reader(self._last)

    def take(self, size: int) -> bytes | float:
        """A piece that is here, or the time at which the next one will be (infinity: none is under way)."""
        if not self._pieces:
            return float("inf")
        ready, piece = self._pieces[0]
        if ready > trio.current_time():
            return ready
        if not piece:
            return b""  # stays: the end is read again and again
        self._pieces.popleft()
        if len(piece) > size:
            self._pieces.appendleft((ready, piece[size:]))
            piece = piece[:size]
        was_full = self.is_full
        self._held -= len(piece)
        if was_full:
            self.wake_sender()
        return piece

    async def wait_piece(self, until: float) -> None:
        """Sleep until then, or until `wake_reader`."""
        assert self._reader is None, "one task reads a stream"
        with trio.CancelScope(deadline=until) as self._reader:
            try:
                await trio.sleep_forever()
            finally:
                self._reader = None

    def wake_reader(self, at: float) -> None:
        """There is something to see at that time."""
        if self._reader is not None:
            self._reader.deadline = min(self._reader.deadline, at)

    async def wait_room(self, until: float) -> None:
        """Sleep until there is room, or until then."""
        with trio.move_on_at(until):
            await self._room.wait()

    def wake_sender(self) -> None:
        """It should look again."""
        self._room.set()
        self._room = trio.Event()


class SimStream(trio.abc.HalfCloseableStream):
    """One end of a stream. ``socket`` answers what servers ask for addresses."""

    def __init__(
        self, fabric: Fabric, machine: str, number: int, incoming: Pipe, outgoing: Pipe, endpoint: _Endpoint
    ) -> None:
        self._fabric = fabric
        self.machine = machine
        self._number = number
        self._in = incoming
        self._out = outgoing
        self.socket = endpoint
        self._is_closed = False
        self._reset_at = float("inf")

    def __repr__(self) -> str:
        return f"<SimStream {self._number} at {self.machine}{' reset' if self.is_reset else ''}>"

    @property
    def is_reset(self) -> bool:
        """Whether this end is, or is about to be, told that the other is gone."""
        return self._reset_at < float("inf")

    def reset(self, after: float = 0.0) -> None:
        """Break this end, in ``after`` seconds."""
        self._reset_at = min(self._reset_at, trio.current_time() + after)
        self._in.wake_reader(self._reset_at)
        self._out.wake_sender()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, waiting while the pipe is full."""
        await trio.lowlevel.checkpoint()
        view = memoryview(bytes(data))
        while view:
            self._check()
            if self._out.is_abandoned or self._out.is_ended:
                raise trio.BrokenResourceError("the other side closed")
            if self._out.is_full:
                self._fabric.trace.probe("sender_waited")
                await self._out.wait_room(self._reset_at)
                continue
            self._out.put(bytes(view[:PIECE_BYTES]))
            view = view[PIECE_BYTES:]

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room."""
        while self._out.is_full:
            self._check()
            await self._out.wait_room(self._reset_at)

    async def send_eof(self) -> None:
        """Nothing more will be sent."""
        await trio.lowlevel.checkpoint()
        self._check()
        self._end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes that arrived; b"" at the end."""
        await trio.lowlevel.checkpoint_if_cancelled()
        has_slept = False
        while True:
            self._check()
            if self._fabric.is_cut(self._in.source, self._in.target):
                await self._fabric.passable(self._in.source, self._in.target)
                await trio.sleep(self._fabric.resend_seconds())
                has_slept = True
                continue
            found = self._in.take(max_bytes or PIECE_BYTES)
            if isinstance(found, bytes):
                if not has_slept:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return found
            await self._in.wait_piece(min(found, self._reset_at))
            has_slept = True

    async def aclose(self) -> None:
        """Close both directions; what the other side still sends is refused."""
        if not self._is_closed:
            self._is_closed = True
            self._in.is_abandoned = True
            self._end()
            self._in.wake_reader(trio.current_time())
            self._in.wake_sender()
            self._out.wake_sender()
            if self._in.is_abandoned and self._out.is_abandoned:
                self._fabric.forget(self._number)
        await trio.lowlevel.checkpoint()

    def _end(self) -> None:
        if not self._out.is_ended:
            self._out.is_ended = True
            self._out.put(b"")

    def _check(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this end was closed")
        if trio.current_time() >= self._reset_at:
            raise trio.BrokenResourceError("connection reset")
