"""Policies: named texts of a kind that operators set at run time, agreed on so that every node follows the same.

What a text means is the matter of who follows it (retention, continuous queries, placement); here it has a name and a
bound. Nothing an operator set lives on one node only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arc.catalog.commands import DropPolicy, PutPolicy
from arc.catalog.events import PoliciesChanged
from arc.catalog.persistent import with_item, without_item
from arc.catalog.results import Refusal, Step

POLICIES_MAX = 10_000
NAME_CHARS_MAX = 256
BODY_CHARS_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy; ``body`` is JSON."""

    kind: str
    name: str
    body: str
    updated_us: int
    title: str = ""


DELETED_THROUGH = "deleted_through"
"""The kind of the policy that says, by the name of a database, up to which WAL record its buffered rows are no answer
any more once they are in files. Set before anything is deleted from these, by whoever deletes.
"""

Policies = Mapping[tuple[str, str], Policy]
"""By kind and name."""


def deleted_through(state: Policies, database: str) -> int:
    """What the policy of this database says, 0 if there is none."""
    kept = state.get((DELETED_THROUGH, database))
    return int(kept.body) if kept is not None else 0


def apply(state: Policies, command: PutPolicy | DropPolicy) -> Step[Policies]:
    """Set or drop one. Raises Refusal."""
    key = (command.kind, command.name)
    told = (PoliciesChanged((key,)),)
    match command:
        case PutPolicy():
            for what, text, most in (
                ("kind", command.kind, NAME_CHARS_MAX),
                ("name", command.name, NAME_CHARS_MAX),
                ("body", command.body, BODY_CHARS_MAX),
            ):
                if not 1 <= len(text) <= most:
                    raise Refusal("invalid", f"a policy's {what} must have 1 to {most} characters")
            stands = state[key].updated_us if key in state else 0
            if command.expect_us is not None and command.expect_us != stands:
                raise Refusal(
                    "conflict", f"the {command.kind} policy {command.name!r} was changed meanwhile; look again"
                )
            if len(command.title) > NAME_CHARS_MAX:
                raise Refusal("invalid", f"a policy's title must have {NAME_CHARS_MAX} characters at most")
            _require_free(state, command)
            policy = Policy(command.kind, command.name, command.body, command.at_us, command.title)
            if state.get(key) == policy:
                return Step(state=state)
            if key not in state and len(state) >= POLICIES_MAX:
                raise Refusal("too_many", f"there are {POLICIES_MAX} policies already, which is the limit")
            return Step(state=with_item(state, key, policy), events=told)
        case DropPolicy():
            if key not in state:
                raise Refusal("not_found", f"there is no {command.kind} policy {command.name!r}")
            return Step(state=without_item(state, key), events=told)


def _require_free(state: Policies, command: PutPolicy) -> None:
    """Whoever proposes it has looked, too, but at a catalog in which another's entry may have been missing yet (world
    seed 510121: who lost the answer to a new continuous query asked another node for it, and there were two).
    """
    if not command.title:
        return
    for policy in state.values():
        if policy.title == command.title and policy.kind == command.kind and policy.name != command.name:
            raise Refusal("exists", f"there is a {command.kind} policy {command.title!r} already")


def put_all(state: Policies, commands: Sequence[PutPolicy]) -> Step[Policies]:
    """Set several in one step, told as one change. Raises Refusal, when none of them is set."""
    after, changed = state, set[tuple[str, str]]()
    for command in commands:
        key = (command.kind, command.name)
        if key in changed:
            raise Refusal("invalid", f"the {command.kind} policy {command.name!r} is to be set twice")
        step = apply(after, command)
        after = step.state
        if step.events:
            changed.add(key)
    return Step(state=after, events=(PoliciesChanged(tuple(sorted(changed))),) if changed else ())
