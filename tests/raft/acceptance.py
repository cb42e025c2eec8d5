"""Which scenario of the acceptance matrix is proven where: read from the tests, written to docs/raft-acceptance.md.

A test names scenarios by their ids in its docstring, a conversation in its ``# ids:`` line. So the page cannot drift:
it is generated (`python -m tests.raft.acceptance`), and a test compares. An id without a test is listed as open.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "raft-acceptance.md"
PLACES = (
    *("tests/raft", "tests/cluster/test_transport.py", "tests/cluster/test_calls.py", "tests/wire", "simulations"),
    *("tests/simulations", "tests/e2e"),
)
"""Folders and files; the rest of tests/cluster names promises (tests/test_promises.py), whose ids also begin with P."""

ID = re.compile(r"\b([TEPQRCFDMSLXNZ]-[0-9]{2})\b")

SCENARIOS = """
T-01 a higher term makes every role a follower in it
T-02 requests of an old term never reach the role
T-03 a node boots as follower
T-04 legal moves between roles, others loudly refused
T-05 every role steps down for a newer leader or candidate, keeping its log
T-06 timeouts are spread evenly between T and 2T
T-07 a late append of an old leader disturbs nothing
T-08 local events cannot come from the network; answers of strangers are dropped
E-01 heartbeats: one to each member, commit clamped; nobody else sends them
E-02 a timeout makes a candidate: next term, own vote, requests; and again
E-03 every vector of votes in clusters of one to five
E-04 one vote a term, repeatable to the same candidate
E-05 a candidate yields to a legitimate leader and takes its log
E-06 every value of the timeout's range appears
E-07 simultaneous timeouts are rare
E-08 elections with silent peers and differing logs
E-09 every node can lead in turn
E-10 a shorter log of a newer term overwrites longer uncommitted ones
E-11 votes from every role; a pre-vote changes neither term nor vote
E-12 duelling candidates after a partition
E-13 a cluster of one elects and commits alone, after its disk
E-14 truth table of votes: role, freshness, already voted
E-15 an own vote that is durable too late does not count
E-16 a late pre-vote does not count as a vote
E-17 transcript of a plain election with its durability order
E-18 a node of a lower term takes part and a leader is found
E-19 a leader asked to campaign does nothing
E-20 only voters campaign
E-21 elections over real nodes; the leader is known everywhere
E-22 no vote while a leader is known; a removed node forces no election
E-23 which configurations may turn a timeout into a candidacy; changed timeouts take effect
E-24 a newcomer with a high term does not wedge the cluster
E-25 a node with a very long first timeout rejoins
P-01 a node that is behind fails its pre-vote and disturbs nobody
P-02 without pre-vote a lagging candidate deposes the leader, with it not
P-03 a split vote after pre-votes is resolved by the next timeout
P-04 pre-votes are refused while a leader is fresh
P-05 mixed settings and a stuck node of a higher term
P-06 mixed clusters, partitions, the leader's own pre-vote
Q-01 a leader without quorum for one window steps down, not earlier
Q-02 votes are withheld until the own window ends
Q-03 a stuck candidate of a higher term is freed
Q-04 who may not campaign still follows and votes
Q-05 a silent new voter has one window of grace
Q-06 an isolated leader steps down; removal in a split cluster commits nothing false
Q-07 forgetting the leader
Q-08 quorum loss, constrained election and chained links
R-01 a proposal: own term, right predecessor, not yet committed
R-02 consistency check with hint
R-03 overwritten from the first conflict only, committed entries never
R-04 the six followers of figure 7
R-05 skipping by term on both sides in few rounds
R-06 proposals reach all; without quorum nothing is acknowledged
R-07 a late rejection does not pull next below match
R-08 stale, rejecting and accepting answers
R-09 one message per probe, optimistic streaming, silence under snapshot
R-10 an unreachable follower is probed and promoted again
R-11 a paused probe resumes with a heartbeat answer
R-12 progress as a state machine
R-13 a leader's own completion from an older term is ignored
R-14 catch-up, concurrent proposals, refusal elsewhere
R-15 lossy network, restarts and pauses still commit
C-01 commit exactly when a quorum has it; told with the next message
C-02 all before it commits too; applied in order
C-03 figure 8: older terms commit only under an entry of the own
C-04 freshness: last term, then length
C-05 one voter commits without messages
C-06 commit never falls and never passes the log
C-07 a follower's commit catches up without new proposals
C-08 a smaller quorum commits what waited
C-09 the median rule equals counting, joint is the lesser half
C-10 tables of votes, joint
C-11 the commitment rules once more, with learners and outsiders
F-01 the window fills, slides and is opened by a heartbeat
F-02 windows by size; a lossy peer recovers
F-03 accounting of what is in flight
F-04 limit of uncommitted bytes, and its return
F-05 at least one entry; size accounting
F-06 limits per message and per apply; nothing skipped after a restart
F-07 bounded pipelining
D-01 appends and applies overlap; votes and answers wait for completion
D-02 one index written three times: a late completion says nothing
D-03 completions by write, not by index
D-04 the tail: replaced, cut inside, before and after what is under way
D-05 what may be applied
D-06 storage contract
D-07 exact first effects after a start and a restart
D-08 when a durable write is required
D-09 start-up recovery in every relation of log and snapshot
D-10 cache coherence
D-11 torn tail, corruption, failing and full disk
M-01 one change at a time; none before the own term commits
M-02 progress follows the configuration; the last voter stays
M-03 learners replicate, never campaign, never count
M-04 a learner votes when asked
M-05 no campaign between commit and apply of a configuration (artefact of configurations in force at apply)
M-06 harmless repetitions; leaving joint survives a change of leader
M-07 simple, automatic and explicit ways
M-08 automatic leave; joint configurations travel in snapshots
M-09 a leader that removed itself serves, uncounted, until committed
M-10 replacing the leader in one joint change
M-11 validation cannot be switched off
M-12 algebra: demotion waits, illegal combinations refused
M-13 simple steps equal one joint change; restore reproduces
M-14 members changed across restarts and snapshots
M-15 pure configuration functions, compare-and-set
M-16 bootstrap once; malformed input refused
M-17 catch-up rounds; removed nodes; identity after a wiped disk
S-01 install sets boundary and configuration
S-02 a snapshot of what is held only forwards the commit
S-03 a snapshot is sent when the log is cut, to the living
S-04 the sender's state machine
S-05 an accepted append releases a snapshot
S-06 a throttled follower is rescued after compaction
S-07 boundary arithmetic
S-08 policy, manual snapshot, snapshot followed by entries
S-09 snapshot store contract
S-10 metadata has the term of its index; configuration survives
L-01 transfer to an up-to-date node, despite shields
L-02 the target first catches up, even by snapshot
L-03 no-ops: self, strangers
L-04 proposals wait; given up after an election timeout
L-05 higher term, removal, demotion end it
L-06 back again; another target replaces; the same gains no time
L-07 best target; cluster level
L-08 step-down meanwhile; target's durability; heartbeats do not keep it alive
X-01 confirmed read index at leader, follower, learner; chasing the next leader
X-02 lease reads
X-03 reads of a new leader wait for its term
X-04 no confirmation serves a later read
X-05 confirmed reads are released
X-06 leader verification with full, no and partial connection
X-07 a pause between confirmation and answer
N-01 refused and cancelled calls at the driver
N-02 status and the transcripts
N-03 lifecycle, configuration, versions
N-04 transports
N-05 helpers
Z-01 leader partitions
Z-02 control run without faults
Z-03 slow votes
Z-04 membership under writes
Z-05 repeated transfers under load
Z-06 elections, partitions, recovery, loss of one disk
Z-07 randomised nemesis families
Z-08 storage faults on one and on all
Z-09 requested snapshots, entries fetched from the disk (priorities and group commit are not built: DIVERGENCE.md)
Z-10 kill all, wipe one
"""


def scenarios() -> dict[str, str]:
    """Id → what is proven, in order."""
    return dict(line.split(" ", 1) for line in SCENARIOS.strip().splitlines())


def proofs(root: Path = ROOT) -> dict[str, list[str]]:
    """Id → names of tests and conversations that name it."""
    found: dict[str, list[str]] = {}
    for place in (root / each for each in PLACES):
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    for each in dict.fromkeys(ID.findall(ast.get_docstring(node) or "")):
                        found.setdefault(each, []).append(f"{path.stem}: {node.name[5:].replace('_', ' ')}")
        for path in sorted(place.rglob("*.txt")):
            for line in path.read_text(encoding="utf-8").splitlines():
                if line.startswith("# ids:"):
                    for each in dict.fromkeys(ID.findall(line)):
                        found.setdefault(each, []).append(f"conversation: {path.stem}")
    return found


def page(root: Path = ROOT) -> str:
    """The whole page."""
    known, found = scenarios(), proofs(root)
    missing = [each for each in known if each not in found]
    lines = [
        "# Raft acceptance matrix",
        "",
        "Generated from the ids in tests and conversations by `python -m tests.raft.acceptance`; do not edit.",
        "",
        f"{len(known) - len(missing)} of {len(known)} scenarios have a test. Open: {', '.join(missing) or 'none'}.",
        "",
        "| id | scenario | proven by |",
        "|---|---|---|",
    ]
    for each, text in known.items():
        lines.append(f"| {each} | {text} | {'; '.join(found.get(each, ['**open**']))} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
