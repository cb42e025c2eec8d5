"""What is carried out by schedule on this node, and a word to look at once: continuous queries and retention."""

from __future__ import annotations

from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Route
from arc.api.schemas import BOOLEAN, INTEGER, STRING, TIMESTAMP, array, json_answer, obj
from arc.compaction import retention
from arc.continuous import definition
from arc.errors import ArcError, NotRunning
from arc.telemetry import rfc3339_ms

_STATUS = obj(
    {
        "cq_scheduler": obj(
            {
                "running": BOOLEAN, "license_valid": BOOLEAN, "job_count": INTEGER,
                "jobs": array(obj({"cq_id": INTEGER, "cq_name": STRING, "interval": STRING})),
            },
            {"reason": STRING},
        ),
        "retention_scheduler": obj(
            {
                "running": BOOLEAN, "schedule": STRING, "license_valid": BOOLEAN, "can_run": BOOLEAN,
                "gate_role": STRING,
            },
            {"next_run": TIMESTAMP, "reason": STRING},
        ),
    }
)  # fmt: skip
_STANDBY = "another node holds the writer lease, and carries the schedules out"
_OFF = "it is switched off in this node's configuration"


class Schedulers:
    """The schedules themselves follow from the catalog: there is nothing to load, and a failover loses none."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        base, tag = "/api/v1/schedulers", "schedulers"
        return (
            Route(
                method="GET", path=base, name="get_schedulers", tag=tag, permission=Permission.READ,
                summary="What this node carries out by schedule", view=self.get,
                answers={200: json_answer("As of now.", _STATUS)},
            ),
            Route(
                method="POST", path=f"{base}/cq/reload", name="reload_continuous_queries", tag=tag,
                permission=Permission.ADMIN, summary="Look at once which windows are due, also after a failure",
                view=self.reload,
                answers={200: json_answer("It looks.", obj({"message": STRING, "job_count": INTEGER}))},
            ),
            Route(
                method="POST", path=f"{base}/retention/trigger", name="trigger_retention", tag=tag,
                permission=Permission.ADMIN, summary="Execute every active retention policy now", view=self.trigger,
                answers={200: json_answer("Executed.", obj({"message": STRING}))},
            ),
        )  # fmt: skip

    async def get(self, call: Call) -> Reply:
        """Running is what this node carries out; another one says the same of itself."""
        return json_reply(200, {"cq_scheduler": self._continuous(call), "retention_scheduler": self._retention()})

    async def reload(self, call: Call) -> Reply:
        """Raises NotRunning where schedules are not carried out now."""
        if not self._deps.continuous.is_holder:
            raise NotRunning(_STANDBY if not self._deps.continuous.holds_writer else _OFF)
        count = self._deps.continuous.wake()
        return json_reply(200, {"message": "CQ scheduler reloaded", "job_count": count})

    async def trigger(self, call: Call) -> Reply:
        """Raises NotRunning where this node does not write. What fails is in the history of its policy."""
        if not self._deps.continuous.holds_writer:
            raise NotRunning(_STANDBY)
        done, failed = 0, list[str]()
        for policy in retention.policies(self._deps.catalog()):
            if policy.is_active:
                try:
                    await self._deps.retention.execute(policy.id)
                    done += 1
                except ArcError as error:
                    failed.append(f"{policy.name}: {error.message}")
        said = f"retention executed: {done} policies"
        return json_reply(200, {"message": said + "".join(f"; failed: {each}" for each in failed)})

    def _continuous(self, call: Call) -> dict[str, object]:
        queries = definition.definitions(self._deps.catalog())
        active = [query for query in queries if query.is_active and call.principal.sees(query.database)]
        runner = self._deps.continuous
        document: dict[str, object] = {
            "running": runner.is_holder,
            "license_valid": True,
            "job_count": len(active),
            "jobs": [{"cq_id": query.id, "cq_name": query.name, "interval": query.interval} for query in active],
        }
        if not runner.is_holder:
            document["reason"] = _OFF if runner.holds_writer else _STANDBY
        return document

    def _retention(self) -> dict[str, object]:
        every, holds = self._deps.retention.every_seconds, self._deps.continuous.holds_writer
        document: dict[str, object] = {
            "running": holds and every > 0,
            "schedule": f"@every {every:g}s" if every else "",
            "license_valid": True,
            "can_run": holds,
            "gate_role": "writer",
        }
        nexts = [
            runs[0].at_us + int(every * 1e6) if (runs := retention.runs(self._deps.catalog(), policy.id)) else None
            for policy in retention.policies(self._deps.catalog())
            if policy.is_active
        ]
        if nexts and every:
            now_us = self._deps.clock.wall_us()
            document["next_run"] = rfc3339_ms(min(now_us if each is None else max(each, now_us) for each in nexts))
        if not holds or not every:
            document["reason"] = _OFF if holds else _STANDBY
        return document
