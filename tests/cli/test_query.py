"""`arc query`, `arc sql` and `arc import` against a node that answers over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arc.cli import asking
from tests.cli.conftest import Run, document
from tests.cli.fake_node import Answer, FakeNode, refusal, table


def test_a_pipe_gets_tabs_and_the_count_goes_to_stderr(run: Run, node: FakeNode) -> None:
    node.script(table(["host", "v"], ["a", 1.5], [None, 2]))
    found = run("query", "SELECT 1", "--db", "demo", "--token", "t", "--endpoint", node.endpoint)
    assert found.exit_code == 0
    assert found.stdout == "host\tv\na\t1.5\n\t2\n"
    assert "(2 rows, 3 ms in the node" in found.stderr
    asked = node.asked[0]
    assert (asked.path, json.loads(asked.body)) == ("/api/v1/query", {"sql": "SELECT 1"})
    assert asked.headers["x-arc-database"] == "demo"


def test_without_a_database_no_header_forbids_other_databases(run: Run, node: FakeNode) -> None:
    node.script(table(["a"]))
    run("query", "-", "--endpoint", node.endpoint, input="SELECT 2")
    assert "x-arc-database" not in node.asked[0].headers
    assert json.loads(node.asked[0].body) == {"sql": "SELECT 2"}


def test_json_is_the_nodes_own_document(run: Run, node: FakeNode) -> None:
    node.script(table(["a"], [1]))
    found = run("query", "SELECT 1", "--json", "--endpoint", node.endpoint)
    assert document(found)["data"] == [[1]]
    assert document(run("query", "SELECT 1", "-f", "json", "--endpoint", node.endpoint)) == document(found)


@pytest.mark.parametrize(("form", "path"), [("csv", "/api/v1/query/csv"), ("arrow", "/api/v1/query/arrow")])
def test_bytes_pass_through_untouched(run: Run, node: FakeNode, form: str, path: str) -> None:
    body = bytes(range(256)) * 100
    node.script(Answer(body=body))
    found = run("query", "SELECT 1", "-f", form, "--endpoint", node.endpoint)
    assert found.stdout_bytes == body
    assert node.asked[0].path == path


def test_a_file_appears_whole_or_not_at_all(run: Run, node: FakeNode) -> None:
    node.script(Answer(body=b"a,b\n1,2\n"))
    assert run("query", "SELECT 1", "-f", "csv", "-o", "x.csv", "--endpoint", node.endpoint).exit_code == 0
    assert Path("x.csv").read_bytes() == b"a,b\n1,2\n"
    node.script(Answer(body=b"a,b\n3", cut=True))
    found = run("query", "SELECT 1", "-f", "csv", "-o", "x.csv", "--endpoint", node.endpoint)
    assert found.exit_code == 4
    assert "broke off" in found.stderr
    assert Path("x.csv").read_bytes() == b"a,b\n1,2\n"
    assert not Path("x.csv.part").exists()


@pytest.mark.parametrize("form", ["table", "json"])
def test_an_answer_that_broke_off_is_never_shown_as_a_short_one(run: Run, node: FakeNode, form: str) -> None:
    node.script(Answer(body=b'{"columns":["a"],"data":[[1]', cut=True))
    found = run("query", "SELECT 1", "-f", form, "--endpoint", node.endpoint)
    assert found.exit_code == 4
    assert '"data"' not in found.stdout


def test_a_result_too_large_to_look_at_says_how_to_get_it(
    run: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TABLE_BYTES_MAX", 50)
    node.script(table(["a"], *([n] for n in range(100))))
    found = run("query", "SELECT 1", "--endpoint", node.endpoint)
    assert found.exit_code == 1
    assert "--format csv --output FILE" in found.stderr


@pytest.mark.parametrize(
    ("status", "text", "code", "step"),
    [
        (400, "syntax error", 1, ""),
        (401, "no token", 1, "ARC_TOKEN"),
        (403, "needs read", 1, "permission"),
        (404, "Cannot POST /api/v1/query", 1, "Is it Arc"),
        (503, "busy", 4, "later"),
        (504, "Query timed out", 4, "later"),
    ],
)
def test_refusals_say_what_to_do(run: Run, node: FakeNode, status: int, text: str, code: int, step: str) -> None:
    node.script(refusal(status, text, "c"))
    found = run("query", "SELECT 1", "--endpoint", node.endpoint)
    assert found.exit_code == code
    assert step in found.stderr


def test_something_else_that_listens_is_no_traceback(run: Run, node: FakeNode) -> None:
    node.script(Answer(status=502, body=b"<html>Bad gateway</html>"))
    found = run("query", "SELECT 1", "--endpoint", node.endpoint)
    assert found.exit_code == 1
    assert "<html>Bad gateway</html>" in found.stderr


SHELL = {
    "SHOW DATABASES": table(["database"], ["demo"]),
    "SHOW TABLES": table(["database", "table_name"], ["demo", "cpu"]),
    "DESCRIBE cpu": table(["column_name"], ["time"]),
    "select 1": table(["1"], [1]),
    "select ';'": table(["text"], [";"]),
}


def test_the_shell_runs_a_script_of_statements_and_commands(run: Run, node: FakeNode) -> None:
    node.by_sql(SHELL)
    script = "\\timing\n\\l\n\\use demo\n\\d cpu\nselect 1; select ';'"
    found = run("sql", "--endpoint", node.endpoint, input=script)
    assert found.exit_code == 0
    assert found.stdout == "database\ndemo\ncolumn_name\ntime\n1\n1\ntext\n;\n"
    assert found.stderr == "timing is off\n"
    databases = [asked.headers.get("x-arc-database") for asked in node.asked]
    assert databases[0] is None
    assert databases[-1] == "demo"


def test_a_script_stops_at_its_first_failure(run: Run, node: FakeNode) -> None:
    node.by_sql(SHELL)
    found = run("sql", "--endpoint", node.endpoint, input="select 1; nonsense; select 1;")
    assert found.exit_code == 1
    assert found.stdout == "1\n1\n"
    assert "unexpected: nonsense" in found.stderr


def test_a_script_ends_where_it_says(run: Run, node: FakeNode) -> None:
    node.by_sql(SHELL)
    assert run("sql", "--endpoint", node.endpoint, input="\\q\nnonsense;").exit_code == 0


def test_an_unknown_command_and_database_are_told(run: Run, node: FakeNode) -> None:
    node.by_sql(SHELL)
    assert "no command \\x" in run("sql", "--endpoint", node.endpoint, input="\\x\n").stderr
    assert "no database nowhere" in run("sql", "--endpoint", node.endpoint, input="\\use nowhere\n").stderr


def test_the_shell_in_json_is_one_document(run: Run, node: FakeNode) -> None:
    node.by_sql(SHELL)
    found = document(run("sql", "--json", "--endpoint", node.endpoint, input="select 1; select ';';"))
    assert [one["data"] for one in found["results"]] == [[[1]], [[";"]]]


def imported(**result: object) -> Answer:
    return Answer(document={"status": "ok", "result": {"rows_imported": 2, "database": "demo", **result}})


def test_import_sends_each_file_as_multipart_with_its_parameters(run: Run, node: FakeNode) -> None:
    Path("a.csv").write_text("ts,v\n1,2\n")
    Path("b.csv").write_text("ts,v\n3,4\n")
    node.script(imported())
    found = run(
        "import", "csv", "a.csv", "b.csv", "--db", "demo", "-m", "cpu", "--time-column", "ts", "--time-format",
        "epoch_s", "--delimiter", ",", "--endpoint", node.endpoint, "--json",
    )  # fmt: skip
    assert found.exit_code == 0
    assert [one["result"]["rows_imported"] for one in document(found)["files"]] == [2, 2]
    asked = node.asked[1]
    assert asked.path == "/api/v1/import/csv"
    assert asked.query["measurement"] == "cpu"
    assert asked.query["time_column"] == "ts"
    assert asked.query["time_format"] == "epoch_s"
    assert asked.headers["content-type"].startswith("multipart/form-data")
    assert b'name="file"; filename="b.csv"' in asked.body
    assert b"ts,v\n3,4\n" in asked.body
    assert "content-length" in asked.headers


def test_one_refused_file_does_not_keep_the_next_one_out(run: Run, node: FakeNode) -> None:
    for name in ("a.csv", "b.csv"):
        Path(name).write_text("x")
    node.script(refusal(422, "no header", "invalid"), imported())
    found = run("import", "csv", "a.csv", "b.csv", "--db", "d", "-m", "m", "--endpoint", node.endpoint)
    assert found.exit_code == 1
    assert "a.csv: no header" in found.stderr
    assert found.stdout.startswith("b.csv: 2 rows")


def test_lines_that_an_import_refused_are_listed_and_the_others_counted(run: Run, node: FakeNode) -> None:
    Path("a.lp").write_text("m v=1\nbad")
    listed = [{"line": 2, "reason": "missing fields", "text": "bad"}]
    node.script(refusal(400, "partial write", "partial_write", written=1, refused=listed, refused_total=1))
    found = run("import", "lp", "a.lp", "--db", "d", "--endpoint", node.endpoint)
    assert found.exit_code == 1
    assert found.stdout == "a.lp: line 2: missing fields: bad\n"
    listing = document(run("import", "lp", "a.lp", "--db", "d", "--endpoint", node.endpoint, "--json"))["files"][0]
    assert listing["result"] == {"rows_imported": 1}
    assert listing["refused"] == listed


def test_a_missing_file_keeps_all_files_at_home(run: Run, node: FakeNode) -> None:
    Path("a.lp").write_text("m v=1")
    found = run("import", "lp", "a.lp", "nowhere.lp", "--db", "d", "--endpoint", node.endpoint)
    assert found.exit_code == 2
    assert node.asked == []


def test_import_parquet_and_lines(run: Run, node: FakeNode) -> None:
    Path("a.parquet").write_bytes(b"PAR1")
    Path("a.lp").write_text("m v=1")
    node.script(imported())
    run("import", "parquet", "a.parquet", "--db", "d", "-m", "m", "--endpoint", node.endpoint)
    run("import", "lp", "a.lp", "--db", "d", "--precision", "s", "--endpoint", node.endpoint)
    assert [asked.path.rpartition("/")[2] for asked in node.asked] == ["parquet", "lp"]
    assert node.asked[1].query == {"db": "d", "precision": "s"}
