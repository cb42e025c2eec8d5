"""What a node of its own must propose at every start.

Be the writer, have a database, let its first administrator in.
"""

from __future__ import annotations

from arc.catalog.commands import AssignLease, Command, CreateDatabase, CreateToken, DescribeNode, FoundCluster
from arc.catalog.facts import Catalog
from arc.catalog.values import COMPACTOR, WRITER
from arc.ids import NodeId
from arc.security.tokens import PERMISSIONS

DEFAULT_DATABASE = "default"
FIRST_TOKEN_NAME = "admin"


def bootstrap_commands(
    catalog: Catalog,
    node_id: NodeId,
    now_us: int,
    token_hash: str | None,
    *,
    described: DescribeNode | None = None,
    is_alone: bool = True,
    founded: FoundCluster | None = None,
    takes_writer: bool = True,
    takes_compactor: bool = False,
) -> list[Command]:
    """Return the commands, in order.

    The writer lease is taken anew at every start, so that every run has an epoch of its own and nothing of an earlier
    one can still be in flight; but never from another node, unless this one is alone: then an operator gave the others
    up (``arc raft recover``). The token is made only while there is none; ``token_hash`` is None when authentication is
    off. ``described`` tells the others where this node is, if there are others. ``founded`` is a founder's word on
    which cluster this is. Without ``takes_writer`` the lease is somebody else's matter (a node that may not ingest, or
    leases that the cluster gives out), and what else is missing is proposed all the same: whoever is first is heard.
    With ``takes_compactor`` (on a node alone, where nobody gives it out) that lease is taken, too, unless it is held.
    """
    commands: list[Command] = [founded] if founded is not None and catalog.cluster is None else []
    if described is not None:
        commands.append(described)
    if not takes_writer:
        return commands + _missing(catalog, now_us, token_hash)
    held = catalog.leases.get(WRITER)
    if held is not None and held.holder != node_id and not is_alone:
        return commands
    from_another = held is not None and held.holder != node_id
    commands.append(
        AssignLease(
            lease=WRITER,
            node=node_id,
            expect_epoch=catalog.lease_epoch(WRITER),
            reason="an operator gave the other nodes up" if from_another else "the node started",
            at_us=now_us,
            accepts_data_loss=from_another,
        )
    )
    compactor = catalog.leases.get(COMPACTOR)
    if takes_compactor and (compactor is None or compactor.holder != node_id):
        commands.append(
            AssignLease(
                lease=COMPACTOR,
                node=node_id,
                expect_epoch=catalog.lease_epoch(COMPACTOR),
                reason="the node is alone",
                at_us=now_us,
            )
        )
    return commands + _missing(catalog, now_us, token_hash)


def _missing(catalog: Catalog, now_us: int, token_hash: str | None) -> list[Command]:
    """The database and the token that every cluster begins with."""
    commands: list[Command] = []
    if DEFAULT_DATABASE not in catalog.databases:
        commands.append(CreateDatabase(name=DEFAULT_DATABASE, created_us=now_us, if_missing=True))
    if token_hash is not None and not catalog.tokens:
        commands.append(
            CreateToken(
                name=FIRST_TOKEN_NAME,
                hash=token_hash,
                description="made at the first start",
                permissions=PERMISSIONS,
                created_us=now_us,
            )
        )
    return commands
