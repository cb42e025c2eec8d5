"""Settings of how nodes agree."""

from __future__ import annotations

from dataclasses import dataclass, field

from arc.catalog.nodes import check_address
from arc.catalog.roles import NodeRole, parse_role
from arc.cluster.sights import Bootstrap
from arc.errors import InvalidRequest
from arc.quorum import majority
from arc.raft.config import Config as RaftConfig
from arc.raft.membership import MEMBERS_MAX
from arc.security.signing import INSECURE_SECRET, SECRET_CHARS_MIN


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

    seeds: tuple[str, ...] = ()
    """Where nodes of this cluster are, as host:port of their peer ports: a new node asks there to be let in, and never
    founds a cluster on its own. Give every node the same list."""

    bootstrap_expect: int = 0
    """How many new nodes found the cluster together, once they have met through the seeds; at least most of the seeds
    are among them. 0: this node only ever joins."""

    join: bool = False
    """With an empty data folder: wait to be added by a member (``arc raft add``) instead of founding a cluster."""

    replace_wiped: bool = False
    """When a node comes back with an empty data folder: let it take the place of the silent node of its name. Off, an
    operator removes that one first; on, two machines with one name by mistake can push each other out."""

    dead_voter_seconds: float = 600.0
    """How long a voter must be silent before its vote goes to another node. It stays a member, and may vote again."""

    shared_secret: str = field(default="", repr=False)  # out of the repr means secret, see arc/config.py
    """What the nodes of a cluster know and nobody else: at least 16 characters, the same on every node."""

    insecure_dev: bool = False
    """Instead of a secret, one that everybody knows: whoever reaches the peer port commands the cluster. For demos."""

    tls_cert_file: str = ""
    """PEM file with this node's certificate chain. TLS 1.3 between nodes is on when certificate and key are given."""

    tls_key_file: str = ""
    """PEM file with the private key."""

    tls_ca_file: str = ""
    """PEM file with the authority that signs nodes: certificates of both ends are checked against it. Empty: the
    system's authorities, and only the node that is dialled shows one. When the HTTP ports speak TLS, nodes that pass
    requests on check each other's HTTP certificates against it, too."""

    election_timeout_seconds: float = 1.0
    """How long a silent leader is waited for; the next one is there within about twice this time."""

    heartbeat_seconds: float = 0.1
    """How often a leader says that it is there."""

    def __post_init__(self) -> None:
        if self.shared_secret and len(self.shared_secret) < SECRET_CHARS_MIN:
            raise ValueError(f"shared_secret must have at least {SECRET_CHARS_MIN} characters")
        if self.shared_secret and self.insecure_dev:
            raise ValueError("shared_secret and insecure_dev exclude each other; remove insecure_dev")
        if self.enabled and not self.shared_secret and not self.insecure_dev:
            raise ValueError(
                "enabled = true needs a shared_secret, the same on every node: without it whoever reaches the peer "
                "port could command this node (for a demo on one machine: insecure_dev = true)"
            )
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file must be given together")
        if self.tls_ca_file and not self.tls_cert_file:
            raise ValueError("tls_ca_file needs tls_cert_file and tls_key_file")
        if not 0 < self.heartbeat_seconds < self.election_timeout_seconds:
            raise ValueError("heartbeat_seconds must be shorter than election_timeout_seconds")
        self._check_membership()

    def _check_membership(self) -> None:
        """Fail closed: what is meant as a member never becomes a cluster of its own by omission (P-45)."""
        for seed in self.seeds:
            check_address(seed)
        if len({*self.seeds}) != len(self.seeds):
            raise ValueError("seeds has an address twice")
        if self.is_member and not self.enabled:
            raise ValueError("seeds, bootstrap_expect and join need enabled = true, or this node would serve alone")
        if self.bootstrap_expect and self.join:
            raise ValueError("bootstrap_expect founds a cluster and join waits to be added; give one of them")
        if self.bootstrap_expect and not self.seeds:
            raise ValueError("bootstrap_expect needs seeds, where the nodes meet")
        if self.bootstrap_expect and self.bootstrap_expect < majority(len(self.seeds)):
            least = majority(len(self.seeds))
            raise ValueError(f"bootstrap_expect must be at least {least}, most of the {len(self.seeds)} seeds")
        if self.bootstrap_expect > MEMBERS_MAX:
            raise ValueError(f"bootstrap_expect must be at most {MEMBERS_MAX}")
        if self.dead_voter_seconds <= self.election_timeout_seconds:
            raise ValueError("dead_voter_seconds must be longer than election_timeout_seconds")

    @property
    def is_member(self) -> bool:
        """Whether a new data folder is meant for a cluster with others: then it never founds one alone."""
        return bool(self.seeds or self.bootstrap_expect or self.join)

    @property
    def bootstrap(self) -> Bootstrap:
        """What `cluster.gathering` needs."""
        return Bootstrap(cluster=self.name, expect=self.bootstrap_expect, seeds=tuple(sorted(self.seeds)))


def check_role(role: str, cluster: ClusterConfig) -> NodeRole:
    """The role of this node. Raises InvalidRequest: no role, or one that makes no sense on a node alone (P-45)."""
    parsed = parse_role(role)
    if parsed is not NodeRole.STANDALONE and not cluster.enabled:
        raise InvalidRequest(
            f"node.role = {parsed} is for a node of a cluster; set cluster.enabled = true, or node.role = standalone",
            code="invalid_role",
        )
    return parsed


def peer_secret(cluster: ClusterConfig) -> bytes:
    """What this node proves itself with to the others."""
    return (cluster.shared_secret or INSECURE_SECRET).encode()


def consensus_config(cluster: ClusterConfig) -> ConsensusConfig:
    """What consensus needs of the section."""
    raft = RaftConfig(
        election_timeout_seconds=cluster.election_timeout_seconds, heartbeat_seconds=cluster.heartbeat_seconds
    )
    return ConsensusConfig(raft=raft)
