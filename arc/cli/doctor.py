"""``arc doctor``: look at this machine and this configuration as a node would, before or while one runs."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.configuring import load_configuration
from arc.cli.exits import DEGRADED, ERROR, OK, Failure
from arc.cli.options import ConfigFile, DataDir, Json, Settings, screen_of
from arc.cli.screen import Screen

if TYPE_CHECKING:
    from arc.cli.checks import Check
    from arc.config import Config, Loaded

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
EXITS = {"ok": OK, "warn": DEGRADED, "fail": ERROR}
"""Verdict → exit code, from good to bad."""


def doctor(
    context: typer.Context,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    settings: Settings = None,
    show_settings: Annotated[
        bool, typer.Option("--settings", help="Also list every setting, its value and where it came from.")
    ] = False,
    json: Json = False,
) -> None:
    """Examine configuration, disk, clock, limits and a running node.

    Exit code 0: all well; 3: with warnings; 1: something would not work.
    """
    from arc.config import describe

    screen = screen_of(context)
    first, loaded = _configuration(config, data_dir, settings or [])
    found: list[Check] = []
    for check in _all(first, loaded.config):
        found.append(check)
        if not screen.json:
            _tell(screen, check)
    verdict = max((check.verdict for check in found), key=list(EXITS).index)
    rows = describe(loaded) if show_settings else []
    if screen.json:
        document: dict[str, object] = {"success": verdict != "fail", "verdict": verdict}
        document["checks"] = [asdict(check) for check in found]
        document["settings"] = [asdict(row) for row in rows]
        screen.document(document)
    elif rows:
        screen.title("settings")
        columns = ("section", "key", "value", "source")
        screen.table(columns, [(row.section, row.key, row.value, row.source) for row in rows])
    if verdict != "ok":
        raise typer.Exit(EXITS[verdict])


def _configuration(file: str | None, data_dir: str | None, settings: list[str]) -> tuple[Check, Loaded]:
    """The configuration, or what is wrong with it and the defaults, so that the other checks can still be made."""
    from arc.cli.checks import fail, ok
    from arc.config import load
    from arc.errors import InvalidRequest

    flags = {"node.data_dir": data_dir}
    try:
        loaded = load_configuration(file, flags, settings)
    except (InvalidRequest, Failure, OSError) as error:
        step = "Repair it; docs/configuration.md has every key. The checks below use the defaults."
        return fail("configuration", str(error), step), load(environment={}, flags=flags)
    places = sorted({source.partition(" line ")[0] for source in loaded.sources.values()})
    return ok("configuration", f"set: {len(loaded.sources)} ({', '.join(places) or 'all defaults'})"), loaded


def _all(first: Check, config: Config) -> Iterator[Check]:
    import psutil

    from arc.cli import checks
    from arc.cli.wal import lock_holder

    folder = Path(config.node.data_dir)
    yield first
    yield from checks.judge_contradictions(config, memory_bytes=psutil.virtual_memory().total)
    yield checks.guarded("tls", lambda: checks.check_tls(config))
    yield checks.guarded("shared store", lambda: checks.check_store(config))
    yield checks.guarded("data folder", lambda: checks.check_folder(folder))
    yield checks.guarded("disk space", lambda: checks.check_space(folder, config))
    try:
        yield from checks.measure_sync(folder)
    except OSError as error:
        yield checks.fail("disk sync", f"no durable write is possible: {error}", "A node could not start here.")
    yield checks.guarded("clock", lambda: checks.check_clock(folder))
    yield checks.judge_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1], config)
    yield checks.check_versions()
    yield checks.check_kernels()
    pid = lock_holder(str(folder)) if os.access(folder, os.X_OK) else None
    if pid is None:
        yield checks.ok("node", "none is running on the data folder")
        yield checks.guarded("port", lambda: checks.check_port(config))
    else:
        yield _running(pid, config)


def _running(pid: int, config: Config) -> Check:
    """A node has the folder: does it answer where this configuration says?"""
    from arc.cli.checks import ok, warn
    from arc.cli.connect import answer_body, open_client, reaching, trusting

    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.server.host, config.server.host)
    scheme = "https" if config.server.tls_enabled else "http"
    endpoint = f"{scheme}://{host}:{config.server.port}"
    process = f"process {pid or 'unknown'}"
    try:
        # As other nodes check it, when it has no authority of the operator's.
        authority = os.environ.get("ARC_CA_FILE", "") or config.cluster.tls_ca_file
        with trusting(authority), open_client(endpoint, "", answer_seconds=5.0) as client, reaching(endpoint):
            health, ready = client.get("/health"), client.get("/ready")
    except Failure as failure:
        step = "It may run with another configuration; give doctor the same flags and file."
        return warn("node", f"{process} holds the data folder, but {failure.cause}", step)
    version = answer_body(health).get("version", "?")
    if ready.status_code != 200:
        reason = answer_body(ready).get("reason", ready.status_code)
        return warn("node", f"{process}, version {version}, is not ready: {reason}", "Wait, or look at its log.")
    return ok("node", f"{process}, version {version}, is ready at {endpoint}")


def _tell(screen: Screen, check: Check) -> None:
    if screen.out_is_terminal:
        from rich.text import Text

        line = Text.assemble((f"{check.verdict:5}", STYLES[check.verdict]), (f"{check.name:15}", "bold"), check.finding)
        screen.console(screen.out).print(line, soft_wrap=True)
    else:
        screen.line(f"{check.verdict:5}{check.name:15}{check.finding}")
    if check.next_step:
        screen.line(f"{'':20}→ {check.next_step}")
