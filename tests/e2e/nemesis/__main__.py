"""``python -m tests.e2e.nemesis --seed N --minutes M --nodes 3|5``: a run, its verdict, its page.

Exit code 0: everything that is promised was kept. 1: it was not, or the cluster never formed; the folder with logs,
data and history is kept then, and its name is printed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.nemesis.history import History, document
from tests.e2e.nemesis.nodes import Nodes
from tests.e2e.nemesis.page import page
from tests.e2e.nemesis.runner import NeverWhole, Runner
from tests.e2e.nemesis.schedule import Kind, plan, small_disk
from tests.e2e.nemesis.verdict import Verdict, judge, told, verdict_document


def main(arguments: Sequence[str]) -> int:
    """Run it; the exit code."""
    wishes = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nodes and mounts go with us
    folder = Path(tempfile.mkdtemp(prefix="arc-nemesis-"))
    clean = False
    try:
        history = run(wishes, folder)
        verdict = judge(history)
        clean = verdict.is_clean
        if wishes.html:
            wishes.html.write_text(page(history, verdict))
        if not clean:
            keep(folder, history, verdict)
        tell_all(wishes, history, verdict)
        return verdict.exit_code
    except NeverWhole as error:
        print(f"NOT CLEAN: {error}", file=sys.stderr)
        return 1
    finally:
        if clean and not wishes.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"logs and history are kept in {folder}", file=sys.stderr)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What is wished for."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.nemesis", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--nodes", type=int, default=3, choices=(3, 5))
    parser.add_argument("--faults", default="", help=f"only these, with commas: {', '.join(Kind)}")
    parser.add_argument("--html", type=Path, help="write the timeline to this file")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--keep", action="store_true", help="keep logs and data of a clean run, too")
    wishes = parser.parse_args(arguments)
    try:
        wishes.kinds = tuple(Kind(each.strip()) for each in wishes.faults.split(",") if each.strip()) or tuple(Kind)
    except ValueError as error:
        parser.error(f"--faults: {error}; there are {', '.join(Kind)}")
    return wishes


def run(wishes: argparse.Namespace, folder: Path) -> History:
    """Plan and act. Raises NeverWhole."""
    names = tuple(f"n{number}" for number in range(1, wishes.nodes + 1))
    seconds = wishes.minutes * 60
    steps = plan(wishes.seed, seconds, names, wishes.kinds)
    small = small_disk(wishes.seed, names) if Kind.DISK in wishes.kinds else ""

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    tell(f"seed {wishes.seed}: {len(steps)} steps in {seconds:.0f} s, below {folder}")
    with Nodes(folder, names, small=small) as nodes:
        history = Runner(nodes, steps, seed=wishes.seed, seconds=seconds, tell=tell).run()
    history.command = command(wishes)
    return history


def command(wishes: argparse.Namespace) -> str:
    """What repeats the schedule."""
    found = ["python", "-m", "tests.e2e.nemesis", "--seed", str(wishes.seed), "--minutes", f"{wishes.minutes:g}"]
    found += ["--nodes", str(wishes.nodes)]
    if wishes.faults:
        found += ["--faults", wishes.faults]
    return shlex.join(found)


def keep(folder: Path, history: History, verdict: Verdict) -> None:
    """What somebody needs who looks for the reason."""
    (folder / "history.json").write_text(json.dumps(document(history)))
    (folder / "page.html").write_text(page(history, verdict))


def tell_all(wishes: argparse.Namespace, history: History, verdict: Verdict) -> None:
    """The report."""
    if wishes.json:
        print(json.dumps(verdict_document(history, verdict)))
        return
    for line in told(history, verdict):
        print(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
