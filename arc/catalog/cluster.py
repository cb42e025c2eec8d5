"""The identity of the cluster: agreed on once, and then asked of everybody who wants to talk (P-25)."""

from __future__ import annotations

from dataclasses import dataclass

from arc.catalog.commands import FoundCluster
from arc.catalog.events import ClusterFounded
from arc.catalog.results import Refusal, Step

UUID_CHARS = 36
NAME_CHARS_MAX = 128


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Which cluster this is. ``uuid`` was drawn by its founder; ``name`` is the operator's."""

    uuid: str
    name: str
    created_us: int


def apply(state: ClusterFacts | None, command: FoundCluster) -> Step[ClusterFacts | None]:
    """Accept the first identity. Raises Refusal for another one."""
    if len(command.uuid) != UUID_CHARS or not 1 <= len(command.name) <= NAME_CHARS_MAX:
        raise Refusal("invalid", f"a cluster has a UUID of {UUID_CHARS} characters and a name of 1 to {NAME_CHARS_MAX}")
    if state is None:
        founded = ClusterFacts(command.uuid, command.name, command.created_us)
        return Step(state=founded, events=(ClusterFounded(founded.uuid),))
    if state.uuid != command.uuid:
        raise Refusal("exists", f"this is cluster {state.uuid} ({state.name}) already")
    return Step(state=state)
