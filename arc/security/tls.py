"""Certificates that may change while they are used: contexts for new connections, built anew when the files do.

What is on disk is looked at again by `refresh`; a file that cannot be used changes nothing and is told. A connection
keeps the context it began with. Nothing here waits: `load` and `refresh` read files, so they belong on a worker.

Between nodes TLS is 1.3 and, with an authority of one's own, mutual. Towards clients 1.2 is spoken as well: theirs is
not ours to choose.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from cryptography import x509

from arc.errors import InvalidRequest

EXPIRY_WARNING_SECONDS = 30 * 86400
_UNREADABLE = b"unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of PEM files. With ``ca`` the other end must show a certificate of that authority, whoever dialled.

    ``trusted`` is for ports that anybody may dial: only those that are dialled from here must show one of it.
    """

    cert: str
    key: str
    ca: str = ""
    trusted: str = ""
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What a look at the files found. ``problem``: why new ones are not used; told once for each state of the files."""

    is_new: bool
    problem: str | None
    expires_us: int
    """End of the certificate in use, microseconds since 1970 UTC."""


class Certificates:
    """Contexts from files. ``read`` gives the bytes of a file and raises OSError."""

    def __init__(self, files: TlsFiles, read: Callable[[str], bytes]) -> None:
        self._files = files
        self._read = read
        self._used = b""
        """Digest of the files that the contexts were made of."""
        self._refused = b""
        self._server: ssl.SSLContext | None = None
        self._client: ssl.SSLContext | None = None
        self._expires_us = 0
        self.reloads_total = self.failures_total = 0

    def __repr__(self) -> str:
        return f"<Certificates {self._files.cert} reloads={self.reloads_total}>"

    @property
    def server(self) -> ssl.SSLContext:
        """For connections that come now."""
        assert self._server is not None, "load first"
        return self._server

    @property
    def client(self) -> ssl.SSLContext:
        """For connections that are opened now."""
        assert self._client is not None, "load first"
        return self._client

    @property
    def expires_us(self) -> int:
        """End of the certificate in use, microseconds since 1970 UTC; 0 before `load`."""
        return self._expires_us

    def load(self) -> Refreshed:
        """Read the files for the first time; blocking. Raises InvalidRequest: they cannot be used."""
        found = self.refresh()
        if found.problem is not None:
            raise InvalidRequest(f"TLS: {found.problem}", code="tls_files")
        return found

    def refresh(self) -> Refreshed:
        """Look at the files again and use them if they changed; blocking."""
        seen = b""
        try:
            seen = self._digest()
            if seen in (self._used, self._refused):
                return self._found()
            server, client, expires_us = self._contexts()
            if self._digest() != seen:
                return self._found()  # Being replaced just now: the next look sees both halves.
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            state = seen or _UNREADABLE
            if state == self._refused:
                return self._found()
            self._refused = state
            self.failures_total += 1
            return self._found(f"{self._files.cert}, {self._files.key}: {str(error) or type(error).__name__}")
        self._server, self._client, self._expires_us = server, client, expires_us
        is_new = bool(self._used)
        self.reloads_total += is_new
        self._used, self._refused = seen, b""
        return self._found(is_new=is_new)

    def _found(self, problem: str | None = None, *, is_new: bool = False) -> Refreshed:
        return Refreshed(is_new=is_new, problem=problem, expires_us=self._expires_us)

    def _digest(self) -> bytes:
        files = self._files
        named = [path for path in (files.cert, files.key, files.ca, files.trusted) if path]
        return b"".join(hashlib.sha256(self._read(path)).digest() for path in named)

    def _contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext, int]:
        """Raises OSError, ValueError."""
        files = self._files
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for context in (server, client):
            context.minimum_version = files.minimum
            context.options |= ssl.OP_NO_COMPRESSION
            context.load_cert_chain(files.cert, files.key)
            if files.alpn:
                context.set_alpn_protocols(list(files.alpn))
        if files.ca:
            server.verify_mode = ssl.CERT_REQUIRED
            server.load_verify_locations(cadata=self._read(files.ca).decode("ascii"))
        if authority := files.ca or files.trusted:
            client.load_verify_locations(cadata=self._read(authority).decode("ascii"))
        else:
            client.load_default_certs()
        leaf = x509.load_pem_x509_certificates(self._read(files.cert))[0]
        return server, client, int(leaf.not_valid_after_utc.timestamp() * 1_000_000)
