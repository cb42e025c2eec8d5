"""How organizations, teams, roles and measurement rules look as JSON: the keys that clients of Arc in Go read."""

from __future__ import annotations

from arc.api.routes import Parameter, Schema
from arc.api.schemas import BOOLEAN, INTEGER, STRING, TIMESTAMP, array, obj
from arc.catalog.teams import MeasurementRule, Membership, Organization, Role, Team
from arc.security.tokens import PERMISSIONS
from arc.telemetry import rfc3339_ms

PERMISSION_LIST: Schema = {"type": "array", "items": {"type": "string", "enum": list(PERMISSIONS)}, "minItems": 1}

RULE_SCHEMA = obj(
    {"id": INTEGER, "role_id": INTEGER, "measurement_pattern": STRING, "permissions": array(STRING),
     "created_at": TIMESTAMP}
)  # fmt: skip
ROLE_SCHEMA = obj(
    {"id": INTEGER, "team_id": INTEGER, "database_pattern": STRING, "permissions": array(STRING),
     "created_at": TIMESTAMP},
    {"measurement_permissions": array(RULE_SCHEMA)},
)  # fmt: skip
TEAM_SCHEMA = obj(
    {"id": INTEGER, "organization_id": INTEGER, "name": STRING, "description": STRING, "created_at": TIMESTAMP,
     "updated_at": TIMESTAMP, "enabled": BOOLEAN},
    {"roles": array(ROLE_SCHEMA)},
)  # fmt: skip
ORGANIZATION_SCHEMA = obj(
    {"id": INTEGER, "name": STRING, "description": STRING, "created_at": TIMESTAMP, "updated_at": TIMESTAMP,
     "enabled": BOOLEAN},
    {"teams": array(TEAM_SCHEMA)},
)  # fmt: skip
MEMBERSHIP_SCHEMA = obj({"id": INTEGER, "token_id": INTEGER, "team_id": INTEGER, "created_at": TIMESTAMP})
DONE_SCHEMA = obj({"success": BOOLEAN, "message": STRING})

NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
DESCRIPTION: Schema = {"type": ["string", "null"], "maxLength": 1024}


def number_in_path(name: str, about: str) -> Parameter:
    """An id in the path."""
    schema: Schema = {"type": "integer", "minimum": 1, "maximum": 2**53}
    return Parameter(name=name, place="path", about=about, schema=schema, required=True)


def organization_shown(found: Organization) -> dict[str, object]:
    """Without its teams."""
    return {
        "id": found.id,
        "name": found.name,
        "description": found.description,
        "created_at": rfc3339_ms(found.created_us),
        "updated_at": rfc3339_ms(found.updated_us),
        "enabled": found.enabled,
    }


def team_shown(found: Team) -> dict[str, object]:
    """Without its roles."""
    return {
        "id": found.id,
        "organization_id": found.organization,
        "name": found.name,
        "description": found.description,
        "created_at": rfc3339_ms(found.created_us),
        "updated_at": rfc3339_ms(found.updated_us),
        "enabled": found.enabled,
    }


def role_shown(team: int, found: Role) -> dict[str, object]:
    """With its measurement rules."""
    return {
        "id": found.id,
        "team_id": team,
        "database_pattern": found.database_pattern,
        "permissions": list(found.permissions),
        "created_at": rfc3339_ms(found.created_us),
        "measurement_permissions": [rule_shown(found.id, rule) for rule in found.rules],
    }


def rule_shown(role: int, found: MeasurementRule) -> dict[str, object]:
    """A measurement rule."""
    return {
        "id": found.id,
        "role_id": role,
        "measurement_pattern": found.measurement_pattern,
        "permissions": list(found.permissions),
        "created_at": rfc3339_ms(found.created_us),
    }


def membership_shown(found: Membership) -> dict[str, object]:
    """A token in a team."""
    return {
        "id": found.id,
        "token_id": found.token,
        "team_id": found.team,
        "created_at": rfc3339_ms(found.created_us),
    }
