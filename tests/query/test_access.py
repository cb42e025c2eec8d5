"""What a caller may not read is not there for him, in whatever way he asks; the real state machine and engine."""

from __future__ import annotations

import pyarrow as pa
import pytest

from arc.api.principal import EVERYBODY, Principal
from arc.catalog.commands import Command, DeclareColumns
from arc.catalog.fsm import ClusterFSM
from arc.catalog.teams import MeasurementRule, Role
from arc.catalog.values import ColumnSchema
from arc.errors import Forbidden, InvalidRequest
from arc.query.engine import Engine
from arc.query.service import QueryService
from arc.query.snapshot import SnapshotTaker
from tests.query.conftest import Store, make_service

TABLES = (("plant", "cpu"), ("plant", "secret"), ("lab", "cpu"), ("vault", "keys"))
RULES = (MeasurementRule(id=2, measurement_pattern="cpu", permissions=("read",), created_us=1),)
GRANTS = (
    Role(id=1, database_pattern="plant", permissions=("read", "write"), created_us=1, rules=RULES),
    Role(id=3, database_pattern="lab*", permissions=("read",), created_us=1),
    Role(id=4, database_pattern="vault", permissions=("write",), created_us=1),
)
LIMITED = Principal(token_id=1, name="agent", permissions=frozenset({"read", "write"}), grants=GRANTS)
NOTHING = Principal(token_id=2, name="left", permissions=frozenset({"read"}), grants=())


@pytest.fixture
def guarded(store: Store, engine: Engine) -> QueryService:
    fsm = ClusterFSM()
    found = {}
    for number, (database, measurement) in enumerate(TABLES):
        column = ColumnSchema("n", "integer")
        command: Command = DeclareColumns(database=database, measurement=measurement, columns=(column,), created_us=0)
        fsm.apply(fsm.catalog.index + 1, command).result.unwrap()
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
    for caller in (None, EVERYBODY, Principal(token_id=3, name="own", permissions=frozenset({"read"}))):
        assert await asked(guarded, "SELECT n FROM vault.keys", caller) == [(3,)]
        with pytest.raises(InvalidRequest, match="there is no database 'nowhere'"):
            await asked(guarded, "SELECT n FROM nowhere.cpu", caller)
