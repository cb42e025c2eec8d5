"""A node as this node sees it now: what was agreed on, joined with what was heard.

Views are values, made anew for every question; nobody who holds one changes anything by it. They are never agreed on:
two nodes may see a third one differently, and only agreed facts are acted on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from arc.catalog.roles import NodeRole, NodeState, RoleCapabilities, WriterState
from arc.ids import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStats:
    """What a node tells of itself with every heartbeat.

    Rates are rows and queries per second; ``cpu_usage`` and ``memory_usage`` are percentages of what the node may use.
    ``applied_index`` is how far its catalog is, ``durable_sequence`` how far its WAL is on disk, ``admitted_sequence``
    how far its queries see.
    """

    cpu_usage: float = 0.0
    memory_usage: float = 0.0
    ingest_rate: float = 0.0
    query_rate: float = 0.0
    storage_used: int = 0
    connections: int = 0
    active_queries: int = 0
    compaction_jobs: int = 0
    applied_index: int = 0
    durable_sequence: int = 0
    admitted_sequence: int = 0
    refuses_writes: str = ""
    """Why the node takes no writes now, in its own words; empty when it does."""
    refuses_queries: str = ""
    disk_free_bytes: int = 0
    """What may still be written below its data folder; 0 before it has looked."""
    certificate_expires_us: int = 0
    """The first end among the certificates that it uses; 0 when its ports speak no TLS."""
    clock_us: int = 0
    """Its wall clock when it told this, so that clocks that differ are seen; 0: an older version does not say."""
    disk_stalled_seconds: float = 0.0
    """For how long a write of its log has been under way, once that is no slow disk any more but one that stands still
    (`WalConfig.stall_seconds`); else 0.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node. Times named ``_us`` are wall clock for people; ``heard_seconds_ago`` is by this node's own clock."""

    name: NodeId
    incarnation: int
    role: NodeRole
    state: NodeState
    address: str
    api_address: str
    version: str
    cores: int
    joined_us: int
    is_local: bool = False
    is_leader: bool = False
    is_voter: bool = False
    writer_state: WriterState = WriterState.NONE
    is_active_compactor: bool = False
    is_in_sync: bool = False
    heard_seconds_ago: float | None = None
    """None when it was never heard by this process; 0 for the local node."""
    last_heartbeat_us: int = 0
    last_healthy_us: int = 0
    failed_checks: int = 0
    started_us: int = 0
    stats: NodeStats = field(default_factory=NodeStats)
    clock_offset_seconds: float | None = None
    """How far its wall clock is ahead of this node's; None when it never said, 0 for the local node."""
    state_seconds: float = 0.0
    """How long this node has seen it in this state, by its own clock."""

    @property
    def capabilities(self) -> RoleCapabilities:
        """What the role allows."""
        return self.role.capabilities

    @property
    def is_healthy(self) -> bool:
        """Whether it is well, as far as this node can see."""
        return self.state is NodeState.HEALTHY

    @property
    def is_stalled(self) -> bool:
        """Whether its disk stands still, as it was heard last: it lives, and can finish nothing."""
        return self.stats.disk_stalled_seconds > 0

    @property
    def is_available(self) -> bool:
        """Whether it may be sent work that it can do: healthy, or warming up."""
        return self.state in (NodeState.HEALTHY, NodeState.JOINING)
