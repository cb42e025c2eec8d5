"""What two nodes prove to each other with a shared secret, and how they protect what they say afterwards.

Keys come by HKDF (RFC 5869, SHA-256) from the secret and an X25519 exchange (RFC 7748), so who records a conversation
can neither guess at a weak secret nor read it when the secret leaks later. Every key has a purpose of its own, named by
its label: nothing that one end made is ever valid at the other one's place.

Frames are sealed with AES-256-GCM (NIST SP 800-38D) under a key of one direction of one session; the nonce is the
frame's number, which is never sent. Measured on one core with `cryptography` 50: 1.4 µs for 60 bytes and 6 GB/s at
256 KiB, against 1.0 µs and 0.5 GB/s for keyed BLAKE2b and 2.9 µs and 1 GB/s for HMAC-SHA256; that it encrypts as well
is free.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SECRET_CHARS_MIN = 16
"""A secret that is shorter is refused; one made by a generator has 32 or more."""

INSECURE_SECRET = "arc-insecure-dev-secret"
"""Known to everybody: what `insecure_dev` puts in the place of a secret, so that there is one path and not two."""

KEY_BYTES = 32
NONCE_BYTES = 32
TAG_BYTES = 16
_GCM_NONCE_BYTES = 12


def root_key(secret: bytes, exchanged: bytes, transcript: bytes) -> bytes:
    """HKDF-Extract over what both ends share, bound to all that was said so far."""
    return hmac.digest(transcript, len(secret).to_bytes(4, "big") + secret + exchanged, "sha256")


def labelled_key(root: bytes, label: bytes, context: bytes = b"") -> bytes:
    """HKDF-Expand to one key of 32 bytes for the purpose that the label names."""
    return hmac.digest(root, label + b"\x00" + context + b"\x01", "sha256")


def proof(key: bytes, *parts: bytes) -> bytes:
    """A MAC over parts whose borders count: 32 bytes."""
    return hmac.digest(key, b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")


def is_equal(left: bytes, right: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(left, right)


def digest(*parts: bytes) -> bytes:
    """SHA-256 over parts whose borders count."""
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


class Exchange:
    """One ephemeral half of an X25519 exchange, from 32 bytes of chance."""

    def __init__(self, chance: bytes) -> None:
        assert len(chance) == KEY_BYTES
        self._private = X25519PrivateKey.from_private_bytes(chance)
        self.public = self._private.public_key().public_bytes_raw()

    def with_public(self, public: bytes) -> bytes:
        """The shared 32 bytes. Raises ValueError: no key, or one that makes them known to all (RFC 7748, 6.1)."""
        return self._private.exchange(X25519PublicKey.from_public_bytes(public))


class Seal:
    """Protects one direction: what it closes opens only at the same place of the same direction.

    One object closes or opens; its own counter is the nonce, so a frame that is repeated, left out, moved or sent back
    does not open.
    """

    __slots__ = ("_aead", "_count")

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._aead = AESGCM(key)
        self._count = 0

    def close(self, payload: bytes | memoryview, header: bytes) -> bytes:
        """The sealed payload, `TAG_BYTES` longer; ``header`` is covered and not included."""
        nonce = self._count.to_bytes(_GCM_NONCE_BYTES, "big")
        self._count += 1
        return self._aead.encrypt(nonce, payload, header)

    def open(self, sealed: bytes | memoryview, header: bytes) -> bytes:
        """The payload. Raises ValueError: not what was sent here next."""
        nonce = self._count.to_bytes(_GCM_NONCE_BYTES, "big")
        self._count += 1
        try:
            return self._aead.decrypt(nonce, sealed, header)
        except InvalidTag:
            raise ValueError("a frame that the peer did not send, or not now") from None
