"""`arc delete`, `arc retention` and `arc continuous`: what is sent, what is told, and that a person is asked first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from arc.cli import resources
from tests.cli.conftest import Run, document
from tests.cli.fake_node import Answer, Asked, FakeNode, refusal

DELETE = ("delete", "--db", "plant", "-m", "cpu", "--where", "host = 'a'")
POLICY = {
    "id": 7, "name": "month", "database": "plant", "measurement": None, "retention_days": 30, "buffer_days": 1,
    "is_active": True, "last_execution_time": None, "last_execution_status": None, "last_deleted_count": None,
}  # fmt: skip
QUERY = {
    "id": 9, "name": "hourly", "database": "plant", "source_measurement": "cpu", "destination_measurement": "cpu_1h",
    "interval": "1h", "is_active": True, "last_processed_time": "2026-05-28T17:00:00.000Z", "open_windows": 2,
    "last_execution_status": "completed", "last_error": None,
}  # fmt: skip


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits there."""
    monkeypatch.setattr(resources, "is_somebody_there", lambda: True)


def body(asked: Asked) -> Any:
    return json.loads(asked.body) if asked.body else None


def deleting(node: FakeNode, rows: int = 36) -> None:
    def answer(asked: Asked) -> Answer:
        is_dry = bool(body(asked).get("dry_run"))
        return Answer(document={"deleted_count": rows, "affected_files": 2 if rows else 0, "dry_run": is_dry})

    node.answer = answer


def test_rows_are_counted_before_they_are_deleted(run: Run, node: FakeNode, person: None) -> None:
    deleting(node)
    found = run(*DELETE, "--endpoint", node.endpoint, input="y\n")
    assert found.exit_code == 0, found.stderr
    assert "Delete 36 rows in 2 files of plant.cpu for good?" in found.stderr
    assert "36 rows deleted from 2 files" in found.stdout
    wish = {"database": "plant", "measurement": "cpu", "where": "host = 'a'"}
    assert [body(each) for each in node.asked] == [{**wish, "dry_run": True}, {**wish, "confirm": True}]


@pytest.mark.parametrize("more", [("--dry-run",), ("--dry-run", "--yes")])
def test_a_dry_run_only_counts(more: tuple[str, ...], run: Run, node: FakeNode) -> None:
    deleting(node)
    found = run(*DELETE, *more, "--endpoint", node.endpoint)
    assert "36 rows in 2 files of plant.cpu would be deleted" in found.stdout
    assert len(node.asked) == 1
    assert document(run(*DELETE, *more, "--json", "--endpoint", node.endpoint))["dry_run"] is True


def test_nothing_is_deleted_unless_somebody_agreed(run: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    deleting(node)
    found = run(*DELETE, "--endpoint", node.endpoint)
    assert found.exit_code == 2 and "nobody is there to be asked" in found.stderr
    monkeypatch.setattr(resources, "is_somebody_there", lambda: True)
    found = run(*DELETE, "--endpoint", node.endpoint, input="n\n")
    assert found.exit_code == 2 and "Nothing was deleted." in found.stderr
    assert all(body(each)["dry_run"] for each in node.asked)


def test_where_nothing_matches_nobody_is_asked(run: Run, node: FakeNode) -> None:
    deleting(node, rows=0)
    found = run(*DELETE, "--endpoint", node.endpoint)
    assert found.exit_code == 0 and "0 rows in 0 files" in found.stdout and len(node.asked) == 1


def test_a_refused_delete_says_why(run: Run, node: FakeNode) -> None:
    node.script(refusal(403, "delete is not enabled", "delete_disabled"))
    found = run(*DELETE, "--yes", "--endpoint", node.endpoint)
    assert found.exit_code != 0 and "delete is not enabled" in found.stderr


def keeping(node: FakeNode) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/execute"):
            is_dry = bool(body(asked).get("dry_run"))
            done = {"deleted_count": 500, "files_deleted": 3, "dry_run": is_dry, "cutoff_date": "2026-05-01T00:00:00Z"}
            return Answer(document=done)
        if asked.path.endswith("/executions"):
            run = {
                "execution_time": "2026-05-28T17:00:00Z", "status": "completed", "deleted_count": 500,
                "cutoff_date": "2026-05-01T00:00:00Z", "execution_duration_ms": 3.5, "error_message": None,
            }  # fmt: skip
            return Answer(document={"policy_id": 7, "executions": [run]})
        if asked.method == "POST":
            return Answer(status=201, document={**POLICY, **body(asked)})
        if asked.method == "DELETE":
            return Answer(document={"success": True, "message": "retention policy deleted"})
        return Answer(document={"policies": [POLICY], "count": 1})

    node.answer = answer


def test_policies_are_listed_made_and_forgotten(run: Run, node: FakeNode) -> None:
    keeping(node)
    assert "month\tplant\t\t30\t1" in run("retention", "list", "--endpoint", node.endpoint).stdout
    made = run("retention", "add", "month", "-d", "plant", "--days", "30", "-m", "cpu", "--endpoint", node.endpoint)
    assert "plant.cpu is kept for 30 days" in made.stdout
    assert body(node.asked[-1]) == {
        "name": "month", "database": "plant", "measurement": "cpu", "retention_days": 30, "buffer_days": 0,
    }  # fmt: skip
    for name in ("month", "7"):
        assert run("retention", "remove", name, "--endpoint", node.endpoint).exit_code == 0
        assert (node.asked[-1].method, node.asked[-1].path) == ("DELETE", "/api/v1/retention/7")
    found = run("retention", "remove", "year", "--endpoint", node.endpoint)
    assert found.exit_code == 1 and "there is no retention policy 'year'" in found.stderr


def test_a_policy_is_carried_out_after_somebody_agreed(run: Run, node: FakeNode, person: None) -> None:
    keeping(node)
    looked = run("retention", "run", "month", "--dry-run", "--endpoint", node.endpoint)
    assert "500 rows in 3 files from before 2026-05-01T00:00:00Z would go" in looked.stdout
    refused = run("retention", "run", "month", "--endpoint", node.endpoint, input="n\n")
    assert refused.exit_code == 2
    assert [body(each) for each in node.asked if each.body] == [{"dry_run": True}] * 2
    done = run("retention", "run", "month", "--endpoint", node.endpoint, input="y\n")
    assert "500 rows gone, 3 files" in done.stdout and body(node.asked[-1]) == {"confirm": True}
    assert (
        document(run("retention", "run", "month", "--yes", "--json", "--endpoint", node.endpoint))["dry_run"] is False
    )
    assert "completed\t500" in run("retention", "history", "month", "--endpoint", node.endpoint).stdout


def summing(node: FakeNode) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/execute"):
            done = {
                "windows": 3, "records_written": 12, "dry_run": bool(body(asked)["dry_run"]),
                "start_time": "2026-05-28T14:00:00Z", "end_time": "2026-05-28T17:00:00Z",
            }  # fmt: skip
            return Answer(document=done)
        if asked.path.endswith("/executions"):
            run = {
                "execution_time": "2026-05-28T17:00:00Z", "cause": "late", "status": "completed", "error_message": None,
                "start_time": "a", "end_time": "b", "records_read": 60, "records_written": 4,
                "execution_duration_seconds": 0.1,
            }  # fmt: skip
            return Answer(document={"query_id": 9, "executions": [run]})
        if asked.method == "GET":
            return Answer(document={"queries": [QUERY], "count": 1})
        return Answer(document={"success": True, "message": "done"})

    node.answer = answer


def test_continuous_queries_are_listed_made_and_forgotten(run: Run, node: FakeNode) -> None:
    summing(node)
    assert "hourly\tplant\tcpu\tcpu_1h\t1h" in run("continuous", "list", "--endpoint", node.endpoint).stdout
    sql = "SELECT host, avg(v) AS v FROM plant.cpu WHERE time >= {start_time} AND time < {end_time} GROUP BY host"
    made = run(
        "continuous", "add", "hourly", "--db", "plant", "--from", "cpu", "--into", "cpu_1h", "--every", "1h",
        "--sql", sql, "--tags", "host,rack", "--endpoint", node.endpoint,
    )  # fmt: skip
    assert made.exit_code == 0 and "plant.cpu is summed up into cpu_1h, 1h" in made.stdout
    assert body(node.asked[-1]) == {
        "name": "hourly", "database": "plant", "source_measurement": "cpu", "destination_measurement": "cpu_1h",
        "interval": "1h", "query": sql, "tag_columns": ["host", "rack"],
    }  # fmt: skip
    for order, method, sent in (
        ("pause", "PUT", {"is_active": False}),
        ("resume", "PUT", {"is_active": True}),
        ("remove", "DELETE", None),
    ):
        assert run("continuous", order, "hourly", "--endpoint", node.endpoint).exit_code == 0
        asked = node.asked[-1]
        assert (asked.method, asked.path, body(asked)) == (method, "/api/v1/continuous_queries/9", sent)


def test_windows_are_executed_by_order(run: Run, node: FakeNode) -> None:
    summing(node)
    reach = ("--start", "2026-05-28T14:00:00Z", "--end", "2026-05-28T17:00:00Z")
    looked = run("continuous", "run", "hourly", *reach, "--dry-run", "--endpoint", node.endpoint)
    assert "3 windows from 2026-05-28T14:00:00Z to 2026-05-28T17:00:00Z: 12 rows would be written" in looked.stdout
    done = run("continuous", "run", "hourly", "--endpoint", node.endpoint)
    assert "12 rows written" in done.stdout and body(node.asked[-1]) == {"dry_run": False}
    assert "late\tcompleted" in run("continuous", "history", "9", "--endpoint", node.endpoint).stdout
