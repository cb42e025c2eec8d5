"""What the holder of a token may do to which rows: one pure decision, asked wherever rows are read, written or removed.

A holder in no team has the permissions of his token, on everything. Membership in a team makes the teams decide:
nothing but what one of their roles grants is allowed, whatever the token itself may, or a right could never be taken
away by a team. ``admin`` on the token stays what it is, in a team or not: who may hand out every right has every right.

A role grants its permissions on the databases its pattern fits. With measurement rules it grants what these say
instead, on the measurements their patterns fit, and nothing on others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from arc.errors import InvalidRequest
from arc.security.tokens import PERMISSIONS, allows

PATTERN_CHARS_MAX = 129
"""A measurement's longest name and a star."""

_DATABASE_PATTERN = re.compile(r"[A-Za-z0-9_-]+")


class Rule(Protocol):
    """What a role grants on some measurements."""

    @property
    def measurement_pattern(self) -> str:
        """See `fits`."""
        ...

    @property
    def permissions(self) -> tuple[str, ...]:
        """A subset of `PERMISSIONS`."""
        ...


class Grant(Protocol):
    """What a role grants on some databases."""

    @property
    def database_pattern(self) -> str:
        """See `fits`."""
        ...

    @property
    def permissions(self) -> tuple[str, ...]:
        """A subset of `PERMISSIONS`; on every measurement, unless there are rules."""
        ...

    @property
    def rules(self) -> Sequence[Rule]:
        """If there are any, these decide alone."""
        ...


class Holder(Protocol):
    """Whoever asks."""

    @property
    def permissions(self) -> Collection[str]:
        """Those of the token itself."""
        ...

    @property
    def grants(self) -> Sequence[Grant] | None:
        """Those of the teams; None for a token in no team."""
        ...


@dataclass(frozen=True, slots=True)
class Allowed:
    """Go ahead."""


@dataclass(frozen=True, slots=True)
class Denied:
    """Not allowed; ``reason`` is for the caller, and tells nothing that he does not know."""

    reason: str


Decision = Allowed | Denied

ALLOWED = Allowed()


def allowed(holder: Holder, action: str, database: str, measurement: str | None) -> Decision:
    """Decide on ``action``, one of `PERMISSIONS`, on a measurement; None means the whole database, whatever is in it
    or will be. Whether the two exist makes no difference.
    """
    assert action in PERMISSIONS, action
    if holder.grants is None or "admin" in holder.permissions:
        return ALLOWED if allows(holder.permissions, action) else Denied(f"Permission denied: {action} required")
    if any(_covers(grant, action, database, measurement) for grant in holder.grants):
        return ALLOWED
    what = f"database {database!r}" if measurement is None else f"measurement {measurement!r} of database {database!r}"
    return Denied(f"Permission denied: {action} required on {what}, and no team of this token grants it")


def allowed_within(holder: Holder, action: str, database: str) -> bool:
    """Whether the action is allowed on anything that the database has or could have: then the database is no secret."""
    if holder.grants is None or "admin" in holder.permissions:
        return allows(holder.permissions, action)
    return any(
        fits(grant.database_pattern, database) and any(allows(held, action) for held in _lists(grant))
        for grant in holder.grants
    )


def allowed_somewhere(holder: Holder, action: str) -> bool:
    """Whether the action is allowed on anything at all: what a route asks before it is known what it is about."""
    if holder.grants is None or "admin" in holder.permissions:
        return allows(holder.permissions, action)
    # A role's admin is for its databases; it opens none of the doors of the server.
    return action != "admin" and any(allows(held, action) for grant in holder.grants for held in _lists(grant))


def effective_permissions(holder: Holder) -> tuple[str, ...]:
    """What is allowed somewhere, in the order of `PERMISSIONS`."""
    return tuple(permission for permission in PERMISSIONS if allowed_somewhere(holder, permission))


def fits(pattern: str, name: str) -> bool:
    """Whether a name fits: ``*`` fits every one, ``plant*`` and ``*_raw`` what begins or ends so, others themselves."""
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    return pattern == name


def check_database_pattern(pattern: str) -> str:
    """Return it. Raises InvalidRequest unless it could fit the name of a database."""
    rest = _without_star(pattern)
    if len(pattern) > 65 or (rest and _DATABASE_PATTERN.fullmatch(rest) is None):
        raise InvalidRequest(f"database pattern {pattern[:80]!r} fits no name: letters, digits, '_', '-' and one '*'")
    return pattern


def check_measurement_pattern(pattern: str) -> str:
    """Return it. Raises InvalidRequest unless it could fit the name of a measurement."""
    rest = _without_star(pattern)
    if len(pattern) > PATTERN_CHARS_MAX or not rest.isprintable():
        raise InvalidRequest(
            f"measurement pattern {pattern[:80]!r} must be printable and of {PATTERN_CHARS_MAX} at most"
        )
    return pattern


def _without_star(pattern: str) -> str:
    rest = pattern[:-1] if pattern.endswith("*") else pattern.removeprefix("*")
    if not pattern or "*" in rest:
        raise InvalidRequest(
            f"pattern {pattern[:80]!r} must be '*', a name, or a name with one '*' at its begin or end"
        )
    return rest


def _covers(grant: Grant, action: str, database: str, measurement: str | None) -> bool:
    if not fits(grant.database_pattern, database):
        return False
    if not grant.rules:
        return allows(grant.permissions, action)
    if measurement is None:
        # Only a rule for everything is about the whole.
        return any(rule.measurement_pattern == "*" and allows(rule.permissions, action) for rule in grant.rules)
    return any(fits(rule.measurement_pattern, measurement) and allows(rule.permissions, action) for rule in grant.rules)


def _lists(grant: Grant) -> Sequence[Collection[str]]:
    return [rule.permissions for rule in grant.rules] if grant.rules else [grant.permissions]
