"""Where the configuration comes from on this machine: ``arc.toml``, the environment and the flags of the command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from arc.cli.exits import USAGE, Failure

if TYPE_CHECKING:
    from arc.config import Loaded

DEFAULT_FILE = "arc.toml"


def load_configuration(file: str | None, flags: Mapping[str, object], settings: Iterable[str]) -> Loaded:
    """Compose it. ``settings`` are texts like ``wal.segment_bytes=16MiB``. Raises InvalidRequest, Failure, OSError."""
    from arc.config import load

    return load(
        toml=_read(file),
        toml_name=file or DEFAULT_FILE,
        environment=os.environ,
        flags={**parse_settings(settings), **{name: value for name, value in flags.items() if value is not None}},
    )


def parse_settings(settings: Iterable[str]) -> dict[str, object]:
    """``["wal.segment_bytes=16MiB"]`` → ``{"wal.segment_bytes": "16MiB"}``. Raises Failure."""
    found: dict[str, object] = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or "." not in name:
            raise Failure(
                f"--set {text}: not of the form section.key=value",
                effect="Nothing was started.",
                next_step="Write it like --set server.port=9000; docs/configuration.md has every key.",
                exit_code=USAGE,
                code="invalid_configuration",
            )
        found[name.strip()] = value
    return found


def _read(file: str | None) -> str | None:
    path = Path(file or DEFAULT_FILE)
    if file is None and not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{path}: not UTF-8: {error}", exit_code=USAGE, code="invalid_configuration") from error
