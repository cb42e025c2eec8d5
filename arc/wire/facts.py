"""What nodes tell about themselves when they meet: names, facts for the others' registry, what a session has seen."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import NamedTuple

from arc.raft.types import Peer


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


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
        if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is not host:port")
        return cls(host.strip("[]"), int(port))

    @classmethod
    def read(cls, text: str, port: int) -> Address:
        """Read ``host:port``, or a host alone, which is reached at ``port``. Raises ValueError."""
        has_port = text.count(":") == 1 or "]:" in text
        found = cls.parse(text) if has_port else cls(text.strip("[]"), port)
        if not found.host or set(found.host) & set("/@?#[] \t") or (":" in found.host and not _is_ipv6(found.host)):
            raise ValueError(f"{text!r} is neither host:port nor a host")
        return found


class ClusterIdentity(NamedTuple):
    """Which cluster. ``uuid`` is empty on a node that belongs to none yet; it then takes any of that name."""

    name: str
    uuid: str = ""

    def agrees(self, other: ClusterIdentity) -> bool:
        """Whether nodes of these may talk."""
        return self.name == other.name and (not self.uuid or not other.uuid or self.uuid == other.uuid)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFacts:
    """What a node says of itself, proven with everything else in the handshake."""

    role: str = ""
    api_address: str = ""
    """Where its HTTP port is reached, host:port; empty when it has none."""
    version: str = ""
    cores: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """Who was found at an address."""

    peer: Peer
    facts: PeerFacts
    cluster: ClusterIdentity
    address: str
    """Where it tells others to reach it, host:port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """One look at a session. Times are seconds of this node's clock, see `arc.ports.Clock.now`."""

    peer: Peer
    facts: PeerFacts
    since: float
    last_heard: float
    """When the last frame of any kind arrived; an idle peer is asked after 2.5 s, and answers."""
    is_dialled_here: bool
    sent_bytes: int
    received_bytes: int
    rtt_seconds: float | None
    """Of the last ping that was answered; None before the first one."""
