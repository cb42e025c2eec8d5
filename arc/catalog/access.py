"""Tokens: their names, hashes and rights. The secrets themselves never come here.

Ids count up and are never given out again, so a log line that names token 7 means one token for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from arc.catalog.commands import CreateToken, DeleteToken, RevokeToken, RotateToken, UpdateToken
from arc.catalog.events import TokensChanged
from arc.catalog.persistent import frozen, with_item, without_item
from arc.catalog.results import Refusal, Step
from arc.security.tokens import PERMISSIONS

TOKENS_MAX = 10_000
NAME_CHARS_MAX = 128
DESCRIPTION_CHARS_MAX = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """One token. Times are microseconds since 1970 UTC; ``hash`` is the SHA-256 of the secret in hex."""

    id: int
    name: str
    hash: str
    description: str = ""
    permissions: tuple[str, ...] = ()
    created_us: int
    expires_us: int | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Access:
    """All tokens by id, and the next id. The indexes by hash and by name are derived."""

    tokens: Mapping[int, TokenRecord]
    next_id: int = 1
    by_hash: Mapping[str, int] = field(init=False, compare=False, repr=False)
    by_name: Mapping[str, int] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_hash", {token.hash: token.id for token in self.tokens.values()})
        object.__setattr__(self, "by_name", {token.name: token.id for token in self.tokens.values()})


def make(tokens: Iterable[TokenRecord] = (), next_id: int = 1) -> Access:
    """Access from its primary facts."""
    return Access(frozen({token.id: token for token in tokens}), next_id)


AccessCommand = CreateToken | UpdateToken | RotateToken | RevokeToken | DeleteToken


def apply(state: Access, index: int, command: AccessCommand) -> Step[Access]:
    """Return what the tokens become. Raises Refusal."""
    if isinstance(command, CreateToken):
        return _create(state, command)
    token = state.tokens.get(command.id)
    if token is None:
        raise Refusal("not_found", f"there is no token with id {command.id}")
    match command:
        case UpdateToken():
            changed = _updated(state, token, command)
        case RotateToken():
            _require_new_hash(state, command.hash)
            changed = replace(token, hash=command.hash)
        case RevokeToken():
            changed = replace(token, enabled=False)
        case DeleteToken():
            _require_other_admin(state, token, None)
            left = Access(without_item(state.tokens, token.id), state.next_id)
            return Step(state=left, events=(TokensChanged((token.id,)),))
    if changed == token:
        return Step(state=state, value=token.id)
    _require_other_admin(state, token, changed)
    return _with_token(state, changed, state.next_id)


def only_admin(state: Access, tokens: Iterable[int]) -> Step[Access]:
    """Take from these tokens every permission of their own but ``admin``."""
    changed: dict[int, TokenRecord] = {}
    for number in tokens:
        token = state.tokens[number]
        kept = tuple(permission for permission in token.permissions if permission == "admin")
        if kept != token.permissions:
            changed[number] = replace(token, permissions=kept)
    if not changed:
        return Step(state=state)
    return Step(
        state=Access(frozen({**state.tokens, **changed}), state.next_id), events=(TokensChanged(tuple(changed)),)
    )


def _require_other_admin(state: Access, before: TokenRecord, after: TokenRecord | None) -> None:
    """Refuse to take the last way in: the first start's token is not made again while any token exists."""
    if not _is_lasting_admin(before) or (after is not None and _is_lasting_admin(after)):
        return
    if not any(_is_lasting_admin(token) for token in state.tokens.values() if token.id != before.id):
        raise Refusal(
            "conflict",
            f"token {before.name!r} is the last enabled admin token that does not expire; make another one first, "
            "or nobody could administer this server",
        )


def _is_lasting_admin(token: TokenRecord) -> bool:
    return token.enabled and "admin" in token.permissions and token.expires_us is None


def _create(state: Access, command: CreateToken) -> Step[Access]:
    if len(state.tokens) >= TOKENS_MAX:
        raise Refusal("too_many", f"there are {TOKENS_MAX} tokens already, which is the limit")
    _require_new_name(state, command.name)
    _require_new_hash(state, command.hash)
    created = TokenRecord(
        id=state.next_id,
        name=command.name,
        hash=command.hash,
        description=_described(command.description),
        permissions=_ordered(command.permissions),
        created_us=command.created_us,
        expires_us=command.expires_us,
    )
    return _with_token(state, created, state.next_id + 1)


def _updated(state: Access, token: TokenRecord, command: UpdateToken) -> TokenRecord:
    if command.name is not None and command.name != token.name:
        _require_new_name(state, command.name)
        token = replace(token, name=command.name)
    if command.description is not None:
        token = replace(token, description=_described(command.description))
    if command.permissions is not None:
        token = replace(token, permissions=_ordered(command.permissions))
    if command.never_expires:
        if command.expires_us is not None:
            raise Refusal("invalid", "a token can get a time of expiry or lose it, not both")
        token = replace(token, expires_us=None)
    elif command.expires_us is not None:
        token = replace(token, expires_us=command.expires_us)
    if command.enabled is not None:
        token = replace(token, enabled=command.enabled)
    return token


def _with_token(state: Access, token: TokenRecord, next_id: int) -> Step[Access]:
    after = Access(with_item(state.tokens, token.id, token), next_id)
    return Step(state=after, value=token.id, events=(TokensChanged((token.id,)),))


def _require_new_name(state: Access, name: str) -> None:
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable() or name != name.strip():
        raise Refusal("invalid", f"a token's name must be 1 to {NAME_CHARS_MAX} printable characters")
    if name in state.by_name:
        raise Refusal("exists", f"a token named {name!r} exists already")


def _require_new_hash(state: Access, hash_hex: str) -> None:
    if not hash_hex:
        raise Refusal("invalid", "a token needs a hash")
    if hash_hex in state.by_hash:
        raise Refusal("exists", "this secret is in use already")


def _described(text: str) -> str:
    if len(text) > DESCRIPTION_CHARS_MAX:
        raise Refusal("invalid", f"a token's description must have at most {DESCRIPTION_CHARS_MAX} characters")
    return text


def _ordered(permissions: tuple[str, ...]) -> tuple[str, ...]:
    unknown = sorted(set(permissions) - set(PERMISSIONS))
    if unknown:
        raise Refusal("invalid", f"permission {unknown[0]!r} is none of {', '.join(PERMISSIONS)}")
    return tuple(permission for permission in PERMISSIONS if permission in permissions)
