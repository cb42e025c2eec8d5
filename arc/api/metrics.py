"""Numbers and recent log events: Prometheus text, its JSON twins, and the last events in memory.

All of them read the same statistics trees; nothing is counted here. The registry is made for one scrape, so a
simulation with many nodes in one process never mixes them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from arc.api.bodies import whole_number
from arc.api.cluster_metrics import ClusterMetrics
from arc.api.deps import Deps
from arc.api.observed import ApiStatistics
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Answer, Call, Parameter, Route, Schema
from arc.api.schemas import ANYTHING, INTEGER, STRING, TIMESTAMP, array, json_answer, obj
from arc.errors import InvalidRequest
from arc.telemetry import LEVELS, Distribution, Event, Level, Sample, flatten, rfc3339_ms

LOGS_LIMIT_MAX = 1000
MINUTES_MAX = 1440
GROUPS = (
    "http", "auth", "lineprotocol", "msgpack", "arrow", "ingest", "query", "buffer", "storage", "wal", "catalog",
    "raft", "cluster", "replication",
)  # fmt: skip
"""First words of metric names that `/api/v1/metrics/endpoints` sorts by."""


class Metrics:
    """Metrics are public as in Arc, so that scrapers need no token; logs are for admins."""

    def __init__(self, deps: Deps, api_statistics: Callable[[], ApiStatistics]) -> None:
        self._deps = deps
        self._api_statistics = api_statistics
        self._cluster = ClusterMetrics(deps)
        self._started = deps.clock.now()

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        public = Permission.PUBLIC
        flat = obj({"timestamp": TIMESTAMP})
        level = Parameter(name="level", place="query", about="This level and above.",
                          schema={"type": "string", "enum": [*LEVELS, "warn"]})  # fmt: skip
        limit = Parameter(name="limit", place="query", about="At most this many.", schema=_whole(LOGS_LIMIT_MAX, 100))
        minutes = Parameter(
            name="since_minutes", place="query", about="Not older than this.", schema=_whole(MINUTES_MAX, 60)
        )
        logs = obj({"timestamp": TIMESTAMP, "count": INTEGER, "limit": INTEGER, "level_filter": STRING,
                    "since_minutes": INTEGER, "logs": array(ANYTHING)})  # fmt: skip
        return (
            Route(
                method="GET", path="/metrics", name="metrics", tag="metrics", permission=public, unlimited=True,
                summary="Prometheus text format 0.0.4", view=self.prometheus,
                answers={200: Answer(about="All samples; JSON when exactly that is accepted.",
                                     content={"text/plain": STRING, "application/json": flat})},
            ),
            Route(
                method="GET", path="/api/v1/metrics", name="metrics_json", tag="metrics", permission=public,
                unlimited=True, summary="All samples as one flat object", view=self.flat,
                answers={200: json_answer("Name to number.", flat)},
            ),
            Route(
                method="GET", path="/api/v1/metrics/endpoints", name="metrics_endpoints", tag="metrics",
                permission=public, unlimited=True, summary="The same by group", view=self.grouped,
                answers={200: json_answer("Group to name to number.", obj({"timestamp": TIMESTAMP}))},
            ),
            Route(
                method="GET", path="/api/v1/logs", name="recent_logs", tag="metrics", permission=Permission.ADMIN,
                summary="The last log events of this node", view=self.logs, parameters=(limit, level, minutes),
                answers={200: json_answer("Newest first.", logs)},
            ),
        )  # fmt: skip

    async def prometheus(self, call: Call) -> Reply:
        """Text for scrapers; JSON for whoever accepts exactly that."""
        if call.head.header(b"accept") == "application/json":
            return await self.flat(call)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self._samples()))
        content_type = CONTENT_TYPE_PLAIN_0_0_4.encode()
        return Reply(200, generate_latest(registry), ((b"content-type", content_type),))

    async def flat(self, call: Call) -> Reply:
        """Labels become part of the name, as ``name{label=value}``; a histogram gives its count and sum."""
        numbers: dict[str, object] = {"timestamp": self._time()}
        for sample in self._samples():
            numbers.update(_numbers(sample))
        return json_reply(200, numbers)

    async def grouped(self, call: Call) -> Reply:
        """What Launchpad's overview reads."""
        document: dict[str, object] = {"timestamp": self._time()}
        groups: dict[str, dict[str, object]] = {name: {} for name in GROUPS}
        for sample in self._samples():
            group, _, rest = sample.name.removeprefix("arc_").partition("_")
            if group in groups and rest:
                groups[group].update(
                    {name.removeprefix(f"arc_{group}_"): value for name, value in _numbers(sample).items()}
                )
        return json_reply(200, {**document, **groups})

    async def logs(self, call: Call) -> Reply:
        """Raises InvalidRequest."""
        query = call.head.query()
        limit = whole_number(query, "limit", default=100, low=1, high=LOGS_LIMIT_MAX)
        minutes = whole_number(query, "since_minutes", default=60, low=1, high=MINUTES_MAX)
        wish = query.get("level", "").lower()
        level = _level(wish)
        now_us = self._deps.clock.wall_us()
        chosen = self._deps.logs.select(limit=limit, level=level, since_us=now_us - minutes * 60_000_000)
        return json_reply(
            200,
            {
                "timestamp": self._time(),
                "count": len(chosen),
                "limit": limit,
                "level_filter": wish,
                "since_minutes": minutes,
                "logs": [_shown(event) for event in chosen],
            },
        )

    def _samples(self) -> list[Sample]:
        uptime = Sample(
            name="arc_uptime_seconds", value=self._deps.clock.now() - self._started, labels={}, kind="gauge"
        )
        return [
            uptime,
            *flatten(self._api_statistics()),
            *flatten(self._deps.statistics()),
            *self._cluster.samples(),
        ]

    def _time(self) -> str:
        return rfc3339_ms(self._deps.clock.wall_us())


def _whole(high: int, default: int) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": high, "default": default}


class _Collector:
    """One scrape's samples, grouped into families because the text format wants each name once."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for sample in self._samples:
            if sample.name not in families:
                families[sample.name] = _family(sample)
            _add(families[sample.name], sample)
        return families.values()


def _family(sample: Sample) -> Metric:
    about = sample.name.removeprefix("arc_").replace("_", " ")
    labels = sorted(sample.labels)
    match sample.kind:
        case "counter":
            return CounterMetricFamily(sample.name, about, labels=labels)
        case "histogram":
            return HistogramMetricFamily(sample.name, about, labels=labels)
        case _:
            return GaugeMetricFamily(sample.name, about, labels=labels)


def _add(family: Metric, sample: Sample) -> None:
    values = [sample.labels[name] for name in sorted(sample.labels)]
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(sample.value, Distribution)
        below = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip([*map(repr, sample.value.bounds), "+Inf"], sample.value.counts, strict=True):
            below += count
            buckets.append((bound, below))
        family.add_metric(values, buckets=buckets, sum_value=sample.value.sum)
        return
    assert isinstance(family, (CounterMetricFamily, GaugeMetricFamily))
    assert not isinstance(sample.value, Distribution)
    family.add_metric(values, sample.value)


def _numbers(sample: Sample) -> dict[str, object]:
    labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
    suffix = f"{{{labels}}}" if labels else ""
    if isinstance(sample.value, Distribution):
        return {f"{sample.name}_count{suffix}": sample.value.count, f"{sample.name}_sum{suffix}": sample.value.sum}
    return {f"{sample.name}{suffix}": sample.value}


def _level(wish: str) -> Level:
    for level in LEVELS:
        if wish in (level, "warn" if level == "warning" else level):
            return level
    if wish:
        raise InvalidRequest(f"level must be one of {', '.join(LEVELS)}")
    return "debug"


def _shown(event: Event) -> dict[str, object]:
    document = event.as_dict()
    return {"timestamp": document.pop("time"), **document}
