"""What a continuous query is, and what it is as text in the catalog. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from arc.catalog.facts import Catalog
from arc.catalog.names import check_database_name, check_measurement_name
from arc.catalog.policies import Policy
from arc.continuous.schedule import Schedule, parse_duration, parse_schedule
from arc.continuous.statement import check_statement
from arc.errors import Conflict, InvalidRequest, NotFound, TooLarge

KIND = "continuous_query"
"""Kind of its policy in the catalog, which is named by its id."""

QUERIES_MAX = 1_000
NAME_CHARS_MAX = 128
DESCRIPTION_CHARS_MAX = 1_024
STATEMENT_CHARS_MAX = 16 << 10
TAGS_MAX = 64

OPEN_MAX = 200
"""Windows of one query that may be open for late rows at once: each is counted again and again."""

LATENESS = "10m"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousQuery:
    """``query`` over ``source`` of ``database``, whose rows of each window go to ``destination``.

    ``interval`` cuts time into windows (see `schedule`). Rows that come up to ``lateness`` after the end of their
    window make it be executed again. ``tags`` are columns of the result that become tags; None: those that are tags of
    the source. ``retention_days`` and ``delete_source_after_days`` are carried out by retention policies of their own.
    """

    id: int
    name: str
    description: str | None
    database: str
    source: str
    destination: str
    query: str
    interval: str
    lateness: str
    tags: tuple[str, ...] | None
    retention_days: int | None
    delete_source_after_days: int | None
    is_active: bool
    created_us: int
    updated_us: int

    @property
    def schedule(self) -> Schedule:
        """Where its windows end."""
        return parse_schedule(self.interval)

    @property
    def lateness_us(self) -> int:
        """So long after its end a window is open."""
        return parse_duration(self.lateness, "lateness")


def check(query: ContinuousQuery) -> ContinuousQuery:
    """The query itself. Raises InvalidRequest, which names the rule."""
    if not 1 <= len(query.name) <= NAME_CHARS_MAX:
        raise InvalidRequest(f"'name' must have 1 to {NAME_CHARS_MAX} characters")
    if query.description is not None and len(query.description) > DESCRIPTION_CHARS_MAX:
        raise InvalidRequest(f"'description' has at most {DESCRIPTION_CHARS_MAX} characters")
    if len(query.query) > STATEMENT_CHARS_MAX:
        raise InvalidRequest(f"'query' has at most {STATEMENT_CHARS_MAX} characters")
    if query.tags is not None and len(query.tags) > TAGS_MAX:
        raise InvalidRequest(f"'tag_columns' has at most {TAGS_MAX} names")
    check_database_name(query.database)
    check_measurement_name(query.source)
    if check_measurement_name(query.destination) == query.source:
        raise InvalidRequest("'destination_measurement' must be another one: a query would read its own results")
    check_statement(query.query)
    _check_lateness(query.schedule, query.lateness_us, query.created_us)
    return query


def _check_lateness(schedule: Schedule, lateness_us: int, around_us: int) -> None:
    at = first = schedule.floor(around_us)
    for _ in range(OPEN_MAX):
        at = schedule.after(at)
        if at - first >= lateness_us:
            return
    raise InvalidRequest(f"'lateness' must be at most {OPEN_MAX} windows of 'interval'")


def body_of(query: ContinuousQuery) -> str:
    """As it is kept."""
    kept = asdict(query)
    del kept["updated_us"]  # The catalog has it.
    return json.dumps(kept, sort_keys=True, ensure_ascii=False)


def read(policy: Policy) -> ContinuousQuery:
    """The other way round."""
    known = {field.name for field in fields(ContinuousQuery)}
    facts = {key: value for key, value in json.loads(policy.body).items() if key in known}
    facts["tags"] = tuple(facts["tags"]) if facts["tags"] is not None else None
    return ContinuousQuery(**facts, updated_us=policy.updated_us)


def definitions(catalog: Catalog) -> list[ContinuousQuery]:
    """All of them, oldest first."""
    found = [read(policy) for (kind, _), policy in catalog.policies.items() if kind == KIND]
    return sorted(found, key=lambda query: query.id)


def find(catalog: Catalog, query_id: int) -> ContinuousQuery | None:
    """The query of this id."""
    kept = catalog.policies.get((KIND, str(query_id)))
    return read(kept) if kept is not None else None


def require(catalog: Catalog, query_id: int) -> ContinuousQuery:
    """The same. Raises NotFound."""
    found = find(catalog, query_id)
    if found is None:
        raise NotFound(f"continuous query {query_id} not found")
    return found


def check_new(catalog: Catalog, query: ContinuousQuery) -> None:
    """Whether it may be made or changed so. Raises InvalidRequest, NotFound, Conflict, TooLarge."""
    check(query)
    if query.database not in catalog.databases:
        raise NotFound(f"database {query.database!r} not found")
    others = [other for other in definitions(catalog) if other.id != query.id]
    if any(other.name == query.name for other in others):
        raise Conflict(f"there is a continuous query {query.name!r} already", code="exists")
    if len(others) >= QUERIES_MAX:
        raise TooLarge(f"there are {QUERIES_MAX} continuous queries already, which is the limit")
    circle = _circle(query, others)
    if circle:
        raise InvalidRequest(f"{' -> '.join(circle)}: the results of these queries would be their sources again")


def _circle(query: ContinuousQuery, others: list[ContinuousQuery]) -> list[str]:
    """The measurements from this query's source round to it again, none when there is no such way."""
    near = [(other.source, other.destination) for other in others if other.database == query.database]
    ways, seen = [[query.source, query.destination]], {query.destination}
    while ways:
        way = ways.pop()
        for further in (destination for source, destination in near if source == way[-1]):
            if further == query.source:
                return [*way, further]
            if further not in seen:
                seen.add(further)
                ways.append([*way, further])
    return []
