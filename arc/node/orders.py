"""Small answers to operators that no department owns: how far followers are, what the voters would become."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from arc.catalog.cluster import ClusterFacts
from arc.catalog.facts import Catalog
from arc.cluster.autopilot import Autopilot
from arc.cluster.voting import rule
from arc.duties.standing import WriterStatistics
from arc.errors import Conflict
from arc.raft.node import RaftNode
from arc.raft.requests import NotLeading

STEPS_MAX = 16
"""One change at a time; more than there are voters to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """See `cluster.outlook.FollowerLag`."""

    name: str
    records: int
    seconds: float


def lags(path: WriterStatistics | None) -> tuple[Lag, ...]:
    """How far each follower is behind, by name; nothing on a node that does not write."""
    if path is None or path.reign is None:
        return ()
    return tuple(
        Lag(name=each.name, records=each.lag, seconds=each.lag_seconds) for each in path.reign.sender.followers
    )


class Convergence:
    """See `cluster.operations.Converge`. The autopilot does the same by itself, a step a second."""

    def __init__(self, autopilot: Autopilot | None, raft: RaftNode, catalog: Callable[[], Catalog]) -> None:
        self._autopilot = autopilot
        self._raft = raft
        self._catalog = catalog

    async def __call__(self, *, dry_run: bool, allow_single_voter: bool) -> Mapping[str, object]:
        """What was or would be done. Raises NotLeading, Conflict."""
        if self._autopilot is None:
            raise Conflict("this node listens for no others, so it is its own only voter", code="cluster_disabled")
        status = self._raft.status()
        if not self._raft.is_leader:
            leader = status.leader.name if status.leader is not None else ""
            raise NotLeading("only the leader changes who votes", leader)
        words = rule(status, self._catalog())
        planned = self._autopilot.look()
        if dry_run:
            return {"dry_run": True, "rule": words, "plan": [action.reason for action in planned]}
        done: list[str] = []
        for _ in range(STEPS_MAX):
            action = await self._autopilot.step()
            if action is None:
                break
            done.append(action.reason)
        return {"dry_run": False, "rule": words, "done": done}

    @staticmethod
    def found_already(catalog: Callable[[], Catalog]) -> Callable[[], Awaitable[ClusterFacts]]:
        """For a node that belongs to a cluster: there is nothing to found."""

        async def found() -> ClusterFacts:
            facts = catalog().cluster
            name = f"{facts.name} ({facts.uuid})" if facts is not None else "one"
            raise Conflict(f"this node belongs to a cluster already: {name}", code="founded_already")

        return found
