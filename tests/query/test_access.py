"""What a caller may not read is not there for him, in whatever way he asks; the real state machine and engine."""

from __future__ import annotations

import pyarrow as pa
import pytest

from arc.api.principal import EVERYBODY, Principal
from arc.catalog.commands import (
    Command,
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    CreateToken,
    DeclareColumns,
    DropAccess,
    JoinTeam,
    LeaveTeam,
    RevokeToken,
    UpdateToken,
)
from arc.catalog.fsm import ClusterFSM
from arc.catalog.values import ColumnSchema
from arc.errors import Forbidden, InvalidRequest
from arc.query.engine import Engine
from arc.query.service import QueryService
from arc.query.snapshot import SnapshotTaker
from tests.query.conftest import Store, make_service

TABLES = (("plant", "cpu"), ("plant", "secret"), ("lab", "cpu"), ("vault", "keys"))
AGENT, LEFT, OWN = 1, 2, 3
FACTS: tuple[Command, ...] = (
    *(
        DeclareColumns(database=database, measurement=name, columns=(ColumnSchema("n", "integer"),), created_us=0)
        for database, name in TABLES
    ),
    CreateToken(name="agent", hash="h1", created_us=0),
    CreateToken(name="left", hash="h2", created_us=0),
    CreateToken(name="own", hash="h3", permissions=("read",), created_us=0),
    CreateOrganization(name="acme", created_us=0),
    CreateTeam(organization=1, name="ops", created_us=0),
    CreateTeam(organization=1, name="none", created_us=0),
    CreateRole(team=2, database_pattern="plant", permissions=("read", "write"), created_us=0),
    CreateRule(role=4, measurement_pattern="cpu", permissions=("read",), created_us=0),
    CreateRole(team=2, database_pattern="lab*", permissions=("read",), created_us=0),
    CreateRole(team=2, database_pattern="vault", permissions=("write",), created_us=0),
    JoinTeam(token=AGENT, team=2, at_us=0),
    JoinTeam(token=LEFT, team=3, at_us=0),
)


def knowing(*facts: Command) -> ClusterFSM:
    fsm = ClusterFSM()
    for fact in facts:
        fsm.apply(fsm.catalog.index + 1, fact).result.unwrap()
    return fsm


def caller(number: int) -> Principal:
    catalog = knowing(*FACTS).catalog
    return Principal.of(catalog.tokens[number], catalog)


LIMITED, NOTHING = caller(AGENT), caller(LEFT)


@pytest.fixture
def guarded(store: Store, engine: Engine) -> QueryService:
    fsm = knowing(*FACTS)
    found = {}
    for number, (database, measurement) in enumerate(TABLES):
        store.measurement(database, measurement, n="integer")
        found[database, measurement] = store.batch(database, measurement, [number], n=[number])

    def buffered(database: str, measurement: str, after: int) -> tuple[pa.RecordBatch, ...]:
        return (found[database, measurement],)

    store.take = SnapshotTaker(lambda: fsm.catalog, buffered, store.pins)  # type: ignore[method-assign]
    return make_service(store, engine)


async def asked(service: QueryService, sql: str, caller: Principal | None, database: str = "plant") -> list[object]:
    async with service.open(sql, database=database, principal=caller) as answer:
        found: list[object] = []
        async for batch in answer.batches():
            found += [tuple(row.values()) for row in batch.to_pylist()]
        return found


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT n FROM cpu", [(0,)]),
        ("SELECT count(*) FROM plant.cpu", [(1,)]),
        ("SELECT n FROM lab.cpu UNION ALL SELECT n FROM CPU ORDER BY n", [(0,), (2,)]),
        ("SHOW DATABASES", [("lab",), ("plant",)]),
        ("SHOW COLUMNS FROM cpu", None),
        ("WITH secret AS (SELECT n FROM cpu) SELECT n FROM secret", [(0,)]),
    ],
)
async def test_what_is_granted_is_read(guarded: QueryService, sql: str, expected: list[object] | None) -> None:
    found = await asked(guarded, sql, LIMITED)
    assert found and expected in (None, found)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT n FROM secret",
        "SELECT n FROM plant.secret",
        'SELECT n FROM "plant"."secret"',
        "SELECT n FROM Plant.Secret",
        "SELECT c.n FROM cpu c JOIN plant.secret s ON c.n = s.n",
        "SELECT c.n FROM cpu c, secret s",
        "SELECT n FROM cpu WHERE n IN (SELECT n FROM secret)",
        "SELECT (SELECT max(n) FROM secret) FROM cpu",
        "SELECT n FROM cpu UNION ALL SELECT n FROM secret",
        "WITH x AS (SELECT n FROM secret) SELECT * FROM x",
        "SELECT count(*) FROM secret",
        "EXPLAIN SELECT n FROM secret",
        "EXPLAIN ANALYZE SELECT n FROM secret",
        "DESCRIBE secret",
        "DESCRIBE SELECT * FROM secret",
        "SHOW COLUMNS FROM plant.secret",
        "SELECT n FROM vault.keys",
        "SHOW TABLES FROM vault",
        "FROM secret",
        "SELECT n FROM nowhere",
        "SELECT n FROM nowhere.cpu",
        "SHOW TABLES FROM nowhere",
    ],
)
async def test_what_is_not_granted_is_refused_whether_it_is_there_or_not(guarded: QueryService, sql: str) -> None:
    """A refusal must not tell which of the two it is, or names could be guessed."""
    with pytest.raises(Forbidden, match="Permission denied: read required"):
        await asked(guarded, sql, LIMITED)
    with pytest.raises(Forbidden):
        await guarded.estimate(sql, database="plant", principal=LIMITED)


async def test_lists_and_suggestions_name_only_what_may_be_read(guarded: QueryService) -> None:
    assert [row[1] for row in await asked(guarded, "SHOW TABLES", LIMITED)] == ["cpu"]  # type: ignore[index]
    assert [row[1] for row in await asked(guarded, "SHOW TABLES", EVERYBODY)] == ["cpu", "secret"]  # type: ignore[index]
    assert await asked(guarded, "SHOW TABLES", LIMITED, "vault") == []
    for name in ("keyz", "keys", "secre"):
        with pytest.raises(InvalidRequest) as refused:
            await asked(guarded, f"SELECT n FROM lab.{name}", LIMITED)
        assert not {"secret", "keys'", "vault"} & {*refused.value.message.replace(".", " ").split()}, refused.value
    with pytest.raises(InvalidRequest, match="did you mean 'cpu'"):
        await asked(guarded, "SELECT n FROM lab.cpuu", LIMITED)


async def test_a_member_whose_teams_grant_nothing_reads_nothing(guarded: QueryService) -> None:
    assert await asked(guarded, "SHOW DATABASES", NOTHING) == []
    assert await asked(guarded, "SELECT 1", NOTHING) == [(1,)]
    with pytest.raises(Forbidden):
        await asked(guarded, "SELECT n FROM cpu", NOTHING)


async def test_who_is_in_no_team_is_answered_as_ever(guarded: QueryService) -> None:
    for who in (None, EVERYBODY, caller(OWN)):
        assert await asked(guarded, "SELECT n FROM vault.keys", who) == [(3,)]
        with pytest.raises(InvalidRequest, match="there is no database 'nowhere'"):
            await asked(guarded, "SELECT n FROM nowhere.cpu", who)


@pytest.mark.parametrize(
    "taken", [RevokeToken(id=AGENT), LeaveTeam(token=AGENT, team=2), DropAccess(kind="role", id=4)]
)
async def test_a_right_that_is_taken_away_while_a_query_is_planned_shows_nothing(
    store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch, taken: Command
) -> None:
    """The rows come from a later version of the catalog than the names; the rights must be those of the rows."""
    fsm = knowing(*FACTS, UpdateToken(id=AGENT, permissions=()))
    store.measurement("plant", "cpu", n="integer")
    batch = store.batch("plant", "cpu", [0], n=[1])
    store.take = SnapshotTaker(lambda: fsm.catalog, lambda *_: (batch,), store.pins)  # type: ignore[method-assign]
    service = make_service(store, engine)
    assert await asked(service, "SELECT n FROM cpu", LIMITED) == [(1,)]
    parse = engine.parse

    def slow_parse(sql: str) -> object:
        fsm.apply(fsm.catalog.index + 1, taken).result.unwrap()
        return parse(sql)

    monkeypatch.setattr(engine, "parse", slow_parse)
    with pytest.raises(Forbidden):
        await asked(service, "SELECT n FROM cpu", LIMITED)
    assert store.pins.held == {}
