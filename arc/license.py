"""What a cluster may do by its licence: a signed text, checked with the issuer's Ed25519 key that the operator pinned.

Without one everything is allowed: the built-in licence is open and without limits. One that is configured and is not
good stops the start; a node never goes on alone because its licence is broken (P-45).

The text is ``arc-licence-1.<payload>.<signature>``, both parts base64url without padding; line breaks and spaces mean
nothing. The payload is JSON; the signature is over the prefix, the dot and the encoded payload, so no other document of
the same issuer can pass for a licence. Time and file come from the caller. Nobody is asked over the network, and no
count leaves the node.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from arc.errors import ClusteringFeatureRequired, CoreLimitExceeded, InvalidRequest, LicenseRequired
from arc.ports import Disk

CLUSTERING = "clustering"
WRITER_FAILOVER = "writer_failover"
SHARED_STORAGE = "shared_storage_multi_writer"
FEATURES = (CLUSTERING, WRITER_FAILOVER, SHARED_STORAGE, "retention", "continuous_queries")
"""Every feature that a licence may name; one of a later version is kept and means nothing here."""

PREFIX = "arc-licence-1"
TEXT_CHARS_MAX = 16 << 10
KEY_BYTES = 32
DAY_SECONDS = 86_400


T = TypeVar("T", str, int)


class InvalidLicense(InvalidRequest):
    """A licence is configured and cannot be believed. The node must not start."""

    code = "invalid_license"


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseConfig:
    """Section ``[license]``: nothing here means the built-in licence, which is open and unlimited."""

    file: str = ""
    """A licence below the data folder."""
    text: str = ""
    """The licence itself, instead of a file."""
    issuer: str = ""
    """The Ed25519 key of who issued it, 64 hexadecimal digits: the only one whose signature counts."""

    def __post_init__(self) -> None:
        if self.file and self.text:
            raise ValueError("give either file or text, not both")
        if (self.file or self.text) and not self.issuer:
            raise ValueError("a licence needs issuer, the key of who issued it: any other signature is nobody's")
        if self.issuer and len(_hex(self.issuer)) != KEY_BYTES:
            raise ValueError(f"issuer must be {2 * KEY_BYTES} hexadecimal digits")


class LicenseState(StrEnum):
    """How a licence stands now."""

    VALID = "valid"
    GRACE = "grace"
    """Over, and everything still works: time to renew it."""
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class License:
    """What is allowed. ``max_cores`` of 0 or less is no limit; ``expires_us`` of None is never (wall clock, UTC)."""

    holder: str
    tier: str = "enterprise"
    features: tuple[str, ...] = ()
    max_cores: int = 0
    expires_us: int | None = None
    grace_days: int = 14

    def allows(self, feature: str) -> bool:
        """Whether the feature is part of it, whatever the date."""
        return feature in self.features

    def state(self, now_us: int) -> LicenseState:
        """How it stands at this wall clock time."""
        if self.expires_us is None or now_us < self.expires_us:
            return LicenseState.VALID
        ends_us = self.expires_us + self.grace_days * DAY_SECONDS * 1_000_000
        return LicenseState.GRACE if now_us < ends_us else LicenseState.EXPIRED


OPEN = License(holder="everybody", tier="open", features=FEATURES)
"""What holds when nothing is configured."""


def load_license(config: LicenseConfig, disk: Disk) -> License:
    """The configured licence, or the open one; reads a file, so on a worker. Raises InvalidLicense."""
    text = config.text
    if config.file:
        try:
            text = disk.read(config.file).decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidLicense(f"license.file {config.file!r} cannot be read: {error}") from error
    return parse_license(text, config.issuer) if text else OPEN


def parse_license(text: str, public_key: str) -> License:
    """Check the signature, then read. Raises InvalidLicense, whose sentence never quotes the text."""
    if len(text) > TEXT_CHARS_MAX:
        raise InvalidLicense(f"a licence has at most {TEXT_CHARS_MAX} characters, not {len(text)}")
    parts = "".join(text.split()).split(".")
    if len(parts) != 3 or parts[0] != PREFIX:
        raise InvalidLicense(f"this is no licence: it must begin with {PREFIX!r} and have three parts")
    signed, signature = f"{parts[0]}.{parts[1]}".encode(), _bytes(parts[2])
    try:
        Ed25519PublicKey.from_public_bytes(_hex(public_key)).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise InvalidLicense(
            "the licence is not signed by the key in license.issuer: it was changed, cut short, or another issuer's"
        ) from error
    try:
        return _read(json.loads(_bytes(parts[1])))
    except (ValueError, TypeError) as error:
        raise InvalidLicense(f"the licence is signed and cannot be understood: {error}") from error


def sign_license(licence: License, private_key: bytes) -> str:
    """The text of a licence; for issuers and tests. ``private_key`` has 32 bytes."""
    facts = {each.name: getattr(licence, each.name) for each in fields(License)}
    head = f"{PREFIX}.{_text(json.dumps(facts, sort_keys=True).encode())}"
    return f"{head}.{_text(Ed25519PrivateKey.from_private_bytes(private_key).sign(head.encode()))}"


def check_clustering(licence: License | None, now_us: int) -> None:
    """Raises LicenseRequired without a licence in force, ClusteringFeatureRequired when it does not speak of it."""
    require_feature(licence, CLUSTERING, now_us)


def require_feature(licence: License | None, feature: str, now_us: int) -> None:
    """Raises LicenseRequired without a licence in force, ClusteringFeatureRequired when the feature is no part of
    it."""
    if licence is None:
        raise LicenseRequired(f"{feature} needs a licence, and there is none")
    if licence.state(now_us) is LicenseState.EXPIRED:
        raise LicenseRequired(
            f"the licence of {licence.holder} has expired, and so have its {licence.grace_days} days of grace: "
            f"{feature} needs one that is in force"
        )
    if not licence.allows(feature):
        raise ClusteringFeatureRequired(f"the licence of {licence.holder} does not include {feature}")


class Described(Protocol):
    """What is needed of `arc.catalog.nodes.NodeRecord`."""

    @property
    def name(self) -> str:
        """The node's name."""
        ...

    @property
    def cores(self) -> int:
        """Cores it may use."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """The account: ``maximum`` of 0 is no limit, and ``remaining`` is None then."""

    total: int
    maximum: int

    @property
    def remaining(self) -> int | None:
        """How many more are allowed, never below 0."""
        return max(self.maximum - self.total, 0) if self.maximum > 0 else None


def count_cores(licence: License, nodes: Iterable[Described]) -> Cores:
    """What the described nodes have and may have."""
    return Cores(total=sum(each.cores for each in nodes), maximum=max(licence.max_cores, 0))


def check_cores(licence: License, nodes: Iterable[Described], node: str, cores: int) -> None:
    """Whether ``node`` may take part with ``cores``: what it had before is not counted twice. Raises
    CoreLimitExceeded.

    A node that is counted already and brings no more than before always may: a limit that shrank stops nobody who is
    there.
    """
    known = tuple(nodes)
    before = sum(each.cores for each in known if each.name == node)
    current = count_cores(licence, known)
    projected = current.total - before + cores
    if current.maximum and projected > current.maximum and cores > before:
        raise CoreLimitExceeded(
            f"{node} brings {cores} cores to {current.total - before} of the other nodes: {projected}, and the licence "
            f"allows {current.maximum}"
        )


def _read(facts: object) -> License:
    if not isinstance(facts, dict):
        raise ValueError("the payload is no object")
    expires, features = facts.get("expires_us"), facts.get("features", [])
    if not isinstance(features, list) or not all(isinstance(each, str) for each in features):
        raise ValueError("features must be a list of names")
    return License(
        holder=_required(facts, "holder", str, None),
        tier=_required(facts, "tier", str, "enterprise"),
        features=tuple(sorted(features)),
        max_cores=_required(facts, "max_cores", int, 0),
        expires_us=None if expires is None else _required(facts, "expires_us", int, None),
        grace_days=max(_required(facts, "grace_days", int, 0), 0),
    )


def _required(facts: dict[str, object], name: str, kind: type[T], default: T | None) -> T:
    value = facts.get(name, default)
    if type(value) is not kind:
        raise ValueError(f"{name} must be {kind.__name__}")
    return value


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise InvalidLicense("this is no licence: a part of it is not base64url") from error


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
