"""What may be asked of the catalog about teams and their roles, and how it is remembered who asked.

These are commands like those of `commands`, which lists them all; the same rules hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from arc.catalog.commands import Action

AccessKind = Literal["organization", "team", "role", "rule"]

ACCESS_KINDS: tuple[AccessKind, ...] = ("organization", "team", "role", "rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOrganization:
    """Add an organization, which holds teams. The result's value is its id, as with all that is made here."""

    name: str
    description: str = ""
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOrganization:
    """Change what is not None. The teams of one that is not enabled grant nothing."""

    id: int
    name: str | None = None
    description: str | None = None
    enabled: bool | None = None
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTeam:
    """Add a team, which grants roles to the tokens in it."""

    organization: int
    name: str
    description: str = ""
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateTeam:
    """Change what is not None. A team that is not enabled grants nothing."""

    id: int
    name: str | None = None
    description: str | None = None
    enabled: bool | None = None
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRole:
    """Let a team do this on the databases that the pattern fits (`security.rights`)."""

    team: int
    database_pattern: str
    permissions: tuple[str, ...]
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRole:
    """Change what is not None."""

    id: int
    database_pattern: str | None = None
    permissions: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRule:
    """Narrow a role to measurements: with the first rule its own permissions count no more."""

    role: int
    measurement_pattern: str
    permissions: tuple[str, ...]
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DropAccess:
    """Forget one of these with everything below it; ``kind`` is one of `ACCESS_KINDS`.

    Where a team goes, tokens leave it. One that is in no team then keeps none of its own permissions but ``admin``:
    what a team forbade must not become allowed because the team is gone.
    """

    kind: AccessKind
    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinTeam:
    """Put a token into a team: from now on its teams decide what it may."""

    token: int
    team: int
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveTeam:
    """Take a token out of a team. In no team, it has its own permissions again."""

    token: int
    team: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """Do something in somebody's name, and remember in the same step that he asked for it (`audit`).

    A refused action is not remembered: nothing happened. Without an action it is remembered alone: for acts that are
    no commands. The fields are those of `audit.AuditEntry`.
    """

    at_us: int
    event_type: str
    actor: str
    token_id: int | None = None
    method: str = ""
    path: str = ""
    database: str = ""
    measurement: str = ""
    status: int = 0
    client: str = ""
    user_agent: str = ""
    duration_ms: int = 0
    detail: str = ""
    action: Action | None = None


AccessAction = (
    CreateOrganization
    | UpdateOrganization
    | CreateTeam
    | UpdateTeam
    | CreateRole
    | UpdateRole
    | CreateRule
    | DropAccess
    | JoinTeam
    | LeaveTeam
)
