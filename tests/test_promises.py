"""Every test and property that docs/promises.md names exists: a renamed one may not leave a promise without proof."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROPERTY = re.compile(r"\b[CDILTVW]-\d\d\b")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_promise_names_tests_that_exist() -> None:
    page = (ROOT / "docs/promises.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| P-")]
    missing = []
    for row in rows:
        named = NAMED.findall(row)
        if not named:
            missing.append(f"{row[:40]} names no test")
        for path, name in named:
            defined = {
                node.name
                for node in ast.walk(ast.parse((ROOT / path).read_text()))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            if name not in defined:
                missing.append(f"{path} has no {name}")
    assert rows and not missing, "\n".join(missing)


def test_every_property_that_a_promise_names_is_checked_by_the_simulator() -> None:
    page = (ROOT / "docs/promises.md").read_text()
    named = {name for row in page.splitlines() if row.startswith("| P-") for name in PROPERTY.findall(row)}
    checked = {name for path in (ROOT / "simulations").rglob("*.py") for name in PROPERTY.findall(path.read_text())}
    assert named and named <= checked, named - checked
