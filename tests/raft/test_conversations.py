"""Transcripts that are read like a conversation and checked to the letter.

Each file in conversations/ is a story: `# ` lines tell it, `> ` lines are commands of `talk`, the lines after a command
are what it did. Run with ARC_REWRITE=1 to write down what happens now, then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from arc.raft.core import RaftCore
from tests.raft.retold import Retold
from tests.raft.talk import Talk

FOLDER = Path(__file__).parent / "conversations"
STORIES = sorted(FOLDER.glob("*.txt"))


def retell(text: str, core_class: type[Any] = RaftCore) -> str:
    """Run the commands of a story and put down what happens under each."""
    talk = Retold(core_class) if "\n> simulated " in f"\n{text}" else Talk()
    told: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            told.append(line)
            told.extend(talk.do(line[2:]))
        elif not line.startswith("  "):
            told.append(line.rstrip())
    return "\n".join(told).rstrip() + "\n"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.stem)
def test_conversation(story: Path) -> None:
    """What happens is what is written."""
    written = story.read_text(encoding="utf-8")
    told = retell(written)
    if os.environ.get("ARC_REWRITE") == "1":
        story.write_text(told, encoding="utf-8")
        return
    assert told == written, f"{story.name} tells another story; ARC_REWRITE=1 writes it down anew"


def test_there_are_stories() -> None:
    """An empty folder would pass everything."""
    assert len(STORIES) >= 15
    assert all("# ids:" in story.read_text(encoding="utf-8") for story in STORIES)
