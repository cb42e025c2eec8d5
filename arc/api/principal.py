"""Who is calling, and what they may do. Decided by `arc.security.rights`, for every place that asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from arc.catalog.access import TokenRecord
from arc.catalog.facts import Catalog
from arc.catalog.teams import Role
from arc.catalog.visible import visible
from arc.errors import Forbidden, Unauthenticated
from arc.security.rights import Allowed, Denied, allowed, allowed_somewhere, allowed_within
from arc.security.tokens import PERMISSIONS


class Permission(Enum):
    """What a route asks of its caller. ``PUBLIC`` asks nothing, ``ANY`` a valid token, the rest that right."""

    PUBLIC = "public"
    ANY = "any"
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A caller, as one version of the catalog knows him.

    ``token_id`` is None when authentication is off or the route is public. ``grants`` is what his teams allow, None
    when he is in none (`arc.security.rights`).
    """

    token_id: int | None
    name: str
    permissions: frozenset[str]
    grants: tuple[Role, ...] | None = None

    @classmethod
    def of(cls, token: TokenRecord, catalog: Catalog) -> Principal:
        """The holder of a token, as this version of the catalog knows him."""
        return cls(
            token_id=token.id,
            name=token.name,
            permissions=frozenset(token.permissions),
            grants=catalog.teams.grants(token.id),
        )

    def as_of(self, catalog: Catalog) -> Principal:
        """The same caller in a later version: what he may do with rows is read from the version they are read from.

        Raises Unauthenticated when his token is gone or revoked by then.
        """
        if self.token_id is None:
            return self
        token = catalog.tokens.get(self.token_id)
        if token is None or not token.enabled:
            raise Unauthenticated("Invalid or expired token")
        return Principal.of(token, catalog)

    @property
    def is_limited(self) -> bool:
        """Whether it matters which rows it is about; otherwise the route's question has answered all."""
        return self.grants is not None and "admin" not in self.permissions

    def may(self, permission: Permission) -> bool:
        """Whether this caller has the right, on anything."""
        if permission in (Permission.PUBLIC, Permission.ANY):
            return True
        return allowed_somewhere(self, permission.value)

    def require(self, permission: Permission) -> None:
        """Raises Forbidden, in the words that clients search for, when the right is missing."""
        if not self.may(permission):
            raise Forbidden(f"Permission denied: {permission.value} required")

    def require_on(self, permission: Permission, database: str, measurement: str | None) -> None:
        """Raises Forbidden unless the right covers the measurement, or the whole database when that is None."""
        decision = allowed(self, permission.value, database, measurement)
        if isinstance(decision, Denied):
            raise Forbidden(decision.reason)

    def require_on_all(self, permission: Permission, database: str, measurements: Iterable[str]) -> None:
        """`require`, and `require_on` for each."""
        self.require(permission)
        if self.is_limited:
            for measurement in measurements:
                self.require_on(permission, database, measurement)

    def sees(self, database: str) -> bool:
        """Whether anything in it may be read; see `arc.catalog.visible`."""
        return allowed_within(self, "read", database)

    def reads(self, database: str, measurement: str) -> bool:
        """Whether its rows may be read."""
        return isinstance(allowed(self, "read", database, measurement), Allowed)

    def require_seen(self, database: str, measurement: str | None) -> None:
        """Raises Forbidden unless it may be read, or anything in the database when ``measurement`` is None; whether
        there is such a thing or not.
        """
        if measurement is not None:
            self.require_on(Permission.READ, database, measurement)
        elif not self.sees(database):
            raise Forbidden(f"Permission denied: read required on database {database!r}")

    def seen(self, catalog: Catalog) -> Catalog:
        """The catalog as this caller may see it."""
        return visible(catalog, self) if self.is_limited else catalog


ANONYMOUS = Principal(token_id=None, name="anonymous", permissions=frozenset())
"""Somebody on a public route."""

EVERYBODY = Principal(token_id=None, name="auth-disabled", permissions=frozenset(PERMISSIONS))
"""The caller of a node whose authentication is switched off: may do everything."""
