"""The cluster for whoever looks at it: how it is and why, its nodes, its leases, its files.

Every node answers for itself, from one look at what it knows; nothing here asks another node. A node alone answers
every path with one sentence and 200, as arcli expects (ecosystem 1.4).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from arc.api.bodies import whole_number
from arc.api.cluster_schemas import FILES, HEALTH, LEASES_PAGE, LOCAL, NODE, NODES, STATUS, cluster_answers
from arc.api.deps import ClusterView, Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, Route, View
from arc.api.schemas import STRING
from arc.catalog.fsm import Catalog
from arc.catalog.roles import NodeRole, NodeState
from arc.catalog.values import LEASES
from arc.cluster.document import (
    file_document,
    lease_document,
    local_document,
    node_document,
    status_document,
    verdict_document,
)
from arc.cluster.outlook import Outlook
from arc.cluster.views import NodeView
from arc.errors import InvalidRequest, NotFound, Unavailable
from arc.storage.files import FileEntry

REASON = "this node runs alone: a cluster of one"

NODE_ID_CHARS_MAX = 256
FILES_LIMIT_MAX = 10_000
FILES_LIMIT = 1000


class Cluster:
    """Pages to look at (cluster dossier 12; ecosystem 1.4 and 5.3)."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        role = _choice("role", "Only nodes of this role.", NodeRole)
        state = _choice("state", "Only nodes in this state.", NodeState)
        node = Parameter(name="id", place="path", about="Node id.", schema=STRING, required=True)
        database = Parameter(name="database", place="query", about="Only files of this database.", schema=STRING)
        cursor = Parameter(
            name="cursor", place="query", about="`next_cursor` of the page before; the first page has none.",
            schema=STRING,
        )  # fmt: skip
        limit = Parameter(
            name="limit", place="query", about="Files a page.",
            schema={"type": "integer", "minimum": 1, "maximum": FILES_LIMIT_MAX, "default": FILES_LIMIT},
        )  # fmt: skip
        return (
            self._page("", "cluster", "The cluster at a glance", self.status, "As this node sees it.", STATUS),
            self._page("/nodes", "cluster_nodes", "Its nodes", self.nodes, "By id.", NODES, (role, state)),
            self._page("/nodes/{id}", "cluster_node", "One node", self.node, "Found.", NODE, (node,)),
            self._page("/local", "cluster_local", "This node", self.local, "And what its role allows.", LOCAL),
            self._page("/health", "cluster_health", "Who is well", self.health, "And why not.", HEALTH),
            self._page("/leases", "cluster_leases", "Who may write, who compacts", self.leases, "And since when, why.",
                       LEASES_PAGE),
            self._page("/files", "cluster_files", "The file manifest", self.files, "By path.", FILES,
                       (database, cursor, limit), permission=Permission.ADMIN),
        )  # fmt: skip

    def _page(
        self, path: str, name: str, summary: str, view: View, about: str, schema: dict[str, object],
        parameters: tuple[Parameter, ...] = (), *, permission: Permission = Permission.READ,
    ) -> Route:  # fmt: skip
        async def guarded(call: Call) -> Reply:
            return alone() if self._deps.cluster is None else await view(call)

        return Route(
            method="GET", path=f"/api/v1/cluster{path}", name=name, tag="cluster", permission=permission,
            unlimited=path != "/files", summary=summary, view=guarded, parameters=parameters,
            answers=cluster_answers(about, schema),
        )  # fmt: skip

    async def status(self, call: Call) -> Reply:
        """One look, with verdict, reasons and next commands."""
        return json_reply(200, status_document(look(self._deps)))

    async def nodes(self, call: Call) -> Reply:
        """Raises InvalidRequest for a filter that is no role or state."""
        query = call.head.query()
        role, state = (
            _wanted(query.get("role", ""), "role", NodeRole),
            _wanted(query.get("state", ""), "state", NodeState),
        )
        outlook = look(self._deps)
        found = [
            view for view in outlook.nodes if (not role or view.role == role) and (not state or view.state == state)
        ]
        return json_reply(200, {"nodes": [node_document(view, outlook) for view in found], "total": len(found)})

    async def node(self, call: Call) -> Reply:
        """Raises InvalidRequest, NotFound."""
        outlook = look(self._deps)
        return json_reply(200, node_document(find_node(outlook, call.path["id"]), outlook))

    async def local(self, call: Call) -> Reply:
        """Raises Unavailable before this node knows itself."""
        outlook = look(self._deps)
        if outlook.local is None:
            raise Unavailable("this node is about to start and does not know itself yet", code="node_starting")
        return json_reply(200, local_document(outlook.local, outlook))

    async def health(self, call: Call) -> Reply:
        """Counts, the checker, and the verdict with its reasons."""
        outlook = look(self._deps)
        healthy = sum(view.is_healthy for view in outlook.nodes)
        counts = {"healthy": healthy, "unhealthy": len(outlook.nodes) - healthy, "total": len(outlook.nodes)}
        checker = self._cluster.health_checker()
        return json_reply(200, {**counts, "health_checker": checker, **verdict_document(outlook)})

    async def leases(self, call: Call) -> Reply:
        """Every lease, held or not."""
        outlook = look(self._deps)
        found = [lease_document(outlook, name) for name in LEASES]
        return json_reply(200, {"leases": found, "total": len(found)})

    async def files(self, call: Call) -> Reply:
        """A page of the manifest. Raises InvalidRequest."""
        query = call.head.query()
        limit = whole_number(query, "limit", default=FILES_LIMIT, low=1, high=FILES_LIMIT_MAX)
        database, cursor = query.get("database", ""), query.get("cursor", "")
        # A manifest may hold a million files: walking it is not for the loop that serves everybody.
        page, total = await self._deps.workers.run(page_of, self._deps.catalog(), database, cursor, limit)
        document: dict[str, object] = {"files": [file_document(entry) for entry in page], "total": total}
        if len(page) == limit:
            document["next_cursor"] = page[-1].path
        return json_reply(200, document)

    @property
    def _cluster(self) -> ClusterView:
        assert self._deps.cluster is not None, "guarded by _page"
        return self._deps.cluster


def look(deps: Deps) -> Outlook:
    """Look now; there is a cluster."""
    assert deps.cluster is not None
    return deps.cluster.look()


def alone() -> Reply:
    """The answer of a node that has no cluster."""
    return json_reply(200, {"enabled": False, "mode": "standalone", "reason": REASON})


def find_node(outlook: Outlook, name: str) -> NodeView:
    """The node of this name. Raises InvalidRequest, NotFound, in the words that clients look for."""
    if not 1 <= len(name) <= NODE_ID_CHARS_MAX:
        raise InvalidRequest(f"a node id has 1 to {NODE_ID_CHARS_MAX} characters", code="invalid_node_id")
    found = outlook.node(name)
    if found is None:
        raise NotFound(f"Node not found: {name!r} is no node of this cluster", code="node_not_found")
    return found


def page_of(catalog: Catalog, database: str, cursor: str, limit: int) -> tuple[list[FileEntry], int]:
    """The ``limit`` files whose paths follow ``cursor``, sorted by path, and how many there are on all pages.

    A file that comes later with a path before the cursor is on no page of that walk.
    """
    total = 0

    def after() -> Iterable[FileEntry]:
        nonlocal total
        for entry in catalog.all_files():
            if not database or entry.database == database:
                total += 1
                if entry.path > cursor:
                    yield entry

    page = heapq.nsmallest(limit, after(), key=lambda entry: entry.path)
    return page, total


def _choice(name: str, about: str, values: type[NodeRole] | type[NodeState]) -> Parameter:
    return Parameter(name=name, place="query", about=about, schema={"type": "string", "enum": [*map(str, values)]})


def _wanted(text: str, name: str, values: type[NodeRole] | type[NodeState]) -> str:
    if text and text not in {value.value for value in values}:
        raise InvalidRequest(f"{name} {text!r} is none of {', '.join(values)}", code="invalid_filter")
    return text
