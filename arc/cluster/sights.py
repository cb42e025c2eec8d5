"""What waiting nodes show each other: how they are configured, and what their folders say. See `founding`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from arc.catalog.nodes import check_address
from arc.catalog.roles import NodeRole, parse_role
from arc.cluster.identity import Founder, Founding
from arc.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """What is configured. ``expect`` is 0 on a node that never founds; ``seeds`` are sorted and differ."""

    cluster: str
    expect: int
    seeds: tuple[str, ...]

    @property
    def coordinates_at(self) -> str:
        """The address whose node draws up the plan."""
        return self.seeds[0]


class Sight(NamedTuple):
    """How a node shows itself: what is configured there, and what its folder says."""

    bootstrap: Bootstrap
    me: Founder
    role: NodeRole
    uuid: str
    founding: Founding | None
    promise: Founding | None
    word: str = ""
    """What it waits for, in its own words."""

    @property
    def is_waiting(self) -> bool:
        """Whether it belongs to no cluster and would found one."""
        return not self.uuid and self.founding is None and self.bootstrap.expect > 0

    def packed(self) -> list[object]:
        """As plain values."""
        configured = [self.bootstrap.cluster, self.bootstrap.expect, [*self.bootstrap.seeds]]
        plans = [plan.packed() if plan is not None else None for plan in (self.founding, self.promise)]
        return [configured, [*self.me], self.role.value, self.uuid, *plans, self.word]

    @classmethod
    def unpacked(cls, value: object) -> Sight:
        """The other way round. Raises ValueError."""
        match value:
            case [
                [str(cluster), int(expect), [*seeds]],
                [str(name), int(incarnation), str(address)],
                str(role),
                str(uuid),
                founding,
                promise,
                str(word),
            ]:
                try:
                    check_address(address)
                    parsed = parse_role(role)
                except InvalidRequest as error:
                    raise ValueError(error.message) from error
                return cls(
                    Bootstrap(cluster=cluster, expect=expect, seeds=tuple(map(str, seeds))),
                    Founder(name, incarnation, address),
                    parsed,
                    uuid,
                    Founding.unpacked(founding) if founding is not None else None,
                    Founding.unpacked(promise) if promise is not None else None,
                    word[:1000],
                )
        raise ValueError(f"nothing that a node shows: {value!r:.200}")
