"""The cluster's endpoints on a node that is alone: every one answers the same sentence with 200, as arcli expects."""

from __future__ import annotations

from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, Route
from arc.api.schemas import BOOLEAN, STRING, json_answer, obj

REASON = "this node runs alone: a cluster of one"


class ClusterStatus:
    """Standalone answers (data plane 1.8, ecosystem 1.4)."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        answers = {200: json_answer("Alone.", obj({"enabled": BOOLEAN, "mode": STRING, "reason": STRING}))}
        node = Parameter(name="id", place="path", about="Node id.", schema={"type": "string"}, required=True)
        paths = (
            ("", "cluster", "The cluster at a glance", Permission.READ),
            ("/nodes", "cluster_nodes", "Its nodes", Permission.READ),
            ("/nodes/{id}", "cluster_node", "One node", Permission.READ),
            ("/local", "cluster_local", "This node", Permission.READ),
            ("/health", "cluster_health", "Who is well", Permission.READ),
            ("/files", "cluster_files", "The file manifest", Permission.ADMIN),
        )
        return tuple(
            Route(
                method="GET", path=f"/api/v1/cluster{path}", name=name, tag="cluster", permission=permission,
                summary=summary, view=self.alone, answers=answers, parameters=(node,) if "{" in path else (),
            )
            for path, name, summary, permission in paths
        )  # fmt: skip

    async def alone(self, call: Call) -> Reply:
        """Nothing to say about others."""
        return json_reply(200, {"enabled": False, "mode": "standalone", "reason": REASON})
