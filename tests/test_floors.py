"""The house stands as ARCHITECTURE.md draws it; and the checker that says so can fail."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests import floors
from tests.floors import Module, parse

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def house() -> Mapping[str, Module]:
    modules = floors.read_tree(ROOT, ["arc", "simulations"])
    assert len(modules) > 10, "the tree was not found"
    return modules


@pytest.fixture(scope="module")
def declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *optional["fast"], *optional["iceberg"]]
    return [re.split(r"[\[<>=~! ]", line)[0] for line in lines]


@pytest.mark.parametrize(
    "rule",
    [
        floors.floor_findings,
        floors.raft_order_findings,
        floors.circle_findings,
        floors.purity_findings,
        floors.port_findings,
        floors.docstring_findings,
        floors.length_findings,
    ],
    ids=lambda rule: rule.__name__.removesuffix("_findings"),
)
def test_house_keeps_rule(rule: Callable[[Mapping[str, Module]], list[str]], house: Mapping[str, Module]) -> None:
    findings = rule(house)
    assert not findings, f"{rule.__doc__}\n" + "\n".join(findings)


def test_house_declares_what_it_imports(house: Mapping[str, Module], declared: list[str]) -> None:
    findings = floors.dependency_findings(house, declared)
    assert not findings, "\n".join(findings)


def test_every_named_room_of_the_tree_has_a_floor() -> None:
    """A new folder below arc/ is a decision; it may not slip in without a floor."""
    folders = {f"arc.{path.name}" for path in (ROOT / "arc").iterdir() if (path / "__init__.py").exists()}
    assert folders <= floors.FLOORS.keys()


GOOD = {
    "arc": '"""a"""',
    "arc.errors": '"""a"""',
    "arc.ports": '"""a"""\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import trio\n',
    "arc.catalog": '"""a"""',
    "arc.catalog.fsm": '"""a"""\nfrom arc.errors import ArcError\nfrom arc import __version__\n',
    "arc.ingest.columns": '"""a"""',
    "arc.ingest.intake": '"""a"""\nimport trio\nfrom arc.ingest.columns import X\nfrom arc.catalog.fsm import Y\n',
    "arc.query.service": '"""a"""\nimport trio\nfrom datetime import datetime\nfrom pathlib import PurePosixPath\n',
    "arc.cli.sim": '"""a"""\nimport os\ndef main():\n    from simulations import runner\n',
    "simulations.runner": '"""a"""',
    "arc.journal.frames": '"""a"""\nimport google_crc32c\nfrom arc.errors import Corrupt\n',
    "arc.raft.core": '"""a"""\nfrom arc.raft.election import elect\n',
    "arc.raft.election": '"""a"""',
}

RULES: Mapping[str, Callable[[Mapping[str, Module]], list[str]]] = {
    "floor": floors.floor_findings,
    "raft": floors.raft_order_findings,
    "circle": floors.circle_findings,
    "pure": floors.purity_findings,
    "port": floors.port_findings,
    "docstring": floors.docstring_findings,
    "length": floors.length_findings,
    "declared": lambda modules: floors.dependency_findings(modules, ["trio", "google-crc32c"]),
}


@pytest.mark.parametrize("rule", RULES)
def test_checker_finds_nothing_in_a_good_tree(rule: str) -> None:
    assert RULES[rule](parse(GOOD)) == []


@pytest.mark.parametrize(
    ("rule", "module", "line", "told"),
    [
        ("floor", "arc.ingest.intake", "from arc.query.service import Q", "the same floor as arc.query"),
        ("floor", "arc.ingest.intake", "from arc.query import service", "the same floor as arc.query"),
        ("floor", "arc.ingest.intake", "import arc.query.service", "the same floor as arc.query"),
        ("floor", "arc.ingest.intake", "from ..query import service", "the same floor as arc.query"),
        ("floor", "arc.catalog.fsm", "from arc.ingest.columns import K", "below arc.ingest"),
        ("floor", "arc.catalog.fsm", "def f():\n    import arc.ingest", "below arc.ingest"),
        ("floor", "arc.catalog.fsm", "if TYPE_CHECKING:\n    import arc.ingest", "below arc.ingest"),
        ("floor", "arc.errors", "import arc.journal", "the same floor as arc.journal"),
        ("floor", "arc.query.service", "import simulations.runner", "below simulations"),
        ("floor", "arc.cli.sim", "import simulations.runner", "below simulations"),
        ("floor", "arc.surprise", "x = 1", "has no floor"),
        ("raft", "arc.raft.election", "import arc.raft.core", "comes later in raft's order"),
        ("circle", "arc.ingest.columns", "import arc.ingest.intake", "arc.ingest.columns -> arc.ingest.intake"),
        ("circle", "arc.errors", "def f():\n    import arc.catalog.fsm", "import circle"),
        ("pure", "arc.catalog.fsm", "import trio", "arc.catalog.fsm -> trio"),
        ("pure", "arc.catalog.fsm", "from arc.system import Clock", "arc.catalog.fsm -> arc.system -> trio.lowlevel"),
        ("port", "arc.query.service", "import os.path", "imports os.path"),
        ("port", "arc.query.service", "from time import monotonic", "imports time"),
        ("port", "arc.query.service", "import pathlib", "imports pathlib"),
        ("port", "arc.query.service", "from pathlib import Path", "imports pathlib"),
        ("port", "arc.query.service", "def f():\n    import random", "imports random"),
        ("port", "arc.query.service", "x = open('f')", "calls open"),
        ("port", "arc.query.service", "x = datetime.now(UTC)", "calls datetime.now"),
        ("port", "arc.query.service", "x = await trio.to_thread.run_sync(f)", "calls trio.to_thread.run_sync"),
        ("docstring", "arc.surprise", "x = 1", "has no docstring"),
        ("length", "arc.ingest.columns", "x = 1\n" * 500, "501 lines"),
        ("declared", "arc.query.service", "import polars", "polars"),
        ("declared", "arc.errors", "import trio", "floor 0 needs nothing installed"),
    ],
)
def test_checker_finds_what_is_broken(rule: str, module: str, line: str, told: str) -> None:
    """Each rule is broken once, alone, in an otherwise good tree."""
    system = {"arc.system": '"""a"""\nimport os, trio.lowlevel\n'}
    broken = {**GOOD, **system, module: GOOD.get(module, "") + "\n" + line}
    findings = RULES[rule](parse(broken))
    assert any(told in finding for finding in findings), findings
    assert all(finding.partition(":")[0] for finding in findings)
