"""What an operator may set about the HTTP server and its tokens: values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from arc.security.tokens import BOOTSTRAP_CHARS_MIN
from arc.wire.facts import Address

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Section ``[server]``: the listener and its limits."""

    host: str = "127.0.0.1"
    """Address to listen on. ``0.0.0.0`` is every IPv4 interface, ``::`` every interface."""
    port: int = 8000
    """TCP port; 0 asks the system for a free one."""
    advertise: str = ""
    """Where clients and other nodes reach this node's HTTP port: host:port, or a host alone when the port is the one it
    listens on. Empty: host; where that is a wildcard, the host of cluster.advertise."""
    tls_cert_file: str = ""
    """PEM file with the certificate chain. TLS is on when certificate and key are both given."""
    tls_key_file: str = ""
    """PEM file with the private key."""
    max_body_bytes: int = 1 * GIB
    """Largest request body as it comes over the wire; more answers 413 as soon as it is noticed."""
    max_decompressed_bytes: int = 1 * GIB
    """What a compressed MessagePack or Arrow body may grow to."""
    max_decompressed_lines_bytes: int = 512 * MIB
    """What a compressed line protocol body may grow to."""
    max_import_bytes: int = 512 * MIB
    """Largest file of an import."""
    max_json_bytes: int = 4 * MIB
    """Largest JSON body (queries, tokens, databases)."""
    max_header_bytes: int = 32 * 1024
    """Largest request head, URL included; more answers 431."""
    max_concurrent_requests: int = 256
    """Requests under way; more answer 503 with Retry-After. Health and metrics are always answered."""
    max_connections: int = 4096
    """Open connections; more are closed at once."""
    body_stall_seconds: float = 30.0
    """A body that stops arriving for this long answers 408."""
    response_stall_seconds: float = 300.0
    """A client that reads nothing for this long is cut off."""
    keep_alive_seconds: float = 75.0
    """An idle connection is kept open this long."""
    shutdown_seconds: float = 30.0
    """How long requests under way may go on after a stop was asked for."""
    cors_origin: str = "*"
    """Web pages of this origin may call; ``*`` any, empty none. No cookie is ever used, so any is safe."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be between 0 and 65535")
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file must be given together")
        if self.advertise:
            try:
                Address.read(self.advertise, 1)
            except ValueError as error:
                raise ValueError(f"advertise: {error}") from error
        if min(self.max_body_bytes, self.max_json_bytes, self.max_concurrent_requests, self.max_connections) < 1:
            raise ValueError("limits must be at least 1")

    @property
    def tls_enabled(self) -> bool:
        """Whether connections are encrypted by this process."""
        return bool(self.tls_cert_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Section ``[auth]``: who may call."""

    enabled: bool = True
    """Ask for tokens. Without them everybody who reaches the port may do everything."""
    bootstrap_token: str = field(default="", repr=False)  # out of the repr means secret, see arc/config.py
    """Text of the first admin token. Empty: one is made and shown once at the first start."""
    failed_per_minute: int = 30
    """Wrong tokens from one address before the answer becomes 429."""

    def __post_init__(self) -> None:
        if self.bootstrap_token and len(self.bootstrap_token) < BOOTSTRAP_CHARS_MIN:
            raise ValueError(f"bootstrap_token must have at least {BOOTSTRAP_CHARS_MIN} characters")
        if self.failed_per_minute < 1:
            raise ValueError("failed_per_minute must be at least 1")
