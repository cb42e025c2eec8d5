"""API tokens: made, listed, changed, revoked. The secret is shown once, when it is made; the catalog keeps its hash."""

from __future__ import annotations

from arc.api.auth import Gate
from arc.api.bodies import json_object, optional_flag, optional_text, optional_texts, path_number, text
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route
from arc.api.schemas import BOOLEAN, ERROR, INTEGER, STRING, TIMESTAMP, array, json_answer, nullable, obj
from arc.catalog.access import TokenRecord
from arc.catalog.commands import CreateToken, DeleteToken, RevokeToken, RotateToken, UpdateToken
from arc.errors import NotFound, Unauthenticated
from arc.security.rights import effective_permissions
from arc.security.tokens import (
    DEFAULT_PERMISSIONS,
    PERMISSIONS,
    SECRET_BYTES,
    check_permissions,
    generate_token,
    hash_token,
    parse_expiry,
)
from arc.telemetry import rfc3339_ms

_PERMISSION = {"type": "string", "enum": list(PERMISSIONS)}
_TOKEN = obj(
    {
        "id": INTEGER, "name": STRING, "description": STRING, "permissions": array(STRING), "created_at": TIMESTAMP,
        "enabled": BOOLEAN, "expires_at": nullable(TIMESTAMP),
    }
)  # fmt: skip
_WISHES = {
    "name": {"type": "string", "minLength": 1, "maxLength": 128},
    "description": {"type": ["string", "null"], "maxLength": 1024},
    "permissions": {"type": ["array", "null"], "items": _PERMISSION},
    "expires_in": {"type": ["string", "null"], "description": "A duration: `24h`, `7d`, `1h30m`."},
}
_ID = Parameter(
    name="id",
    place="path",
    about="Token id.",
    schema={"type": "integer", "minimum": 1, "maximum": 2**53},
    required=True,
)
_DONE = obj({"success": BOOLEAN, "message": STRING})


class Tokens:
    """All rows but `verify` need the admin right."""

    def __init__(self, deps: Deps, gate: Gate) -> None:
        self._deps = deps
        self._gate = gate

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        base = "/api/v1/auth/tokens"
        admin = Permission.ADMIN
        valid = obj({"valid": BOOLEAN, "permissions": array(STRING)}, {"token_info": _TOKEN})
        return (
            Route(
                method="GET", path="/api/v1/auth/verify", name="verify_token", tag="tokens",
                permission=Permission.PUBLIC, summary="Whose token this is", view=self.verify,
                answers={
                    200: json_answer("Valid.", valid),
                    401: json_answer("Not valid.", obj({"valid": BOOLEAN, "error": STRING})),
                    404: json_answer("Authentication is off.", ERROR),
                },
            ),
            Route(
                method="GET", path=base, name="list_tokens", tag="tokens", permission=admin, summary="All tokens",
                view=self.list,
                answers={200: json_answer("By id.", obj(
                    {"success": BOOLEAN, "tokens": array(_TOKEN), "count": INTEGER}))},
            ),
            Route(
                method="POST", path=base, name="create_token", tag="tokens", permission=admin, summary="Make a token",
                view=self.create,
                body=RequestBody(
                    content={"application/json": {"type": "object", "properties": _WISHES, "required": ["name"]}}
                ),
                answers={201: json_answer("The only time the secret is shown.", obj(
                    {"success": BOOLEAN, "token": STRING, "message": STRING}, {"id": INTEGER}))},
            ),
            Route(
                method="GET", path=f"{base}/{{id}}", name="get_token", tag="tokens", permission=admin,
                summary="One token", view=self.get, parameters=(_ID,),
                answers={200: json_answer("Found.", obj({"success": BOOLEAN, "token": _TOKEN}))},
            ),
            Route(
                method="PATCH", path=f"{base}/{{id}}", name="update_token", tag="tokens", permission=admin,
                summary="Change what is given", view=self.update, parameters=(_ID,),
                body=RequestBody(content={"application/json": {
                    "type": "object", "properties": {
                        **_WISHES, "name": {"type": ["string", "null"], "minLength": 1, "maxLength": 128},
                        "enabled": {"type": ["boolean", "null"]}}}}),
                answers={200: json_answer("Changed.", _DONE)},
            ),
            Route(
                method="DELETE", path=f"{base}/{{id}}", name="delete_token", tag="tokens", permission=admin,
                summary="Forget a token", view=self.delete, parameters=(_ID,),
                answers={200: json_answer("Gone.", _DONE)},
            ),
            Route(
                method="POST", path=f"{base}/{{id}}/revoke", name="revoke_token", tag="tokens", permission=admin,
                summary="Accept a token no more, but keep its record", view=self.revoke, parameters=(_ID,),
                answers={200: json_answer("Revoked.", _DONE)},
            ),
            Route(
                method="POST", path=f"{base}/{{id}}/rotate", name="rotate_token", tag="tokens", permission=admin,
                summary="Replace a token's secret", view=self.rotate, parameters=(_ID,),
                answers={200: json_answer("The only time the new secret is shown.", obj(
                    {"success": BOOLEAN, "new_token": STRING, "message": STRING}))},
            ),
        )  # fmt: skip

    async def verify(self, call: Call) -> Reply:
        """404 when authentication is off: that is how arcli learns it (ecosystem 1.4)."""
        if not self._gate.enabled:
            raise NotFound("authentication is disabled", code="auth_disabled")
        try:
            principal = self._gate.identify(call.head)
        except Unauthenticated as error:
            document = {"valid": False, "success": False, "error": error.message, "message": error.message,
                        "code": error.code}  # fmt: skip
            return json_reply(401, document, ((b"www-authenticate", b'Bearer realm="arc"'),))
        assert principal.token_id is not None
        record = self._deps.catalog().tokens[principal.token_id]
        permissions = effective_permissions(principal) if principal.is_limited else record.permissions
        return json_reply(200, {"valid": True, "token_info": _shown(record), "permissions": list(permissions)})

    async def list(self, call: Call) -> Reply:
        """Revoked ones too."""
        found = [_shown(record) for _, record in sorted(self._deps.catalog().tokens.items())]
        return json_reply(200, {"success": True, "tokens": found, "count": len(found)})

    async def get(self, call: Call) -> Reply:
        """Raises NotFound."""
        return json_reply(200, {"success": True, "token": _shown(self._find(call))})

    async def create(self, call: Call) -> Reply:
        """Absent or null permissions mean read and write, an empty list none. Raises Conflict for a taken name."""
        document = json_object(call.body)
        permissions = optional_texts(document, "permissions")
        command_time = self._deps.clock.wall_us()
        secret, hashed = self._secret()
        command = CreateToken(
            name=text(document, "name"),
            hash=hashed,
            description=optional_text(document, "description") or "",
            permissions=DEFAULT_PERMISSIONS if permissions is None else check_permissions(permissions),
            created_us=command_time,
            expires_us=_expiry(document, command_time),
        )
        token_id = (await call.proposer.propose(command)).unwrap()
        self._deps.log.info("token_created", id=token_id, name=command.name, by=call.principal.name)
        message = "store this token now: it cannot be shown again"
        return json_reply(201, {"success": True, "id": token_id, "token": secret, "message": message})

    async def update(self, call: Call) -> Reply:
        """Keys that are absent or null stay as they are. Raises NotFound, Conflict."""
        record = self._find(call)
        document = json_object(call.body)
        permissions = optional_texts(document, "permissions")
        command = UpdateToken(
            id=record.id,
            name=optional_text(document, "name"),
            description=optional_text(document, "description"),
            permissions=None if permissions is None else check_permissions(permissions),
            expires_us=_expiry(document, self._deps.clock.wall_us()),
            enabled=optional_flag(document, "enabled"),
        )
        (await call.proposer.propose(command)).unwrap()
        self._deps.log.info("token_updated", id=record.id, by=call.principal.name)
        return _done("token updated")

    async def delete(self, call: Call) -> Reply:
        """Raises NotFound."""
        record = self._find(call)
        (await call.proposer.propose(DeleteToken(id=record.id))).unwrap()
        self._deps.log.info("token_deleted", id=record.id, by=call.principal.name)
        return _done("token deleted")

    async def revoke(self, call: Call) -> Reply:
        """Raises NotFound."""
        record = self._find(call)
        (await call.proposer.propose(RevokeToken(id=record.id))).unwrap()
        self._deps.log.info("token_revoked", id=record.id, by=call.principal.name)
        return _done("token revoked")

    async def rotate(self, call: Call) -> Reply:
        """The old secret stops working at once. Raises NotFound."""
        record = self._find(call)
        secret, hashed = self._secret()
        (await call.proposer.propose(RotateToken(id=record.id, hash=hashed))).unwrap()
        self._deps.log.info("token_rotated", id=record.id, by=call.principal.name)
        message = "the old token is void; store this one now: it cannot be shown again"
        return json_reply(200, {"success": True, "new_token": secret, "message": message})

    def _secret(self) -> tuple[str, str]:
        secret = generate_token(self._deps.rng.bytes(SECRET_BYTES))
        return secret, hash_token(secret)

    def _find(self, call: Call) -> TokenRecord:
        record = self._deps.catalog().tokens.get(path_number(call.path["id"], "token id"))
        if record is None:
            raise NotFound(f"token {call.path['id']} not found")
        return record


def _done(message: str) -> Reply:
    return json_reply(200, {"success": True, "message": message})


def _expiry(document: dict[str, object], now_us: int) -> int | None:
    wish = optional_text(document, "expires_in")
    return None if not wish else now_us + parse_expiry(wish)


def _shown(record: TokenRecord) -> dict[str, object]:
    return {
        "id": record.id,
        "name": record.name,
        "description": record.description,
        "permissions": list(record.permissions),
        "created_at": rfc3339_ms(record.created_us),
        "enabled": record.enabled,
        "expires_at": None if record.expires_us is None else rfc3339_ms(record.expires_us),
    }
