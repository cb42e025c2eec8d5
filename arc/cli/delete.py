"""``arc delete``: rows by a condition, counted before anybody is asked whether they may go.

Any node may be asked; the one that writes carries it out.
"""

from __future__ import annotations

from typing import Annotated

import typer

from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, Yes, screen_of
from arc.cli.resources import agree, ask, tell
from arc.cli.screen import counted


def delete(
    context: typer.Context,
    database: Annotated[str, typer.Option("--db", "-d", help="Database.", metavar="NAME")],
    measurement: Annotated[str, typer.Option("--measurement", "-m", help="Measurement.", metavar="NAME")],
    where: Annotated[str, typer.Option("--where", help="Rows for which this is TRUE, as in SQL.", metavar="SQL")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Yes = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Count the rows for which a condition is TRUE, ask, delete them for good.

    Needs `delete.enabled` and the right to delete. A condition that is NULL for a row leaves it. Time is a column:
    --where "host = 'a' AND time < TIMESTAMP '2026-01-01'".
    """
    screen = screen_of(context)
    wish: dict[str, object] = {"database": database, "measurement": measurement, "where": where}
    found = ask(endpoint, token, "POST", "/api/v1/delete", {**wish, "dry_run": True})
    told = f"{counted(found['deleted_count'], 'row')} in {counted(found['affected_files'], 'file')}"
    if dry_run or not found["deleted_count"]:
        tell(screen, found, f"{told} of {database}.{measurement} would be deleted")
        return
    if not yes:
        agree(f"Delete {told} of {database}.{measurement} for good?", effect="Nothing was deleted.")
    done = ask(endpoint, token, "POST", "/api/v1/delete", {**wish, "confirm": True})
    # Rows may have come since they were counted.
    rows, files = counted(done["deleted_count"], "row"), counted(done["affected_files"], "file")
    tell(screen, done, f"{rows} deleted from {files}")
