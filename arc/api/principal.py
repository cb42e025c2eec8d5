"""Who is calling, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from arc.errors import Forbidden
from arc.security.tokens import PERMISSIONS, allows


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
    """A caller. ``token_id`` is None when authentication is off or the route is public."""

    token_id: int | None
    name: str
    permissions: frozenset[str]

    def may(self, permission: Permission) -> bool:
        """Whether this caller has the right."""
        if permission in (Permission.PUBLIC, Permission.ANY):
            return True
        return allows(self.permissions, permission.value)

    def require(self, permission: Permission) -> None:
        """Raises Forbidden, in the words that clients search for, when the right is missing."""
        if not self.may(permission):
            raise Forbidden(f"Permission denied: {permission.value} required")


ANONYMOUS = Principal(token_id=None, name="anonymous", permissions=frozenset())
"""Somebody on a public route."""

EVERYBODY = Principal(token_id=None, name="auth-disabled", permissions=frozenset(PERMISSIONS))
"""The caller of a node whose authentication is switched off: may do everything."""
