"""The page of a run: everything is on it, nothing comes from elsewhere, and markup in values stays text."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise

from simulations.page import FLIGHTS_MAX, page
from simulations.painting import paint
from simulations.plan import Plan
from simulations.runner import Outcome, run
from simulations.scenarios import BY_NAME


class Outline(HTMLParser):
    """What is in a page: how often each (tag, class), and whether tags are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: dict[tuple[str, str], int] = {}
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.attributes |= set(given)
        for name in (given.get("class") or "").split() or [""]:
            self.found[(tag, name)] = self.found.get((tag, name), 0) + 1
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())


def drawn(plan: Plan) -> tuple[str, Outline, Outcome]:
    outcome = run(plan)
    text = page(outcome, plan)
    return text, Outline(text), outcome


def test_a_partition_is_on_the_page() -> None:
    plan = BY_NAME["partition"].plan(1)
    text, outline, outcome = drawn(plan)
    assert outline.open == []
    assert outline.found[("rect", "cut")] == 5
    assert outline.found[("rect", "leader")] >= 1 and outline.found[("rect", "follower")] >= plan.size
    assert outline.found[("polyline", "commit")] == outline.found[("polyline", "applied")] == plan.size
    assert 0 < outline.found[("line", "msg")] <= FLIGHTS_MAX
    assert outline.found[("rect", "op")] >= outcome.operations
    assert outline.found[("line", "lost")] > 0
    assert "messages are left out" in text


def test_nothing_comes_from_elsewhere() -> None:
    text, outline, _ = drawn(BY_NAME["calm"].plan(1))
    assert not outline.attributes & {"src", "href", "onclick", "onload"}
    assert "http" not in text and "url(" not in text.replace("url(#tip)", "") and "@import" not in text


def test_crashes_and_terms_are_told() -> None:
    painting = paint(BY_NAME["crash_leader"].plan(1))
    assert {span.role for span in painting.spans} >= {"leader", "follower", "down"}
    terms = [span.term for span in painting.spans if span.role == "leader"]
    assert len(set(terms)) == len(terms) > 1
    for node in painting.nodes:
        own = [span for span in painting.spans if span.node == node]
        assert all(one.end == other.begin for one, other in pairwise(own))
        indices = [level.index for level in painting.levels if (level.node, level.what) == (node, "commit")]
        assert indices[-1] > 0


def test_markup_in_values_stays_text() -> None:
    plan = BY_NAME["calm"].plan(1)
    outcome = run(plan)._replace(scenario="<script>alert(1)</script>")
    text = page(outcome, plan)
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
