"""Nodes: what each member of the cluster is, under which address it is reached, and which incarnation is meant.

Who votes is consensus' own matter (`arc.raft`); here is what everybody must know besides, agreed on the same way. A
name belongs to one incarnation at a time: a node that lost its disk comes back as a stranger, and the one it replaces
is removed first, so that nobody talks to the one and counts the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from arc.catalog.commands import DescribeNode, ForgetNode, SetNodeState
from arc.catalog.events import NodeDescribed, NodeForgotten
from arc.catalog.persistent import with_item, without_item
from arc.catalog.results import Refusal, Step
from arc.catalog.roles import AGREED_STATES, NodeRole, NodeState, may_become, parse_role
from arc.errors import InvalidRequest
from arc.ids import NodeId

NODES_MAX = 128
"""Twice what consensus allows as members: those that are described and not members yet, or not any more."""

NAME_CHARS_MAX = 128
ADDRESS_CHARS_MAX = 262
"""A DNS name of 253 characters, or less, a colon, a port and brackets."""

INCARNATION_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node. ``address`` is ``host:port``, where the other nodes reach it, empty when it listens for none;
    ``api_address`` is where clients do. ``joined_us`` is when it was described first, 0 when that is not known.
    """

    name: NodeId
    incarnation: int
    address: str
    role: str = NodeRole.STANDALONE.value
    api_address: str = ""
    version: str = ""
    cores: int = 0
    state: str = NodeState.JOINING.value
    joined_us: int = 0


Nodes = Mapping[str, NodeRecord]
"""By name."""

VERSION_CHARS_MAX = 64
CORES_MAX = 1 << 20

NodeCommand = DescribeNode | ForgetNode | SetNodeState


def apply(state: Nodes, command: NodeCommand) -> Step[Nodes]:
    """Return what the nodes become. Raises Refusal or InvalidRequest."""
    match command:
        case DescribeNode():
            return _describe(state, command)
        case ForgetNode():
            return _forget(state, command)
        case SetNodeState():
            return _set_state(state, command)


def _describe(state: Nodes, command: DescribeNode) -> Step[Nodes]:
    _check_name(command.name)
    for address in filter(None, (command.address, command.api_address)):
        check_address(address)
    parse_role(command.role)
    if len(command.version) > VERSION_CHARS_MAX or not 0 <= command.cores <= CORES_MAX:
        raise Refusal(
            "invalid", f"version {command.version!r} or {command.cores} cores of {command.name!r} is no such thing"
        )
    if not 1 <= command.incarnation <= INCARNATION_MAX:
        raise Refusal("invalid", f"incarnation {command.incarnation} of {command.name!r} is not from 1 to 2**63 - 1")
    known = state.get(command.name)
    if known is not None and known.incarnation != command.incarnation:
        raise Refusal(
            "conflict",
            f"node {command.name!r} is known as incarnation {known.incarnation} at {known.address}, not as "
            f"{command.incarnation}; remove it first",
        )
    if known is None and len(state) >= NODES_MAX:
        raise Refusal(
            "too_many", f"there are {NODES_MAX} nodes already, which is the limit; remove those that are gone"
        )
    record = NodeRecord(
        command.name,
        command.incarnation,
        command.address,
        command.role,
        command.api_address,
        command.version,
        command.cores,
        known.state if known is not None else NodeState.JOINING.value,
        known.joined_us if known is not None else command.at_us,
    )
    if known == record:
        return Step(state=state)
    told = NodeDescribed(record.name, record.incarnation, record.address)
    return Step(state=with_item(state, record.name, record), events=(told,))


def _set_state(state: Nodes, command: SetNodeState) -> Step[Nodes]:
    known = find(state, command.name, command.incarnation)
    if command.state not in AGREED_STATES:
        raise Refusal(
            "invalid", f"state {command.state!r} is none of {', '.join(AGREED_STATES)}, which can be agreed on"
        )
    if command.state == known.state:
        return Step(state=state)
    if not may_become(NodeState(known.state), NodeState(command.state)):
        raise Refusal("conflict", f"node {known.name!r} is {known.state} and cannot become {command.state}")
    record = replace(known, state=command.state)
    told = NodeDescribed(record.name, record.incarnation, record.address)
    return Step(state=with_item(state, record.name, record), events=(told,))


def _forget(state: Nodes, command: ForgetNode) -> Step[Nodes]:
    known = find(state, command.name, command.incarnation)
    return Step(state=without_item(state, known.name), events=(NodeForgotten(known.name, known.incarnation),))


def find(state: Nodes, name: NodeId, incarnation: int) -> NodeRecord:
    """This incarnation of a node. Raises Refusal when it is unknown, or another one by now."""
    known = state.get(name)
    if known is None:
        raise Refusal("not_found", f"there is no node {name!r}")
    if known.incarnation != incarnation:
        raise Refusal("conflict", f"node {name!r} is incarnation {known.incarnation} now, not {incarnation}")
    return known


def _check_name(name: str) -> None:
    """Refuse names that could not be told from an incarnation (``n1#2``) or typed in a URL. Raises Refusal."""
    is_plain = name.isprintable() and name == name.strip() and not {"#", "/"} & {*name}
    if not 1 <= len(name) <= NAME_CHARS_MAX or not is_plain:
        raise Refusal(
            "invalid", f"node name {name!r} must be 1 to {NAME_CHARS_MAX} printable characters without '#' and '/'"
        )


def check_address(address: str) -> None:
    """Whether this could be where a node is reached. Raises InvalidRequest."""
    host, _, port = address.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535
    is_host = bool(host) and host.isprintable() and " " not in host and "/" not in host
    if not is_port or not is_host or len(address) > ADDRESS_CHARS_MAX:
        raise InvalidRequest(f"address {address!r} must look like host:port")
