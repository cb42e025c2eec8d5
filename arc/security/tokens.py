"""API tokens: a random secret that only its holder knows; the catalog keeps its hash.

The hash is plain SHA-256, on purpose. A slow, salted hash protects secrets that people choose, because those can be
guessed; ours are 256 random bits, which no number of guesses reaches, and a slow hash would hand every stranger a way
to burn our processors. A secret that the operator brings (the bootstrap token) must therefore be long, and random.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

from arc.errors import InvalidRequest, Unauthenticated

PERMISSIONS = ("read", "write", "delete", "admin")
"""Every permission there is. ``admin`` implies the others."""

DEFAULT_PERMISSIONS = ("read", "write")
"""What a token gets when its maker says nothing."""

SECRET_BYTES = 32
BOOTSTRAP_CHARS_MIN = 32
"""A chosen first token must not be easier to guess than a made one looks."""

PRESENTED_CHARS_MAX = 4_096
"""A longer text is not hashed at all."""

EXPIRY_US_MAX = 100 * 365 * 86_400 * 1_000_000
"""100 years: more is a slip of the finger."""


class Token(Protocol):
    """What must be known of a token to let its holder in."""

    @property
    def hash(self) -> str:
        """SHA-256 of the secret, lower-case hex."""
        ...

    @property
    def permissions(self) -> tuple[str, ...]:
        """A subset of `PERMISSIONS`."""
        ...

    @property
    def expires_us(self) -> int | None:
        """Microseconds since 1970 UTC; None: never."""
        ...

    @property
    def enabled(self) -> bool:
        """False once revoked."""
        ...


T = TypeVar("T", bound=Token)


def generate_token(random: bytes) -> str:
    """Return the text of a new token from 32 random bytes (`Rng.bytes`).

    43 characters of URL-safe base64, no prefix.
    """
    assert len(random) == SECRET_BYTES, "a token is made of exactly 32 random bytes"
    return base64.urlsafe_b64encode(random).rstrip(b"=").decode("ascii")


def hash_token(token: str) -> str:
    """SHA-256 of the token's text in hex: what the catalog keeps."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def verify_token(token: str, hash_hex: str) -> bool:
    """Say whether the hash is that of the token, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(hash_token(token).encode("ascii"), hash_hex.encode("utf-8"))


def authenticate(lookup: Callable[[str], T | None], presented: str | None, wall_us: int) -> T:
    """Return the record of the presented token.

    Raises Unauthenticated, whose sentence does not tell a stranger what was wrong.

    ``lookup`` finds a record by hash (`Catalog.token_by_hash`). Looking up by hash leaks no part of a token through its
    timing: a stranger cannot choose hashes. The comparison afterwards is for a lookup that is not exact. Only the
    holder of a valid secret learns that it expired or was revoked. Called for every request, so nothing outlives its
    expiry in a cache.
    """
    if not presented:
        raise Unauthenticated("a token is required")
    if len(presented) > PRESENTED_CHARS_MAX:
        raise Unauthenticated("the token is not valid")
    record = lookup(hash_token(presented))
    if record is None or not verify_token(presented, record.hash):
        raise Unauthenticated("the token is not valid")
    if not record.enabled:
        raise Unauthenticated("the token was revoked")
    if record.expires_us is not None and wall_us >= record.expires_us:
        raise Unauthenticated("the token has expired")
    return record


def allows(permissions: Collection[str], needed: str) -> bool:
    """Say whether these permissions include the needed one; ``admin`` includes every one."""
    assert needed in PERMISSIONS, needed
    return needed in permissions or "admin" in permissions


def check_permissions(permissions: Collection[str]) -> tuple[str, ...]:
    """Return them without duplicates, in the order of `PERMISSIONS`. Raises InvalidRequest for an unknown one."""
    for permission in permissions:
        if permission not in PERMISSIONS:
            raise InvalidRequest(f"permission {permission!r} is none of {', '.join(PERMISSIONS)}")
    return tuple(permission for permission in PERMISSIONS if permission in permissions)


def check_bootstrap_token(token: str) -> str:
    """Return the operator's own first token. Raises InvalidRequest if it is short or not plain printable ASCII."""
    if len(token) < BOOTSTRAP_CHARS_MIN:
        raise InvalidRequest(
            f"the bootstrap token must have at least {BOOTSTRAP_CHARS_MIN} characters; it has {len(token)}"
        )
    if len(token) > PRESENTED_CHARS_MAX:
        raise InvalidRequest(f"the bootstrap token must have at most {PRESENTED_CHARS_MAX} characters")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidRequest("the bootstrap token must be printable ASCII without spaces, to fit into a header")
    return token


_UNIT_NS = {
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ns": 1,
}
_PART = re.compile(r"([0-9]{1,18})(?:\.([0-9]{0,18}))?(ms|us|\u00b5s|\u03bcs|ns|d|h|m|s)")


def parse_expiry(text: str) -> int:
    """Return the microseconds of a duration in Go's syntax with ``d`` added: ``24h``, ``7d``, ``1h30m``, ``1.5h``.

    Raises InvalidRequest unless it is a positive duration of at least a microsecond and at most 100 years.
    """
    if len(text) > 64:
        raise InvalidRequest(f"expires_in {text[:64]!r}... is too long to be a duration")
    total_ns = 0
    place = 0
    while place < len(text):
        part = _PART.match(text, place)
        if part is None:
            raise InvalidRequest(f"expires_in {text!r} is not a duration; write for example 24h, 30m, 7d or 1h30m")
        whole, fraction, unit = part.groups()
        total_ns += int(whole) * _UNIT_NS[unit]
        if fraction:
            total_ns += int(fraction) * _UNIT_NS[unit] // 10 ** len(fraction)
        place = part.end()
    total_us = total_ns // 1_000
    if not 0 < total_us <= EXPIRY_US_MAX:
        raise InvalidRequest(f"expires_in {text!r} must be more than nothing and at most 100 years")
    return total_us
