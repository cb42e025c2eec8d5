"""What the HTTP server counts about itself. Mutable counts with one owner, `arc.api.app.Api`; read as frozen values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from arc.errors import Unavailable
from arc.telemetry import Distribution, Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStatistics:
    """Requests answered. ``responses_total`` is by class of status, ``2xx`` … ``5xx``, and ``cut`` for cut ones."""

    requests_total: int
    success_total: int
    error_total: int
    in_flight: int
    refused_total: int
    responses_total: dict[str, int] = field(metadata={"label": "status"})
    latency_seconds: Distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthStatistics:
    """Tokens looked at, wrong ones, and those answered with "slow down"."""

    requests_total: int
    failed_total: int
    limited_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatStatistics:
    """Write requests of one format: how many, their rows stored, rows refused, and bytes as they came."""

    requests_total: int = 0
    records_total: int = 0
    refused_total: int = 0
    bytes_total: int = 0
    errors_total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ActStatistics:
    """Acts with a line in the audit log, and those whose line nobody agreed on in time."""

    recorded_total: int
    unrecorded_total: int


GATES = ("files_missing", "not_confirmed", "not_ready", "not_seen")
"""Why a query is turned away rather than answered short: files have not come to this node and their rows are not here
either; nobody confirmed what a strong read must see; this node answers none; it has not seen what its caller has seen.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryGateStatistics:
    """``arc_query_gate_rejections_total``: queries that were turned away, by `GATES`. Those that were passed on to
    another node are not among them.
    """

    rejections_total: Mapping[str, int] = field(metadata={"label": "reason"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiStatistics:
    """All of it; the names in ``/metrics`` are ``arc_<field>_<field>``."""

    http: HttpStatistics
    auth: AuthStatistics
    acts: ActStatistics
    query_gate: QueryGateStatistics
    lineprotocol: FormatStatistics
    msgpack: FormatStatistics
    arrow: FormatStatistics


class HttpCounts:
    """Counts answers by status and time."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests = 0
        self._responses = dict.fromkeys(("2xx", "3xx", "4xx", "5xx", "cut"), 0)
        self._latency = Histogram()

    def answered(self, status: int, seconds: float) -> None:
        """Count one request; status 0 is one that ended without a (whole) answer."""
        self._requests += 1
        self._responses[f"{status // 100}xx" if 200 <= status < 600 else "cut"] += 1
        self._latency.observe(seconds)

    def statistics(self, *, refused: int) -> HttpStatistics:
        """The counts so far."""
        found = dict(self._responses)
        success = found["2xx"] + found["3xx"]
        return HttpStatistics(
            requests_total=self._requests,
            success_total=success,
            error_total=self._requests - success,
            in_flight=self.in_flight,
            refused_total=refused,
            responses_total=found,
            latency_seconds=self._latency.statistics(),
        )


class QueryGateCounts:
    """Counts what the gate before queries turns away."""

    def __init__(self) -> None:
        self._rejected = dict.fromkeys(GATES, 0)

    @contextmanager
    def counting(self, gate: str, *, code: str | None = None) -> Iterator[None]:
        """Whoever is Unavailable in this block, with this code if one is given, was turned away by this gate."""
        try:
            yield
        except Unavailable as error:
            self._rejected[gate] += code in (None, error.code)
            raise

    def statistics(self) -> QueryGateStatistics:
        """The counts so far."""
        return QueryGateStatistics(rejections_total=dict(self._rejected))


class FormatCounts:
    """Counts the writes of one format."""

    def __init__(self) -> None:
        self.requests = 0
        self.records = 0
        self.refused = 0
        self.bytes = 0
        self.errors = 0

    def statistics(self) -> FormatStatistics:
        """The counts so far."""
        return FormatStatistics(
            requests_total=self.requests,
            records_total=self.records,
            refused_total=self.refused,
            bytes_total=self.bytes,
            errors_total=self.errors,
        )
