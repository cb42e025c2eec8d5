"""`arc raft` against a node that answers what a test says, in the very documents that the API makes."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from arc.api.raft import show_status
from arc.catalog.nodes import NodeRecord
from arc.cli import raft
from arc.cli.raft_status import lines, read_look, rows, troubles
from arc.ids import NodeId
from arc.raft.status import Status
from arc.raft.types import Configuration, Peer, Role
from tests.api.test_raft import COUNTS, FOLLOWER, LEADER, N1, N2, N3
from tests.cli.conftest import Run, document
from tests.cli.fake_node import Answer, Asked, FakeNode, refusal

NODES = {peer.name: NodeRecord(NodeId(peer.name), peer.incarnation, f"{peer.name}:9100") for peer in (N1, N2, N3)}


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft, "POLL_SECONDS", 0.001)


def shown(status: Status, nodes: dict[str, NodeRecord] | None = None) -> dict[str, Any]:
    """What the API would answer."""
    made = show_status(status, NODES if nodes is None else nodes, now=12.0)
    found = json.loads(json.dumps({"success": True, **made, "counters": COUNTS._asdict()}))
    assert isinstance(found, dict)
    return found


def ask(run: Run, node: FakeNode, *arguments: str) -> Any:
    return run("raft", *arguments, "--endpoint", node.endpoint)


def not_leader(leader: dict[str, object] | None) -> Answer:
    return refusal(503, "this node does not lead", "not_leader", leader=leader)


# ---- status


def test_status_shows_role_log_members_and_counters(run: Run, node: FakeNode) -> None:
    node.script(Answer(document=shown(LEADER)))
    found = ask(run, node, "status", "--token", "secret")
    assert found.exit_code == 0
    assert node.asked[0].path == "/api/v1/raft/status"
    assert node.asked[0].headers["authorization"] == "Bearer secret"
    text = found.stdout.splitlines()
    assert text[:9] == [
        "node        n1 at n1:9100, incarnation 11",
        "role        leader in term 4, reads by lease for 0.50 s",
        "leader      n1",
        "commit      90, applied 89",
        "log         11 to 95, durable to 94, snapshot at 10",
        "members     configuration of entry 40, agreed on; 2 of 2 voters answer, 2 must",
        "waiting     5 entries (500 bytes), 2 reads",
        "log damage  none",
        "disk space  enough",
    ]
    at = text.index("# members")
    assert text[at + 1 : at + 5] == [
        "node\taddress\tis\tnote\tanswers\tmatch\tbehind\tnext\tin flight\tbytes\tpace",
        "n1\tn1:9100\tvoter\tleads, this node\tyes\t94\t1\t96\t\t\t",
        "n2\tn2:9100\tvoter\t\tyes\t93\t2\t96\t2\t200\treplicate",
        "n3\tn3:9100\tlearner\tcatches up\tno\t0\t95\t11\t1\t1000\tsnapshot",
    ]
    assert "messages dropped\t7" in text
    assert "told: role\t3" in text


def test_status_for_programs_is_the_nodes_document_and_what_is_wrong(run: Run, node: FakeNode) -> None:
    made = shown(LEADER._replace(is_damaged=True))
    node.script(Answer(document=made))
    found = document(ask(run, node, "status", "--json"))
    told = found.pop("troubles")
    assert found == made
    assert "neither votes nor leads" in told[0]["finding"]
    assert told[0]["next_step"]


def test_what_is_wrong_stands_below_with_the_next_step(run: Run, node: FakeNode) -> None:
    node.script(Answer(document=shown(FOLLOWER._replace(leader=None))))
    text = ask(run, node, "status").stdout
    assert "leader      nobody is known to lead" in text
    assert "note: nobody is known to lead, so nothing can be agreed on" in text
    assert "next: Look whether 2 of 2 voters run" in text


def silent(status: Status, *peers: Peer) -> Status:
    return status._replace(followers=tuple(f._replace(is_active=f.peer not in peers) for f in status.followers))


THREE = LEADER._replace(
    configuration=Configuration(voters=(N1, N2, N3)), catching_up=(), followers=silent(LEADER).followers
)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (THREE, []),
        (LEADER, []),
        (LEADER._replace(configuration=Configuration(voters=(N1, N2)), catching_up=()), ["n3 is known", "two voters"]),
        (silent(THREE, N3), ["n3 does not answer; no other voter may fail now"]),
        (silent(THREE, N2, N3), ["n2, n3 do not answer; no other voter may fail now"]),
        (THREE._replace(has_space=False), ["disk is full"]),
        (THREE._replace(is_damaged=True, leader=None), ["neither votes nor leads", "nobody is known to lead"]),
        (LEADER._replace(catching_up=()), ["n3 follows and has no vote", "two voters"]),
        (
            LEADER._replace(configuration=Configuration(voters=(N1, N2)), catching_up=()),
            ["n3 is known and takes no part", "two voters"],
        ),
        (FOLLOWER._replace(configuration=THREE.configuration), []),
    ],
)
def test_troubles(status: Status, words: list[str]) -> None:
    found = list(troubles(read_look(shown(status))))
    assert len(found) == len(words), found
    for trouble, word in zip(found, words, strict=True):
        assert word in trouble.finding
        assert trouble.next_step


def test_five_voters_say_how_many_more_may_fail() -> None:
    peers = tuple(Peer(f"n{number}") for number in range(1, 6))
    followers = tuple(LEADER.followers[0]._replace(peer=peer, is_active=peer != peers[4]) for peer in peers[1:])
    status = LEADER._replace(
        me=peers[0], leader=peers[0], configuration=Configuration(voters=peers), followers=followers, catching_up=()
    )
    look = read_look(shown(status, {}))
    assert [trouble.finding for trouble in troubles(look)] == ["n5 does not answer; 1 more may fail"]
    assert dict(lines(look))["members"].endswith("4 of 5 voters answer, 3 must")


def test_a_follower_claims_nothing_of_others() -> None:
    look = read_look(shown(FOLLOWER))
    assert dict(lines(look))["members"].endswith("agreed on; 2 voters, 2 must")
    assert next(row[4:] for row in rows(look)) == (None, None, None, None, None, None, None)


def test_a_handover_and_a_change_are_seen() -> None:
    joint = Configuration(voters=(N1, N3), outgoing=(N1, N2))
    look = read_look(shown(LEADER._replace(configuration=joint, configuration_index=92, transfer_to=N3)))
    assert [(row[0], row[2], row[3]) for row in rows(look)] == [
        ("n1", "voter", "leads, this node"),
        ("n2", "leaving", ""),
        ("n3", "voter", "catches up, gets leadership"),
    ]
    assert "being changed" in dict(lines(look))["members"]


def test_a_node_that_was_removed_says_so_and_not_that_nobody_leads() -> None:
    status = shown(FOLLOWER._replace(leader=None))
    status["counters"]["traces"]["removed"] = 1
    assert (
        next(trouble.finding for trouble in troubles(read_look(status))) == "the others say that this node was removed"
    )


def test_a_node_of_another_version_is_read_as_far_as_it_goes() -> None:
    newer = shown(LEADER) | {"invented_later": 1}
    newer["members"][0]["invented_later"] = 2
    newer["configuration"]["invented_later"] = 3
    assert read_look(newer) == read_look(shown(LEADER))
    older = read_look({"node": {"name": "n1"}})
    assert list(lines(older))
    assert older.members == ()


# ---- orders


def test_transfer_names_who_leads_next(run: Run, node: FakeNode) -> None:
    after = FOLLOWER._replace(me=N1, leader=N2, term=5)
    node.script(
        Answer(document={"success": True, "leader": {"name": "n2"}}),
        Answer(document=shown(FOLLOWER._replace(leader=None, term=5))),
        Answer(document=shown(after)),
    )
    found = ask(run, node, "transfer", "n2")
    assert found.stdout == "n2 leads in term 5\n"
    assert (node.asked[0].method, node.asked[0].path) == ("POST", "/api/v1/raft/transfer")
    assert json.loads(node.asked[0].body) == {"target": "n2"}


def test_transfer_does_not_wait_for_ever(run: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft, "ELECTION_SECONDS", 0.02)
    nobody = Answer(document=shown(FOLLOWER._replace(leader=None)))
    node.script(Answer(document={"success": True, "leader": {"name": "n2"}}), nobody)
    assert ask(run, node, "transfer").stdout == "leadership was handed to n2\n"
    assert json.loads(node.asked[0].body) == {"target": None}
    node.script(Answer(document={"success": True, "leader": {"name": "n2"}}), nobody)
    assert document(ask(run, node, "transfer", "--json"))["now_leads"] is None


def test_snapshot(run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"success": True, "index": 89}))
    assert ask(run, node, "snapshot").stdout == "the snapshot covers everything up to entry 89\n"
    assert document(ask(run, node, "snapshot", "--json")) == {"success": True, "index": 89}


def test_remove(run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"success": True, "removed": "n? é", "index": 98}))
    assert ask(run, node, "remove", "n? é").stdout == "n? é takes no part any more (entry 98)\n"
    assert (node.asked[0].method, node.asked[0].path) == ("DELETE", "/api/v1/raft/members/n%3F%20%C3%A9")
    assert document(ask(run, node, "remove", "n3", "--json"))["index"] == 98


class Growing:
    """A leader that takes a node in: it follows, comes closer with every look, and votes in the end."""

    def __init__(self) -> None:
        self.voted = threading.Event()
        self.looks = 0

    def __call__(self, asked: Asked) -> Answer:
        if asked.method == "POST":
            assert self.voted.wait(10), "the command waits for the answer and does not look"
            member = {"name": "n3", "incarnation": 33, "address": "n3:9100"}
            return Answer(document={"success": True, "member": member, "index": 97})
        self.looks += 1
        if self.looks == 2:
            return Answer(status=503, document={})
        if self.looks == 5:
            self.voted.set()
        behind = LEADER.followers[1]._replace(match=20 * self.looks)
        status = LEADER._replace(followers=(LEADER.followers[0], behind))
        if self.looks == 1:
            status = LEADER._replace(configuration=Configuration(voters=(N1, N2)), catching_up=())
        return Answer(document=shown(status))


def test_add_looks_until_the_newcomer_votes(run: Run, node: FakeNode) -> None:
    node.answer = growing = Growing()
    found = ask(run, node, "add", "n3:9100")
    assert found.exit_code == 0, found.stderr
    assert found.stdout == "n3 is a voter (entry 97)\n"
    assert found.stderr == "n3 follows; it votes as soon as it has caught up\n"
    assert growing.looks >= 5
    sent = [asked for asked in node.asked if asked.method == "POST"]
    assert [(asked.path, json.loads(asked.body)) for asked in sent] == [
        ("/api/v1/raft/members", {"address": "n3:9100", "learner": False})
    ]


@pytest.mark.parametrize(
    ("catching_up", "nodes", "found"),
    [((), NODES, "n3"), ((N3,), {}, "n3"), ((), {}, None)],
    ids=["by its address", "because it catches up", "another learner"],
)
def test_the_newcomer_is_known(catching_up: tuple[Peer, ...], nodes: dict[str, NodeRecord], found: str | None) -> None:
    look = read_look(shown(LEADER._replace(catching_up=catching_up), nodes))
    assert raft.newcomer(look, "n3:9100") == found


def test_add_for_programs_says_nothing_beside_the_document(run: Run, node: FakeNode) -> None:
    node.answer = Growing()
    found = ask(run, node, "add", "n3:9100", "--json")
    assert document(found)["member"]["name"] == "n3"
    assert found.stderr == ""


def test_a_learner_is_not_waited_for(run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"success": True, "member": {"name": "n3"}, "index": 97}))
    assert ask(run, node, "add", "n3:9100", "--learner").stdout == "n3 follows without a vote (entry 97)\n"
    assert [asked.method for asked in node.asked] == ["POST"]
    assert json.loads(node.asked[0].body)["learner"] is True


def test_who_interrupts_is_told_that_the_cluster_goes_on(
    run: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.answer = growing = Growing()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(raft, "_watch", interrupted)
    found = ask(run, node, "add", "n3:9100")
    growing.voted.set()
    assert found.exit_code == 130
    assert "effect: The cluster goes on with it" in found.stderr
    assert "arc raft remove" in found.stderr


# ---- refusals

ORDERS = [("transfer",), ("add", "n3:9100"), ("remove", "n3")]


@pytest.mark.parametrize(
    ("order", "leader", "step"),
    [
        (ORDERS[0], {"name": "n2", "address": "n2:9100"}, "Ask n2 (its peer port is n2:9100): give its HTTP address"),
        (ORDERS[1], {"name": "n2", "address": None}, "Ask n2: give its HTTP address"),
        (ORDERS[2], None, "Wait for an election"),
    ],
)
def test_whoever_does_not_lead_names_who_does(
    run: Run, node: FakeNode, order: tuple[str, ...], leader: dict[str, object] | None, step: str
) -> None:
    node.script(not_leader(leader))
    found = ask(run, node, *order)
    assert found.exit_code == 4
    assert "error: this node does not lead" in found.stderr
    assert "effect: Nothing was changed" in found.stderr
    assert f"next: {step}" in found.stderr


@pytest.mark.parametrize(
    ("order", "answer", "code", "words"),
    [
        (
            1,
            refusal(409, "remove it first: n3", "conflict"),
            1,
            ["it first", "effect: Nothing", "next: `arc raft stat"],
        ),
        (1, refusal(409, "alone", "cluster_disabled"), 1, ["effect: Nothing", "next: Set enabled = true in [cluster]"]),
        (
            1,
            refusal(503, "no node answers", "peer_unreachable"),
            4,
            ["effect: Nothing", "next: Is a node running there"],
        ),
        (2, refusal(404, "there is no node", "not_found"), 1, ["no node", "next: `arc raft status`"]),
        (1, refusal(503, "leadership was lost", "outcome_unknown"), 4, ["may have happened", "Asking again is safe"]),
        (
            1,
            refusal(503, "stays a learner", "unavailable"),
            4,
            ["stays a learner", "`arc raft status`", "again is safe"],
        ),
        (0, refusal(503, "no other voter is alive", "unavailable"), 4, ["is alive", "next: `arc raft status`"]),
        (2, refusal(403, "Permission denied: admin required", "forbidden"), 1, ["next: Use a token"]),
        (0, refusal(401, "Authentication required", "unauthorized"), 1, ["next: Give a token"]),
    ],
)
def test_every_refusal_says_cause_effect_and_next_step(
    run: Run, node: FakeNode, order: int, answer: Answer, code: int, words: list[str]
) -> None:
    node.script(answer)
    found = ask(run, node, *ORDERS[order])
    assert found.exit_code == code
    assert found.stdout == ""
    for word in words:
        assert word in found.stderr


@pytest.mark.parametrize("order", [("status",), ORDERS[1]])
def test_nobody_there(run: Run, order: tuple[str, ...]) -> None:
    found = run("raft", *order, "--endpoint", "http://127.0.0.1:1", "--json")
    assert found.exit_code == 4
    assert document(found)["code"] == "unreachable"


def test_role_names() -> None:
    look = read_look(shown(FOLLOWER._replace(role=Role.PRE_CANDIDATE)))
    assert dict(lines(look))["role"] == "pre-candidate in term 4"
