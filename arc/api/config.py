"""What an operator may set about the HTTP server and its tokens. Values only; nothing here reads a file or an environment."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The listener and its limits. Sizes in bytes, times in seconds.

    ``port`` 0 asks the system for a free one. TLS is on when both ``tls_cert_file`` and ``tls_key_file`` (PEM) are given.
    ``max_body_bytes`` counts what arrives on the wire; the ``max_decompressed_…`` limits count what a gzip or zstd body
    may grow to, so that a small bomb cannot take the node's memory.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_body_bytes: int = 1 * GIB
    max_decompressed_bytes: int = 1 * GIB
    max_decompressed_lines_bytes: int = 512 * MIB
    max_import_bytes: int = 512 * MIB
    max_json_bytes: int = 4 * MIB
    max_concurrent_requests: int = 256
    max_connections: int = 4096
    max_header_bytes: int = 32 * 1024
    body_stall_seconds: float = 30.0
    response_stall_seconds: float = 300.0
    keep_alive_seconds: float = 75.0
    shutdown_seconds: float = 30.0
    tls_cert_file: str = ""
    tls_key_file: str = ""
    cors_origin: str = "*"

    @property
    def tls_enabled(self) -> bool:
        """Whether connections are encrypted by this process."""
        return bool(self.tls_cert_file and self.tls_key_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """Who may call. ``bootstrap_token`` fixes the first admin token's text; empty means one is made and shown once.

    ``failed_per_minute`` bounds wrong tokens per client address before the answer becomes "slow down".
    """

    enabled: bool = True
    bootstrap_token: str = field(default="", repr=False)  # out of the repr = a secret, see arc/config.py
    failed_per_minute: int = 30
