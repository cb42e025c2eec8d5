"""Settings of how nodes agree."""

from __future__ import annotations

from dataclasses import dataclass, field

from arc.raft.config import Config as RaftConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusConfig:
    """Where the agreed log is kept, and when it is cut."""

    folder: str = "raft"
    """Below the data folder."""

    segment_bytes: int = 4 << 20
    """Size of a log segment, the unit in which the log is given back."""

    snapshot_entries: int = 10_000
    """A snapshot after this many entries: a restart replays no more than these, some seconds at the worst."""

    raft: RaftConfig = field(default_factory=RaftConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """Section ``[cluster]``: several nodes that agree. A node alone is a cluster of one and needs none of this."""

    enabled: bool = False
    """Listen for other nodes."""

    name: str = "arc"
    """Nodes of clusters with different names never talk to each other."""

    peer_host: str = "127.0.0.1"
    """Address to listen on for other nodes."""

    peer_port: int = 9100
    """Port to listen on for other nodes; 0 lets the system choose."""

    advertise: str = ""
    """Where other nodes reach this one, as host:port. Empty: peer_host and the port it listens on."""

    join: bool = False
    """With an empty data folder: wait to be added by a member (``arc raft add``) instead of founding a cluster."""

    insecure_dev: bool = False
    """Must be set: streams between nodes are not authenticated in this version, so keep the port to yourself."""

    election_timeout_seconds: float = 1.0
    """How long a silent leader is waited for; the next one is there within about twice this time."""

    heartbeat_seconds: float = 0.1
    """How often a leader says that it is there."""

    def __post_init__(self) -> None:
        if self.enabled and not self.insecure_dev:
            raise ValueError(
                "enabled = true needs insecure_dev = true: streams between nodes are not authenticated yet, "
                "and whoever reaches the peer port could command this node"
            )
        if not 0 < self.heartbeat_seconds < self.election_timeout_seconds:
            raise ValueError("heartbeat_seconds must be shorter than election_timeout_seconds")


def consensus_config(cluster: ClusterConfig) -> ConsensusConfig:
    """What consensus needs of the section."""
    raft = RaftConfig(
        election_timeout_seconds=cluster.election_timeout_seconds, heartbeat_seconds=cluster.heartbeat_seconds
    )
    return ConsensusConfig(raft=raft)
