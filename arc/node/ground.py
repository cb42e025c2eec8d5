"""What a node stands on: given from outside, the same for all its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from arc.catalog.fsm import ClusterFSM
from arc.catalog.roles import NodeRole
from arc.cluster.feed import Feed
from arc.cluster.identityfile import IdentityFile
from arc.config import Config
from arc.ids import NodeId
from arc.license import License
from arc.ports import Disk, Ports
from arc.security.tls import Certificates
from arc.storage.objects import Objects
from arc.telemetry import Log, RingSink
from arc.wire.facts import PeerFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """See the module."""

    config: Config
    ports: Ports
    identity: IdentityFile
    role: NodeRole
    licence: License
    fsm: ClusterFSM
    feed: Feed
    api_address: Callable[[], str]
    """Where clients reach this node, host:port; empty before it listens."""
    objects: Objects | None
    """The store that all nodes share, None where each has its disk only."""
    certificates: Certificates | None
    """Of the HTTP port, and what those of other nodes are checked with; None: HTTP is in the clear, here and there."""
    backup_disk: Disk | None
    """Where ``backup.folder`` is; None: backups lie in the data folder, or in the store."""
    version: str
    ring: RingSink
    log: Log

    @property
    def node(self) -> NodeId:
        """The name of this node."""
        return NodeId(self.identity.current.node)

    @property
    def facts(self) -> PeerFacts:
        """What this node says of itself."""
        return PeerFacts(
            role=self.role.value,
            api_address=self.api_address(),
            version=self.version,
            cores=self.ports.workers.load().cores,
        )
