"""``arc version``: what exactly is running here, for bug reports."""

from __future__ import annotations

import importlib.metadata
import platform

import typer

from arc.cli.options import Json, screen_of

PARTS = ("trio", "pyarrow", "duckdb", "numba")
"""What decides about answers and speed. Read from package metadata: importing them would take a second."""


def versions() -> dict[str, str | None]:
    """Name → version; None for what is not installed."""
    from arc import __version__

    found: dict[str, str | None] = {"arc": __version__, "python": platform.python_version()}
    for name in PARTS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def version(context: typer.Context, json: Json = False) -> None:
    """Print the versions of Arc and of what it stands on."""
    screen = screen_of(context)
    found = versions()
    if screen.json:
        screen.document(found)
        return
    for name, number in found.items():
        screen.line(f"{name:8} {number or 'not installed'}")
    screen.line(f"{'system':8} {platform.system()} {platform.release()} {platform.machine()}")
