"""``arc``: one program, one subcommand per file, one place where errors become exit codes.

Subcommand modules import only what their signatures need; engines, HTTP and columns are imported when they run, so
that ``arc --help`` stays immediate.
"""

from __future__ import annotations

import os
import sys

import typer
from typer.core import TyperGroup

from arc.cli import (
    audit,
    backup,
    cluster,
    compaction,
    continuous,
    database,
    delete,
    demo,
    doctor,
    drill,
    export,
    import_files,
    query,
    raft,
    retention,
    serve,
    sim,
    sql,
    team,
    token,
    version,
    wal,
    write,
)
from arc.cli.asking_nodes import give_ca_file
from arc.cli.exits import ERROR, TABLE, explain
from arc.cli.options import screen_of

ORDER = (
    "serve",
    "demo",
    "write",
    "import",
    "query",
    "sql",
    "export",
    "database",
    "delete",
    "retention",
    "continuous",
    "token",
    "team",
    "audit",
    "backup",
    "doctor",
    "wal",
    "cluster",
    "compaction",
    "drill",
    "raft",
    "sim",
    "version",
)
EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in TABLE) + "."


class Commands(TyperGroup):
    """Runs a command; what it raises becomes a message and an exit code here and nowhere else."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """In the order of ORDER: what starts a node, its use, its care."""
        return [name for name in ORDER if name in self.commands]

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer hides the context's own class
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise  # usage errors and a reader that left are typer's to tell
        except (Exception, KeyboardInterrupt) as error:
            failure = explain(error)
            screen_of(ctx).fail(failure)
            raise typer.Exit(failure.exit_code) from None


def build_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        cls=Commands,
        name="arc",
        help="Arc, a time-series database: line protocol, MessagePack and Arrow in, SQL out.",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("serve")(serve.serve)
    app.command("write")(write.write)
    app.command("query")(query.query)
    app.add_typer(import_files.app, name="import")
    app.command("sql")(sql.sql)
    app.add_typer(export.app, name="export")
    app.add_typer(database.app, name="database")
    app.command("delete")(delete.delete)
    app.add_typer(retention.app, name="retention")
    app.add_typer(continuous.app, name="continuous")
    app.add_typer(token.app, name="token")
    app.add_typer(team.app, name="team")
    app.command("audit")(audit.audit)
    app.add_typer(backup.app, name="backup")
    app.add_typer(wal.app, name="wal")
    app.add_typer(cluster.app, name="cluster")
    app.add_typer(compaction.app, name="compaction")
    app.add_typer(drill.app, name="drill")
    app.add_typer(raft.app, name="raft")
    app.add_typer(sim.app, name="sim")
    app.command("doctor")(doctor.doctor)
    app.command("version")(version.version)
    app.command("demo")(demo.demo)
    give_ca_file(app)
    return app


def main() -> int:
    """Run ``sys.argv``; the exit code. See `arc.cli.exits` for what it means."""
    code = _run()
    if "duckdb" in sys.modules:
        # A node ran here and is over. Its idle worker threads are not: taking the interpreter apart under them serves
        # nobody, and DuckDB's binding would end the last words with pages about objects that it did not free.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run() -> int:
    try:
        build_app()(prog_name="arc")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ERROR
    except BrokenPipeError:  # the reader of our output left, as in `arc query … | head`
        sys.stdout = sys.__stderr__
        return ERROR
    raise AssertionError("typer always exits")
