"""What a node of its own must propose at every start.

Be the writer, have a database, let its first administrator in.
"""

from __future__ import annotations

from arc.catalog.commands import WRITER, AssignLease, Command, CreateDatabase, CreateToken, DescribeNode
from arc.catalog.facts import Catalog
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
) -> list[Command]:
    """Return the commands, in order.

    The writer lease is taken anew at every start, so that every run has an epoch of its own and nothing of an earlier
    one can still be in flight; but never from another node, unless this one is alone: then an operator gave the others
    up (``arc raft recover``). The token is made only while there is none; ``token_hash`` is None when authentication is
    off. ``described`` tells the others where this node is, if there are others.
    """
    commands: list[Command] = [described] if described is not None else []
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
