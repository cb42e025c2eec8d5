"""Who this node is, and what it has promised: kept in its data folder and never forgotten (P-46).

A name belongs to a folder, and so does an *incarnation*, drawn when the folder is made: whoever loses the folder comes
back as a stranger. Besides, the folder holds what founding a cluster takes (see `founding`): the plan that this node
promised to follow, the founding that it began with, and the UUID of the cluster that it belongs to.

Here is what it means and how it is spelled; `identityfile` keeps it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import NamedTuple

from arc.catalog.nodes import check_address
from arc.errors import InvalidRequest
from arc.ids import NodeId
from arc.ports import Rng
from arc.raft.types import Configuration, Peer

IDENTITY = "node.json"
"""Name of the file, in the data folder."""

FIRST_INCARNATION = 2
"""Folders from before there were clusters are incarnation 1."""


class Founder(NamedTuple):
    """One of the first voters. ``address`` is ``host:port`` of its peer port; empty for one that founded alone."""

    name: str
    incarnation: int
    address: str

    @property
    def peer(self) -> Peer:
        """As consensus knows it."""
        return Peer(self.name, self.incarnation)


class Founding(NamedTuple):
    """How a cluster begins: its UUID and its first voters, by name. ``coordinator`` drew it up as its ``plan``-th.

    A UUID is drawn for every plan, so equal UUIDs mean equal foundings.
    """

    uuid: str
    coordinator: Peer
    plan: int
    founders: tuple[Founder, ...]

    def has(self, peer: Peer) -> bool:
        """Whether this incarnation is one of the first voters."""
        return any(founder.peer == peer for founder in self.founders)

    @property
    def configuration(self) -> Configuration:
        """What an empty log of a founder begins with."""
        return Configuration(voters=tuple(sorted(founder.peer for founder in self.founders)))

    def packed(self) -> list[object]:
        """As plain values for CBOR and JSON."""
        return [self.uuid, [*self.coordinator], self.plan, [[*founder] for founder in self.founders]]

    @classmethod
    def unpacked(cls, value: object) -> Founding:
        """The other way round. Raises ValueError."""
        match value:
            case [str(uuid), [str(name), int(incarnation)], int(plan), [*founders]]:
                found = tuple(_founder(each) for each in founders)
                return cls(uuid, Peer(name, incarnation), plan, found)
        raise ValueError(f"not a founding: {value!r:.200}")


def _founder(value: object) -> Founder:
    match value:
        case [str(name), int(incarnation), str(address)]:
            if address:
                check_address(address)
            return Founder(name, incarnation, address)
    raise ValueError(f"not a founder: {value!r:.200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the folder says.

    ``promise`` is the plan that this node follows and no other, ``founding`` the one that came true: then an empty log
    here begins with its voters. ``cluster_uuid`` is empty on a node that belongs to none yet. ``has_joined``: it saw
    itself as a member once, so that it is no member means that somebody removed it. ``has_left``: it went by itself,
    and a new start asks to come back.
    """

    node: NodeId
    incarnation: int
    created_us: int = 0
    promise: Founding | None = None
    founding: Founding | None = None
    cluster_uuid: str = ""
    has_joined: bool = False
    has_left: bool = False

    @property
    def peer(self) -> Peer:
        """As consensus knows it."""
        return Peer(self.node, self.incarnation)

    @property
    def is_waiting(self) -> bool:
        """Whether it belongs to no cluster yet."""
        return self.founding is None and not self.cluster_uuid

    @property
    def configuration(self) -> Configuration:
        """What an empty log begins with: the founders on a founder, nobody elsewhere."""
        return self.founding.configuration if self.founding is not None else Configuration()

    @property
    def addresses(self) -> dict[str, str]:
        """Where the other founders are reached, until the catalog tells."""
        founders = self.founding.founders if self.founding is not None else ()
        return {each.name: each.address for each in founders if each.address and each.name != self.node}


def founded_alone(identity: Identity, rng: Rng, address: str) -> Identity:
    """The founder and only voter of a new cluster."""
    founding = Founding(new_uuid(rng), identity.peer, 0, (Founder(identity.node, identity.incarnation, address),))
    return replace(identity, founding=founding, cluster_uuid=founding.uuid)


def adopted(identity: Identity, uuid: str) -> Identity:
    """A node of this cluster. Raises InvalidRequest when it belongs to another one, or promised to found another."""
    belongs = identity.cluster_uuid or (identity.promise.uuid if identity.promise is not None else "")
    if belongs and belongs != uuid:
        raise InvalidRequest(
            f"this node belongs to cluster {belongs} and cannot join {uuid}; with an empty data folder it can",
            code="other_cluster",
        )
    return identity if identity.cluster_uuid else replace(identity, cluster_uuid=uuid)


def new_uuid(rng: Rng) -> str:
    """A random UUID (RFC 9562, version 4)."""
    drawn = bytearray(rng.bytes(16))
    drawn[6] = drawn[6] & 0x0F | 0x40
    drawn[8] = drawn[8] & 0x3F | 0x80
    text = drawn.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def read_identity(data: bytes) -> Identity:
    """What the file says. Raises ValueError, KeyError, AttributeError or TypeError when it is none."""
    found = json.loads(data)
    # Before there were clusters a node had no incarnation and had always founded its own.
    node, incarnation = NodeId(str(found["node_id"])), int(found.get("incarnation", 1))
    uuid, founding = str(found.get("cluster_uuid", "")), found.get("founding")
    if founding is None and found.get("is_founder", True):
        founding = [uuid, [node, incarnation], 0, [[node, incarnation, ""]]]
    promise = found.get("promise")
    return Identity(
        node=node,
        incarnation=incarnation,
        created_us=int(found.get("created_us", 0)),
        promise=Founding.unpacked(promise) if promise is not None else None,
        founding=Founding.unpacked(founding) if founding is not None else None,
        cluster_uuid=uuid,
        has_joined=bool(found.get("has_joined", False)),
        has_left=bool(found.get("has_left", False)),
    )


def show_identity(identity: Identity) -> bytes:
    """What stands in the file."""
    facts = {
        "node_id": identity.node,
        "incarnation": identity.incarnation,
        "is_founder": identity.founding is not None,
        "created_us": identity.created_us,
        "cluster_uuid": identity.cluster_uuid,
        "founding": identity.founding.packed() if identity.founding is not None else None,
        "promise": identity.promise.packed() if identity.promise is not None else None,
        "has_joined": identity.has_joined,
        "has_left": identity.has_left,
    }
    return json.dumps(facts).encode()


def with_uuid(kept: Identity, rng: Rng) -> Identity:
    """A founder from before clusters had UUIDs draws one now."""
    if kept.founding is None or kept.founding.uuid:
        return kept
    uuid = new_uuid(rng)
    return replace(kept, founding=kept.founding._replace(uuid=uuid), cluster_uuid=uuid)
