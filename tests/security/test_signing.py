"""Keys and seals: each for one purpose, one direction and one place."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from arc.security import signing
from arc.security.signing import Exchange, Seal

KEY = bytes(range(32))


def test_keys_are_those_of_hkdf() -> None:
    """RFC 5869, by another implementation of it."""
    secret, exchanged, transcript = b"secret", b"e" * 32, b"t" * 32
    root = signing.root_key(secret, exchanged, transcript)
    kdf = HKDF(hashes.SHA256(), 32, salt=transcript, info=b"label\x00context")
    assert signing.labelled_key(root, b"label", b"context") == kdf.derive(b"\0\0\0\x06" + secret + exchanged)


def test_borders_between_parts_count() -> None:
    """Moving a byte from one part to the next makes another proof."""
    assert signing.proof(KEY, b"ab", b"c") != signing.proof(KEY, b"a", b"bc")
    assert signing.digest(b"ab", b"c") != signing.digest(b"a", b"bc") != signing.digest(b"a", b"b", b"c")
    assert signing.root_key(b"ab", b"c", b"t") != signing.root_key(b"a", b"bc", b"t")


def test_both_ends_of_an_exchange_find_the_same() -> None:
    one, other = Exchange(KEY), Exchange(bytes(range(1, 33)))
    assert one.with_public(other.public) == other.with_public(one.public)
    for public in (b"", bytes(31), bytes(32), bytes(33)):
        with pytest.raises(ValueError):  # whatever the library says
            one.with_public(public)


def test_what_is_closed_opens_at_its_place_only() -> None:
    closing, opening = Seal(KEY), Seal(KEY)
    first, second = closing.close(b"one", b"h"), closing.close(b"one", b"h")
    assert first != second
    assert opening.open(first, b"h") == b"one"
    with pytest.raises(ValueError, match="did not send"):
        opening.open(first, b"h")
    with pytest.raises(ValueError, match="did not send"):
        Seal(KEY).open(first, b"H")
    with pytest.raises(ValueError, match="did not send"):
        Seal(bytes(32)).open(first, b"h")


def test_the_secret_for_everybody_is_long_enough_to_be_one() -> None:
    assert len(signing.INSECURE_SECRET) >= signing.SECRET_CHARS_MIN
