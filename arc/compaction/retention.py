"""Retention: which files are too old for a policy, and what a policy and its history are as text in the catalog. Pure.

A file goes as a whole, once its newest row is older than ``retention_days`` and ``buffer_days`` together: both are
added, as Arc in Go does, so that a policy that is moved here keeps what it kept there. The manifest knows the newest
row of every file, so nothing is opened.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace

from arc.catalog.facts import Catalog
from arc.catalog.policies import Policy
from arc.errors import InvalidRequest, NotFound
from arc.storage.files import FileEntry

KIND = "retention"
RUNS_KIND = "retention_runs"
"""Kinds of policies in the catalog; both are named by the policy's id."""

DAY_US = 86_400_000_000
DAYS_MAX = 365_000
NAME_CHARS_MAX = 128
RUNS_KEPT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """Rows of ``database`` (of one ``measurement``, or of all) older than so many days may go."""

    id: int
    name: str
    database: str
    measurement: str | None
    retention_days: int
    buffer_days: int
    is_active: bool
    created_us: int
    updated_us: int

    def cutoff_us(self, now_us: int) -> int:
        """Rows before this moment are too old."""
        return now_us - (self.retention_days + self.buffer_days) * DAY_US


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution. ``status`` is ``completed`` or ``failed``; ``rows`` and ``files`` are what it removed."""

    id: int
    at_us: int
    status: str
    rows: int
    files: int
    cutoff_us: int
    milliseconds: float
    error: str | None = None


def check(policy: RetentionPolicy) -> RetentionPolicy:
    """The policy itself. Raises InvalidRequest, which names the rule."""
    if not 1 <= len(policy.name) <= NAME_CHARS_MAX:
        raise InvalidRequest(f"'name' must have 1 to {NAME_CHARS_MAX} characters")
    if not 1 <= policy.retention_days <= DAYS_MAX:
        raise InvalidRequest(f"'retention_days' must be from 1 to {DAYS_MAX}")
    if not 0 <= policy.buffer_days < policy.retention_days:
        raise InvalidRequest("'buffer_days' must be at least 0 and less than 'retention_days'")
    return policy


def body_of(policy: RetentionPolicy) -> str:
    """As it is kept."""
    kept = asdict(policy)
    del kept["updated_us"]  # The catalog has it.
    return json.dumps(kept, sort_keys=True)


def read_policy(policy: Policy) -> RetentionPolicy:
    """The other way round."""
    known = {field.name for field in fields(RetentionPolicy)}
    facts = {key: value for key, value in json.loads(policy.body).items() if key in known}
    return RetentionPolicy(**facts, updated_us=policy.updated_us)


def policies(catalog: Catalog) -> list[RetentionPolicy]:
    """All of them, oldest first."""
    found = [read_policy(policy) for (kind, _), policy in catalog.policies.items() if kind == KIND]
    return sorted(found, key=lambda policy: policy.id)


def find(catalog: Catalog, policy_id: int) -> RetentionPolicy | None:
    """The policy of this id."""
    kept = catalog.policies.get((KIND, str(policy_id)))
    return read_policy(kept) if kept is not None else None


def require(catalog: Catalog, policy_id: int) -> RetentionPolicy:
    """The same. Raises NotFound."""
    found = find(catalog, policy_id)
    if found is None:
        raise NotFound(f"retention policy {policy_id} not found")
    return found


def runs(catalog: Catalog, policy_id: int) -> list[Run]:
    """Its executions, newest first."""
    kept = catalog.policies.get((RUNS_KIND, str(policy_id)))
    return [Run(**each) for each in json.loads(kept.body)] if kept is not None else []


def body_of_runs(before: Sequence[Run], run: Run) -> str:
    """The history with one more; the oldest are forgotten."""
    numbered = replace(run, id=max((each.id for each in before), default=0) + 1)
    return json.dumps([asdict(each) for each in (numbered, *before)][:RUNS_KEPT])


def expired(catalog: Catalog, policy: RetentionPolicy, now_us: int) -> list[FileEntry]:
    """Files whose newest row is too old, oldest first."""
    database = catalog.databases.get(policy.database)
    if database is None:
        return []
    names = sorted(database.measurements) if policy.measurement is None else [policy.measurement]
    cutoff = policy.cutoff_us(now_us)
    found = [
        file
        for name in names
        for file in catalog.files_between(policy.database, name, None, cutoff - 1)
        if file.max_time_us < cutoff
    ]
    return sorted(found, key=lambda file: (file.max_time_us, file.path))


def due(catalog: Catalog, now_us: int, every_us: int) -> list[RetentionPolicy]:
    """Active policies that have not been executed for ``every_us``; a failed attempt counts as one. So does none of a
    time that is still to come: that clock was ahead, and the schedule does not stand still until it is caught up with.
    """
    found = []
    for policy in policies(catalog):
        last = runs(catalog, policy.id)
        if policy.is_active and not (last and last[0].at_us <= now_us < last[0].at_us + every_us):
            found.append(policy)
    return found
