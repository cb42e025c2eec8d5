"""A runner for the command line in this process, and a fake node for it to talk to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from arc.cli.main import build_app
from tests.cli import fake_node

Run = Callable[..., Result]


@pytest.fixture
def node() -> Iterator[fake_node.FakeNode]:
    with fake_node.running() as found:
        yield found


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Run:
    """``run("query", "SELECT 1", input=…)``; no ``ARC_*`` variable, file or folder of the machine gets in."""
    for name in ("ARC_CA_FILE", "ARC_ENDPOINT", "ARC_TOKEN", "ARC_AUTH_BOOTSTRAP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    app = build_app()

    def go(*arguments: str, input: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=input, catch_exceptions=False)

    return go


def document(result: Result) -> Any:
    """The one JSON document on stdout; that there is just one is part of the promise."""
    return json.loads(result.stdout)
