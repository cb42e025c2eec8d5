"""Nodes for the end-to-end tests: one shared by all that do not hurt it, and as many of one's own as a test likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import breaking
from tests.e2e.harness import Server

MakeServer = Callable[..., Server]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node with default settings, but that rows can be deleted; a test uses databases of its own in it."""
    with Server(tmp_path_factory.mktemp("node"), settings={"delete.enabled": "true"}) as server:
        yield server
        server.terminate()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    """Make nodes that end with the test; ``make_server(settings={"ingest.flush_rows": 100})`` is not started yet."""
    made: list[Server] = []

    def make(**options: object) -> Server:
        server = Server(tmp_path / f"node{len(made)}", **options)  # type: ignore[arg-type]  # handed through
        made.append(server)
        return server

    yield make
    for server in made:
        server.kill9()
        server.http.close()


@pytest.fixture(scope="session")
def broken_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that breaks the disk on demand; skipped where nothing can compile it."""
    try:
        return breaking.build(tmp_path_factory.mktemp("shim"))
    except breaking.NotBuilt as error:
        pytest.skip(str(error))
