"""Who is calling: finds the token wherever clients put it, and asks the catalog whose it is.

Permissions are not decided here but asked in the route table (`arc.api.routes`) and where rows are touched. What a
caller may is read with his token from one version of the catalog, for each request anew, so a right that was taken
away is gone with the next one. A right token is always let in; only wrong
ones are counted against an address. Guessing 256 random bits is hopeless anyway, and an agent with an old token must
not lock out its neighbours behind the same address; the limit keeps a storm of failures from costing log and CPU.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from arc.api.config import AuthConfig
from arc.api.errors import TooManyRequests
from arc.api.heads import Head
from arc.api.principal import ANONYMOUS, EVERYBODY, Permission, Principal
from arc.errors import Unauthenticated, Unavailable
from arc.ports import Clock
from arc.security.tokens import authenticate
from arc.telemetry import Log

if TYPE_CHECKING:
    from arc.catalog.fsm import Catalog

ADDRESSES_MAX = 10_000
"""Addresses whose failures are remembered; the one that failed longest ago is forgotten first."""


class Gate:
    """Lets requests in. One per server; owns the failure counts."""

    def __init__(
        self,
        config: AuthConfig,
        catalog: Callable[[], Catalog],
        clock: Clock,
        log: Log,
        behind: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._behind = behind
        self._clock = clock
        self._log = log
        self._failures = FailureLimiter(config.failed_per_minute)
        self._warned_query_token = False
        self.requests = 0
        self.failed = 0
        self.limited = 0

    @property
    def enabled(self) -> bool:
        """Whether tokens are asked for."""
        return self._config.enabled

    def admit(self, head: Head, permission: Permission) -> Principal:
        """The caller, who has ``permission``. Raises Unauthenticated, Forbidden, TooManyRequests."""
        if not self._config.enabled:
            return EVERYBODY
        if permission is Permission.PUBLIC:
            return ANONYMOUS
        principal = self.identify(head)
        principal.require(permission)
        return principal

    def identify(self, head: Head) -> Principal:
        """The owner of the request's token, whatever its rights.

        Raises Unauthenticated, TooManyRequests, Unavailable (this node does not know all tokens yet).
        """
        self.requests += 1
        token = find_token(head)
        if token is None:
            # Nothing was guessed, so nothing counts against the address.
            raise Unauthenticated("Authentication required")
        if token.source == "p" and not self._warned_query_token:
            self._warned_query_token = True
            self._log.warning("token_in_url", hint="tokens in ?p= end up in access logs; use the Authorization header")
        catalog = self._catalog()
        try:
            record = authenticate(catalog.token_by_hash, token.text, self._clock.wall_us())
        except Unauthenticated as error:
            if (reason := self._behind()) is not None:
                # Clients give up at 401 and drop what they have; here nobody knows whether the token is wrong.
                raise Unavailable(f"this node may not know your token yet: {reason}") from error
            raise self._failure(head, token) from error
        return Principal.of(record, catalog)

    def _failure(self, head: Head, token: FoundToken) -> Unauthenticated | TooManyRequests:
        self.failed += 1
        wait = self._failures.failed(client_key(head.client), self._clock.now())
        if wait is None:
            # Bounded by the limiter; the token itself is never logged, not even a part of it.
            self._log.warning("token_refused", client=head.client, path=head.path, source=token.source)
            return Unauthenticated("Invalid or expired token")
        self.limited += 1
        return TooManyRequests("too many failed authentication attempts", retry_after_seconds=wait)


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A token and the place it was found: ``bearer``, ``token``, ``basic``, ``bare``, ``x-api-key`` or ``p``."""

    text: str
    source: str


def find_token(head: Head) -> FoundToken | None:
    """Look where Arc's and InfluxDB's clients put tokens, in their order (ecosystem 2, data plane 1.0)."""
    authorization = head.header(b"authorization")
    if authorization:
        return _from_authorization(authorization)
    key = head.header(b"x-api-key")
    if key:
        return FoundToken(key, "x-api-key")
    if b"p=" in head.query_string:
        text = head.query().get("p", "")
        if text:
            return FoundToken(text, "p")
    return None


def _from_authorization(value: str) -> FoundToken | None:
    scheme, _, rest = value.partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer" | "token":
            return FoundToken(rest, scheme.lower()) if rest else None
        case "basic":
            return _from_basic(rest)
        case _:
            return FoundToken(value, "bare")


def _from_basic(encoded: str) -> FoundToken | None:
    """The password is the token; a lone user name too, for tools that have only that field (RFC 7617)."""
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode("utf-8", "replace").partition(":")
    except (binascii.Error, ValueError):
        return None
    text = password or name
    return FoundToken(text, "basic") if text else None


def client_key(client: str) -> str:
    """What counts as one caller: an IPv4 address, or the /64 that one IPv6 customer gets."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return address.exploded[:19]
    return client


class FailureLimiter:
    """A bucket per address that holds ``per_minute`` failures and refills evenly."""

    def __init__(self, per_minute: int) -> None:
        assert per_minute >= 1
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def failed(self, address: str, now: float) -> int | None:
        """Count a failure at ``now`` (monotonic seconds). Seconds to wait when there were too many, else None."""
        level, updated = self._buckets.pop(address, (float(self._per_minute), now))
        level = min(float(self._per_minute), level + (now - updated) * self._per_minute / 60.0)
        allowed = level >= 1.0
        self._buckets[address] = (level - 1.0 if allowed else level, now)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)
        return None if allowed else max(1, round((1.0 - level) * 60.0 / self._per_minute + 0.5))
