"""Orders to the cluster: hand over, drain, promote, remove, found, leave. For admins; each is logged with who gave it.

What an order means and where it can be carried out is the coordinator's to say. Here it is read, passed on, and
answered; whoever asks a node that cannot do it is told which one can.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from arc.api.bodies import flag, json_object, optional_flag, optional_text, text
from arc.api.cluster import alone, find_node, look
from arc.api.cluster_schemas import CHANGE
from arc.api.deps import ClusterView, Deps
from arc.api.errors import LeaderElsewhere
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route, Schema, View
from arc.api.schemas import BOOLEAN, NUMBER, STRING, array, json_answer, nullable, obj
from arc.catalog.leases import REASON_CHARS_MAX, Lease, LeaseChange
from arc.catalog.values import LEASES, WRITER
from arc.cluster.document import change_document
from arc.errors import Conflict, InvalidRequest, Unavailable
from arc.raft.requests import NotLeading

T = TypeVar("T")

_NODE_ID = Parameter(name="id", place="path", about="Node id.", schema=STRING, required=True)

_FORCE = Parameter(
    name="force", place="query", about="Also when it lives, and files that are on it alone go with it.", schema=BOOLEAN
)


class LeaderElsewhereForGood(LeaderElsewhere):
    """Go's three orders answer 409 where another node leads."""

    status = 409


class ClusterOrders:
    """Orders. Those that Go has keep its paths, keys and statuses (cluster dossier 12)."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        done: dict[str, Schema] = {"success": BOOLEAN, "message": STRING}
        lease: Schema = {"type": "string", "enum": list(LEASES)}
        reason = {"reason": nullable(STRING)}
        on_node = {**done, "node_id": STRING}
        changed = obj({**done, **CHANGE})
        leader = obj({"id": STRING, "address": STRING, "api_address": STRING})
        state = {**on_node, "state": STRING, "still_holds": array(STRING)}
        plan = obj({"success": BOOLEAN, "dry_run": BOOLEAN})
        options = obj({}, {"dry_run": BOOLEAN, "allow_single_voter": BOOLEAN})
        founded = obj({**done, "cluster_uuid": STRING, "cluster_name": STRING})
        assigned = obj({**on_node, "old_compactor": nullable(STRING), "preemption_suppressed_seconds": NUMBER})
        promoted = obj({"node": STRING, "accept_data_loss": {"type": "boolean", "const": True}}, reason)
        return (
            _order("DELETE", "/nodes/{id}", "remove", "Let go of a node", self.remove, obj(on_node),
                   parameters=(_FORCE,)),
            _order("POST", "/compactor/assign", "assign_compactor", "Give the compactor lease to a node",
                   self.assign_compactor, assigned, obj({"node_id": STRING})),
            _order("POST", "/writers/{id}/demote", "demote_writer", "Hand the writer lease to another node",
                   self.demote, obj({**on_node, "new_primary": nullable(STRING)}), obj({}, reason), needs_body=False),
            _order("POST", "/voters/converge", "converge_voters", "Make the voters those that roles want",
                   self.converge, plan, options, needs_body=False),
            _order("POST", "/failover", "failover", "Hand a lease over in order", self.failover, changed,
                   obj({"lease": lease}, {"target": nullable(STRING), **reason})),
            _order("POST", "/transfer-leadership", "transfer_leadership", "Hand leadership over", self.transfer,
                   obj({**done, "leader": leader}), obj({}, {"target": nullable(STRING)}), needs_body=False),
            _order("POST", "/nodes/{id}/drain", "drain", "Give a node nothing new", self.drain, obj(state)),
            _order("POST", "/nodes/{id}/undrain", "undrain", "Give a node work again", self.undrain, obj(state)),
            _order("POST", "/promote", "promote", "Make a node the writer though rows may be lost", self.promote,
                   changed, promoted),
            _order("POST", "/init", "init", "Found the cluster with this node", self.init, founded),
            _order("POST", "/leave", "leave", "Hand over and be no member any more", self.leave, obj(on_node)),
        )  # fmt: skip

    async def remove(self, call: Call) -> Reply:
        """500 with "not the leader" where another node leads: arcli looks for exactly that, and asks the other one.

        Raises InvalidRequest (this node itself), NotFound, Conflict (also: the node lives, and would take something
        along), Unavailable, OutcomeUnknown.
        """
        if self._deps.cluster is None:
            return _alone()
        outlook, name = look(self._deps), call.path["id"]
        if name == outlook.me:
            raise InvalidRequest(
                f"{name} is this node, and does not remove itself; let it leave (arc cluster leave) or ask another one",
                code="self_removal",
            )
        try:
            force = flag(call.head.query(), "force")
            await self._deps.cluster.remove(find_node(outlook, name).name, force=force)
        except Unavailable as error:
            if error.code != "not_leader":
                raise
            said = f"this node is not the leader: {error.message}"
            leader = self._leader_of(error)
            document = {"success": False, "error": said, "message": said, "code": "not_leader", "leader": leader}
            return json_reply(500, document)
        self._told("node_removed", call, node=name)
        return json_reply(200, {"success": True, "message": f"{name} is no member any more", "node_id": name})

    async def assign_compactor(self, call: Call) -> Reply:
        """Raises InvalidRequest, NotFound, Conflict (unhealthy, of another role, holds it already), Unavailable."""
        if self._deps.cluster is None:
            return _alone()
        outlook = look(self._deps)
        name = find_node(outlook, text(json_object(call.body), "node_id")).name
        lease, seconds = await self._asked(self._deps.cluster.assign_compactor(name), elsewhere=LeaderElsewhereForGood)
        change = self._changed(lease, call)
        return json_reply(200, {
            "success": True, "node_id": change.holder, "old_compactor": change.previous or "",
            "message": f"{change.holder} holds the compactor lease", "preemption_suppressed_seconds": seconds,
        })  # fmt: skip

    async def demote(self, call: Call) -> Reply:
        """Raises NotFound, Conflict (it does not hold the lease, nobody could take it), Unavailable."""
        if self._deps.cluster is None:
            return _alone()
        outlook = look(self._deps)
        name = find_node(outlook, call.path["id"]).name
        if outlook.writer is None or outlook.writer.holder != name:
            holder = outlook.writer.holder if outlook.writer is not None else "nobody"
            raise Conflict(f"{name} does not hold the writer lease; {holder} does", code="not_primary_writer")
        reason = _reason(call, f"{name} was demoted")
        asked = self._deps.cluster.failover(WRITER, None, reason=reason)
        change = self._changed(await self._asked(asked, elsewhere=LeaderElsewhereForGood), call)
        words = f"{change.holder} holds the writer lease"
        return json_reply(200, {"success": True, "node_id": name, "new_primary": change.holder, "message": words})

    async def converge(self, call: Call) -> Reply:
        """A dry run unless ``dry_run`` is false: an unreadable wish changes nothing.

        Raises Conflict (unsafe), Unavailable.
        """
        if self._deps.cluster is None:
            return _alone()
        wish = json_object(call.body) if call.body else {}
        dry_run, single = optional_flag(wish, "dry_run"), optional_flag(wish, "allow_single_voter")
        is_dry = dry_run is not False
        asked = self._deps.cluster.converge_voters(dry_run=is_dry, allow_single_voter=bool(single))
        plan = await self._asked(asked, elsewhere=LeaderElsewhereForGood)
        self._told("voters_converged", call, dry_run=is_dry, plan=plan)
        return json_reply(200, {"success": True, "dry_run": is_dry, **plan})

    async def failover(self, call: Call) -> Reply:
        """Raises InvalidRequest, NotFound, Conflict (nobody in sync, in progress), Unavailable, OutcomeUnknown."""
        cluster, wish = self._cluster(), json_object(call.body)
        lease, target = text(wish, "lease"), optional_text(wish, "target")
        if lease not in LEASES:
            raise InvalidRequest(f"lease {lease!r} is none of {', '.join(LEASES)}", code="invalid_lease")
        if target:
            find_node(look(self._deps), target)
        reason = _reason(call, "an operator asked for it")
        return self._granted(await self._asked(cluster.failover(lease, target or None, reason=reason)), call)

    async def promote(self, call: Call) -> Reply:
        """Raises InvalidRequest (without ``accept_data_loss``), NotFound, Conflict, Unavailable, OutcomeUnknown."""
        cluster, wish = self._cluster(), json_object(call.body)
        name = find_node(look(self._deps), text(wish, "node")).name
        if optional_flag(wish, "accept_data_loss") is not True:
            raise InvalidRequest(
                f"{name} may lack rows that were acknowledged, and they would be lost; say accept_data_loss: true "
                "if that is better than waiting, or use failover, which never loses any",
                code="accept_data_loss_required",
            )
        reason = _reason(call, "promoted by an operator")
        return self._granted(await self._asked(cluster.promote(name, reason=reason)), call)

    async def transfer(self, call: Call) -> Reply:
        """To the voter that holds most, when none is named. Raises NotFound, InvalidRequest, Unavailable."""
        cluster = self._cluster()
        target = optional_text(json_object(call.body), "target") if call.body else None
        if target:
            find_node(look(self._deps), target)
        successor = await self._asked(cluster.transfer_leadership(target or None))
        self._told("leadership_transferred", call, to=successor.name)
        view = look(self._deps).node(successor.name)
        leader = {
            "id": successor.name,
            "address": view.address if view is not None else "",
            "api_address": view.api_address if view is not None else "",
        }
        return json_reply(200, {"success": True, "message": f"{successor.name} leads", "leader": leader})

    async def drain(self, call: Call) -> Reply:
        """Raises NotFound, Conflict (nobody could take its leases), Unavailable, OutcomeUnknown."""
        cluster = self._cluster()
        name = find_node(look(self._deps), call.path["id"]).name
        await self._asked(cluster.drain(name))
        self._told("node_drained", call, node=name)
        return self._state_of(name, f"{name} is given nothing new")

    async def undrain(self, call: Call) -> Reply:
        """Raises NotFound, Conflict, Unavailable, OutcomeUnknown."""
        cluster = self._cluster()
        name = find_node(look(self._deps), call.path["id"]).name
        await self._asked(cluster.undrain(name))
        self._told("node_undrained", call, node=name)
        return self._state_of(name, f"{name} is given work again")

    async def init(self, call: Call) -> Reply:
        """Raises Conflict (there is a cluster already), Unavailable."""
        facts = await self._asked(self._cluster().found())
        self._told("cluster_founded", call, cluster=facts.uuid, name=facts.name)
        return json_reply(200, {
            "success": True, "message": f"{facts.name} is founded", "cluster_uuid": facts.uuid,
            "cluster_name": facts.name,
        })  # fmt: skip

    async def leave(self, call: Call) -> Reply:
        """Raises Conflict (the last voter; the rest could not go on), Unavailable, OutcomeUnknown."""
        cluster, name = self._cluster(), look(self._deps).me
        await self._asked(cluster.leave())
        self._told("node_left", call, node=name)
        return json_reply(200, {"success": True, "message": f"{name} is no member any more", "node_id": name})

    def _cluster(self) -> ClusterView:
        if self._deps.cluster is None:
            raise Conflict(
                "this node listens for no others, so it is a cluster of one for good; "
                "start it with cluster.enabled to change that",
                code="cluster_disabled",
            )
        return self._deps.cluster

    async def _asked(self, asked: Awaitable[T], *, elsewhere: type[LeaderElsewhere] = LeaderElsewhere) -> T:
        """What was asked for. Raises ``elsewhere`` where another node must be asked."""
        try:
            return await asked
        except Unavailable as error:
            if error.code != "not_leader":
                raise
            leader = self._leader_of(error)
            raise elsewhere(error.message, (leader["name"] or "", leader["address"]) if leader else None) from error

    def _leader_of(self, error: Unavailable) -> dict[str, str | None] | None:
        name = error.leader if isinstance(error, NotLeading) else None
        if name is None:
            known = look(self._deps).leader
            name = known.name if known is not None else None
        if name is None:
            return None
        record = self._deps.catalog().nodes.get(name)
        return {"name": name, "address": record.address if record is not None else None}

    def _granted(self, lease: Lease, call: Call) -> Reply:
        change = self._changed(lease, call)
        words = f"{change.holder} holds the {change.lease} lease"
        return json_reply(200, {"success": True, "message": words, **change_document(change)})

    def _state_of(self, name: str, words: str) -> Reply:
        outlook = look(self._deps)
        view = outlook.node(name)
        held = [lease.name for lease in outlook.leases.values() if lease.holder == name]
        return json_reply(200, {
            "success": True, "message": words, "node_id": name, "state": view.state.value if view else "unknown",
            "still_holds": sorted(held),
        })  # fmt: skip

    def _changed(self, lease: Lease, call: Call) -> LeaseChange:
        """The grant as the catalog remembers it, told in the log."""
        grants = self._deps.catalog().history
        found = next((each for each in grants if (each.lease, each.epoch) == (lease.name, lease.epoch)), None)
        change = found or LeaseChange(
            lease.name, lease.epoch, lease.holder, None, lease.granted_us, lease.reason, is_clean=True
        )
        self._told("lease_ordered", call, lease=change.lease, holder=change.holder, epoch=change.epoch,
                   previous=change.previous, clean=change.is_clean)  # fmt: skip
        return change

    def _told(self, event: str, call: Call, **fields: object) -> None:
        self._deps.log.info(event, **fields, by=call.principal.name)


def _order(
    method: str, path: str, name: str, summary: str, view: View, answer: Schema, body: Schema | None = None, *,
    needs_body: bool = True, parameters: tuple[Parameter, ...] = (),
) -> Route:  # fmt: skip
    assert method in ("POST", "DELETE")
    return Route(
        method="DELETE" if method == "DELETE" else "POST", path=f"/api/v1/cluster{path}", name=f"cluster_{name}",
        tag="cluster", permission=Permission.ADMIN, summary=summary, view=view,
        body=RequestBody(content={"application/json": body}, required=needs_body) if body is not None else None,
        parameters=((_NODE_ID,) if "{id}" in path else ()) + parameters, answers={200: json_answer("Done.", answer)},
    )  # fmt: skip


def _alone() -> Reply:
    """Go's orders on a node alone: the sentence of every page, and that nothing was done."""
    reply = alone()
    return json_reply(reply.status, {"success": False, **json_object(reply.body)})


def _reason(call: Call, default: str) -> str:
    """Why, with who said so: it is kept with the lease, and read by whoever looks why it is where it is."""
    wish = json_object(call.body) if call.body else {}
    given = optional_text(wish, "reason", chars_max=REASON_CHARS_MAX // 2)
    return f"{given or default} (by {call.principal.name})"[:REASON_CHARS_MAX]
