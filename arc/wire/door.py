"""Where connections become peers: dialling and being dialled, with TLS if it is asked for, time limits and bounds.

Who is refused hears nothing of the reason; it is counted here and told to the operator as often as he can read.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import trio

from arc.ports import Clock, Network, Rng
from arc.telemetry import Log
from arc.wire.doorkeeper import Doorkeeper
from arc.wire.facts import Address
from arc.wire.handshake import CHANCE_BYTES, Claims, HandshakeRefused, Verdict
from arc.wire.session import BROKEN, Shaken, close, shake_as_dialler, shake_as_listener

CONNECT_SECONDS = 2.0
HANDSHAKE_SECONDS = 2.0

LOG_SECONDS = 10.0
"""Between two warnings about the same reason; those in between are counted."""


class Contexts(Protocol):
    """Certificates as they are now (`arc.security.tls.Certificates`)."""

    @property
    def server(self) -> ssl.SSLContext:
        """For those who dial us."""
        ...

    @property
    def client(self) -> ssl.SSLContext:
        """For those whom we dial."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSecurity:
    """The shared secret, and certificates when streams are encrypted by TLS as well."""

    secret: bytes = field(repr=False)
    tls: Contexts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorStatistics:
    """Counters since the start. A handshake is counted at the end that refuses, by its reason."""

    under_way: int
    accepted_total: int
    settled_total: int
    """Those that another session made superfluous."""
    refused_total: Mapping[str, int] = field(metadata={"label": "reason"})
    dials_total: int
    dials_failed_total: int


class Door:
    """The peer port's way in and out."""

    def __init__(self, *, network: Network, rng: Rng, clock: Clock, log: Log, security: PeerSecurity) -> None:
        self._network = network
        self._rng = rng
        self._clock = clock
        self._log = log
        self._security = security
        self._keeper = Doorkeeper(clock)
        self._told: dict[str, tuple[float, int]] = {}
        self._refused: Counter[str] = Counter()
        self._dials = self._dials_failed = self._accepted = self._settled = 0

    def __repr__(self) -> str:
        return f"<Door {self._keeper} accepted={self._accepted} refused={self._refused.total()}>"

    async def dial(
        self, where: Address, claims: Callable[[], Claims], check: Callable[[Claims], None]
    ) -> tuple[trio.abc.Stream, Shaken]:
        """A stream to who listens there, and what the handshake came to; see `shake_as_dialler`.

        Raises HandshakeRefused or one of `BROKEN`.
        """
        self._dials += 1
        try:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await self._network.connect_tcp(where.host, where.port)
            try:
                shaken_stream, shaken = await self._shake(stream, where, claims, check)
            except BaseException:
                await close(stream)
                raise
        except HandshakeRefused as refused:
            self._dials_failed += 1
            self._tell(refused, str(where))
            raise
        except BROKEN:
            self._dials_failed += 1
            raise
        self._settled += shaken.verdict is Verdict.SETTLED
        return shaken_stream, shaken

    async def admit(
        self, stream: trio.abc.Stream, decide: Callable[[Claims], tuple[Claims, Verdict]]
    ) -> tuple[trio.abc.Stream, Shaken] | None:
        """The stream of a peer that was accepted, see `shake_as_listener`; None when the connection is over."""
        host = _host_of(stream)
        refusal = self._keeper.refuses(host)
        if refusal is not None:
            self._tell(HandshakeRefused(refusal, "over the bounds of the peer port"), host)
            await trio.aclose_forcefully(stream)
            return None
        is_known = False
        try:
            with trio.fail_after(HANDSHAKE_SECONDS):
                if self._security.tls is not None:
                    stream = trio.SSLStream(stream, self._security.tls.server, server_side=True, https_compatible=True)
                chance = self._rng.bytes(CHANCE_BYTES)
                shaken = await shake_as_listener(stream, self._security.secret, chance, decide)
                is_known = True
                if shaken.verdict is Verdict.ACCEPTED:
                    self._accepted += 1
                    return stream, shaken
                self._settled += 1
                await stream.send_all(shaken.answer)
        except HandshakeRefused as refused:
            self._tell(refused, host)
        except trio.TooSlowError:
            self._tell(HandshakeRefused("timeout", "did not say in time who it is"), host)
        except BROKEN as error:
            self._tell(HandshakeRefused("closed", str(error) or type(error).__name__), host)
        except BaseException:
            await close(stream)
            raise
        finally:
            self._keeper.leave(host, is_known=is_known)
        await close(stream)
        return None

    def statistics(self) -> DoorStatistics:
        """Counters since the start."""
        return DoorStatistics(
            under_way=self._keeper.inside,
            accepted_total=self._accepted,
            settled_total=self._settled,
            refused_total=dict(self._refused),
            dials_total=self._dials,
            dials_failed_total=self._dials_failed,
        )

    async def _shake(
        self,
        stream: trio.abc.Stream,
        where: Address,
        claims: Callable[[], Claims],
        check: Callable[[Claims], None],
    ) -> tuple[trio.abc.Stream, Shaken]:
        tls, chance = self._security.tls, self._rng.bytes(CHANCE_BYTES)
        if tls is not None:
            stream = trio.SSLStream(stream, tls.client, server_hostname=where.host, https_compatible=True)
        with trio.fail_after(HANDSHAKE_SECONDS):
            return stream, await shake_as_dialler(stream, self._security.secret, chance, claims, check)

    def _tell(self, refused: HandshakeRefused, where: str) -> None:
        reason, now = refused.reason, self._clock.now()
        self._refused[reason] += 1
        told_at, before = self._told.get(reason, (now - LOG_SECONDS, 0))
        if now - told_at < LOG_SECONDS:
            self._told[reason] = (told_at, before + 1)
            return
        self._told[reason] = (now, 0)
        tell = self._log.debug if reason == "closed" else self._log.warning
        tell("peer_handshake_refused", reason=reason, detail=str(refused), where=where, unreported=before)


def _host_of(stream: trio.abc.Stream) -> str:
    """Where a connection comes from, as far as the stream tells."""
    socket = getattr(stream, "socket", None)
    try:
        return "" if socket is None else str(socket.getpeername()[0])
    except OSError:
        return ""  # Gone already.
