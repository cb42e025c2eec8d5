"""What a node may do, and in which state it is: the words that all parts of a cluster share.

A role is chosen by the operator and agreed on with the node's description. A state is partly agreed on (joining,
healthy, leaving: what the node or an operator said) and partly what each node sees for itself (unhealthy, dead: never
agreed on). One table says which step from one state to another is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from arc.errors import InvalidRole


class NodeRole(StrEnum):
    """What a node is for. The order is that of lists for people."""

    STANDALONE = "standalone"
    WRITER = "writer"
    READER = "reader"
    COMPACTOR = "compactor"

    @property
    def capabilities(self) -> RoleCapabilities:
        """What the role allows."""
        return _CAPABILITIES[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleCapabilities:
    """``can_coordinate``: may vote, and so lead, without being asked for."""

    can_ingest: bool
    can_query: bool
    can_compact: bool
    can_coordinate: bool


_CAPABILITIES = {
    NodeRole.STANDALONE: RoleCapabilities(can_ingest=True, can_query=True, can_compact=True, can_coordinate=True),
    NodeRole.WRITER: RoleCapabilities(can_ingest=True, can_query=True, can_compact=False, can_coordinate=True),
    NodeRole.READER: RoleCapabilities(can_ingest=False, can_query=True, can_compact=False, can_coordinate=False),
    NodeRole.COMPACTOR: RoleCapabilities(can_ingest=False, can_query=False, can_compact=True, can_coordinate=False),
}


class NodeState(StrEnum):
    """How a node is. The order is that of lists for people."""

    UNKNOWN = "unknown"
    JOINING = "joining"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DEAD = "dead"
    LEAVING = "leaving"


AGREED_STATES = (NodeState.JOINING, NodeState.HEALTHY, NodeState.LEAVING)
"""States that a command may give a node; the others are what somebody sees, and others may see otherwise."""

_STEPS: dict[NodeState, frozenset[NodeState]] = {
    NodeState.UNKNOWN: frozenset({NodeState.JOINING, NodeState.HEALTHY, NodeState.DEAD}),
    NodeState.JOINING: frozenset({NodeState.HEALTHY, NodeState.DEAD, NodeState.LEAVING}),
    NodeState.HEALTHY: frozenset({NodeState.UNHEALTHY, NodeState.LEAVING, NodeState.JOINING}),
    NodeState.UNHEALTHY: frozenset({NodeState.HEALTHY, NodeState.DEAD, NodeState.LEAVING, NodeState.JOINING}),
    NodeState.DEAD: frozenset({NodeState.HEALTHY, NodeState.JOINING}),
    NodeState.LEAVING: frozenset({NodeState.HEALTHY, NodeState.JOINING, NodeState.DEAD}),
}


def may_become(old: NodeState, new: NodeState) -> bool:
    """Whether the step is in the table; staying is no step."""
    return new in _STEPS[old]


def valid_role(text: str) -> bool:
    """Whether this is exactly the name of a role."""
    return text in {role.value for role in NodeRole}


def parse_role(text: str) -> NodeRole:
    """The role of this name. Raises InvalidRole: a typing error must never make a node that does everything
    (P-45).
    """
    if not valid_role(text):
        raise InvalidRole(f"role {text!r} is none of {', '.join(NodeRole)}")
    return NodeRole(text)


class WriterState(StrEnum):
    """Whether a node that may ingest holds the writer lease."""

    PRIMARY = "primary"
    STANDBY = "standby"
    NONE = ""
