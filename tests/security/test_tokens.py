"""Tokens: who knows the secret gets in, until it expires or is revoked; nobody learns more from a refusal."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.errors import InvalidRequest, Unauthenticated
from arc.security import tokens
from tests.fakes import SeededRng


@dataclass(frozen=True)
class Record:
    hash: str
    permissions: tuple[str, ...] = ("read",)
    expires_us: int | None = None
    enabled: bool = True


SECRET = tokens.generate_token(SeededRng(1).bytes(32))


def lookup_of(*records: Record):  # type: ignore[no-untyped-def]
    by_hash = {record.hash: record for record in records}
    return by_hash.get


def test_a_token_is_43_characters_of_a_header_safe_alphabet() -> None:
    assert len(SECRET) == 43
    assert set(SECRET) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert tokens.generate_token(SeededRng(2).bytes(32)) != SECRET


def test_a_token_is_made_of_enough_chance() -> None:
    with pytest.raises(AssertionError):
        tokens.generate_token(b"too short")


def test_only_the_token_itself_matches_its_hash() -> None:
    assert tokens.verify_token(SECRET, tokens.hash_token(SECRET))
    assert not tokens.verify_token(SECRET + "x", tokens.hash_token(SECRET))
    assert not tokens.verify_token(SECRET, "not a hash \u00e4")


def test_the_holder_gets_in() -> None:
    record = Record(tokens.hash_token(SECRET))
    assert tokens.authenticate(lookup_of(record), SECRET, 0) is record


@pytest.mark.parametrize("presented", [None, "", "wrong", "x" * 5000, "\ud800", "tab\x00"])
def test_a_stranger_stays_outside(presented: str | None) -> None:
    with pytest.raises(Unauthenticated):
        tokens.authenticate(lookup_of(Record(tokens.hash_token(SECRET))), presented, 0)


def test_a_wrong_record_from_the_lookup_lets_nobody_in() -> None:
    with pytest.raises(Unauthenticated):
        tokens.authenticate(lambda _: Record(tokens.hash_token("another")), SECRET, 0)


def test_a_token_works_until_the_microsecond_it_expires() -> None:
    record = Record(tokens.hash_token(SECRET), expires_us=1_000)
    assert tokens.authenticate(lookup_of(record), SECRET, 999) is record
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.authenticate(lookup_of(record), SECRET, 1_000)


def test_a_revoked_token_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="revoked"):
        tokens.authenticate(lookup_of(Record(tokens.hash_token(SECRET), enabled=False)), SECRET, 0)


@pytest.mark.parametrize(
    ("has", "needs", "allowed"),
    [
        (("read",), "read", True),
        (("read",), "write", False),
        (("read", "write"), "delete", False),
        (("admin",), "read", True),
        (("admin",), "admin", True),
        (("read", "write", "delete"), "admin", False),
        ((), "read", False),
    ],
)
def test_permissions_imply_what_they_should(has: tuple[str, ...], needs: str, allowed: bool) -> None:
    assert tokens.allows(has, needs) is allowed


def test_permissions_are_ordered_and_checked() -> None:
    assert tokens.check_permissions(["admin", "read", "read"]) == ("read", "admin")
    with pytest.raises(InvalidRequest, match="root"):
        tokens.check_permissions(["root"])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86_400),
        ("30m", 1_800),
        ("7d", 604_800),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("1d12h", 129_600),
        ("90s", 90),
        ("500ms", 0.5),
        ("1us", 0.000001),
        ("1\u00b5s", 0.000001),
        ("2000ns", 0.000002),
        ("36500d", 36_500 * 86_400),
    ],
)
def test_expiry_reads_go_durations_and_days(text: str, seconds: float) -> None:
    assert tokens.parse_expiry(text) == round(seconds * 1_000_000)


@pytest.mark.parametrize(
    "text", ["", "0h", "24", "h", "-1h", "1h ", " 1h", "1y", "1h-", "999ns", "36501d", "9" * 70 + "h"]
)
def test_expiry_refuses_what_is_no_sensible_duration(text: str) -> None:
    with pytest.raises(InvalidRequest):
        tokens.parse_expiry(text)


@given(st.text(max_size=70))
def test_expiry_never_fails_in_another_way(text: str) -> None:
    with contextlib.suppress(InvalidRequest):
        assert 0 < tokens.parse_expiry(text) <= tokens.EXPIRY_US_MAX


@pytest.mark.parametrize("token", ["short", "x" * 31, "x" * 40 + " ", "\u00e4" * 40, "x" * 40 + "\n", "x" * 5000])
def test_a_bootstrap_token_that_would_not_work_is_refused(token: str) -> None:
    with pytest.raises(InvalidRequest):
        tokens.check_bootstrap_token(token)


def test_a_long_bootstrap_token_is_taken() -> None:
    assert tokens.check_bootstrap_token("x" * 32) == "x" * 32
