"""Conversations of two ends that do not trust each other yet, one message after the other, with somebody in between.

A conversation is a list of steps; what the one in between does to a message is a step of its own. Whatever he does, no
end comes to accept a session that the other one does not share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.raft.types import Peer
from arc.security import signing
from arc.wire import handshake
from arc.wire.facts import Address, ClusterIdentity, PeerFacts
from arc.wire.handshake import (
    CHANCE_BYTES,
    LENGTH_BYTES,
    MESSAGE_BYTES_MAX,
    REFUSED,
    Claims,
    DiallerHandshake,
    HandshakeRefused,
    Kind,
    ListenerHandshake,
    Purpose,
    Verdict,
    check_claims,
    message_bytes,
)
from tests.fakes import SeededRng

SECRET = b"sixteen characters and more"
A = Claims(
    peer=Peer("a", 11),
    cluster=ClusterIdentity("c", "u1"),
    address="10.0.0.1:9100",
    facts=PeerFacts(role="writer", api_address="10.0.0.1:8000", version="0.2", cores=4),
    boot=b"boot of a",
    known=b"earlier",
    wanted="b",
)
B = replace(A, peer=Peer("b", 22), address="[::1]:9100", boot=b"boot of b", known=b"", purpose=Purpose.ASK, wanted="")


def chance(seed: int) -> bytes:
    return SeededRng(seed).bytes(CHANCE_BYTES)


def dialler(seed: int = 1, secret: bytes = SECRET) -> DiallerHandshake:
    return DiallerHandshake(secret, chance(seed))


def listener(seed: int = 2, secret: bytes = SECRET) -> ListenerHandshake:
    return ListenerHandshake(secret, chance(seed))


def reason(step: Callable[[], object]) -> str:
    with pytest.raises(HandshakeRefused) as found:
        step()
    return found.value.reason


def test_both_ends_know_each_other_and_hold_the_same_keys() -> None:
    """Promise 33: one key for each direction, and a name for the session."""
    one, other = dialler(), listener()
    challenge = other.challenge(one.hello)
    other.require_version()
    assert other.verify(one.prove(challenge, A)) == A
    assert one.finish(other.answer(B, Verdict.SETTLED)) == (B, Verdict.SETTLED)
    assert one.keys == other.keys
    assert len({one.keys.session, one.keys.to_dialler, one.keys.to_listener}) == 3
    assert one.version == other.version == handshake.VERSION_MAX


def test_every_key_has_a_label_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 33: a proof of one end is no proof of the other's, whatever else it holds."""
    labels = []
    original = signing.labelled_key

    def spy(root: bytes, label: bytes, context: bytes = b"") -> bytes:
        labels.append(label)
        return original(root, label, context)

    monkeypatch.setattr(signing, "labelled_key", spy)
    other = listener()
    other.verify(dialler().prove(other.challenge(dialler().hello), A))
    other.answer(B, Verdict.ACCEPTED)
    assert len(labels) == 6 and len(set(labels)) == 5, "that of the dialler's proof is made and checked"


def test_keys_depend_on_every_nonce_and_claim() -> None:
    """So nothing of one session opens in another one."""
    seen = set()
    for seeds, theirs in (((1, 2), A), ((3, 2), A), ((1, 3), A), ((1, 2), replace(A, known=b""))):
        one, other = dialler(seeds[0]), listener(seeds[1])
        other.verify(one.prove(other.challenge(one.hello), theirs))
        other.answer(B, Verdict.ACCEPTED)
        seen |= set(other.keys)
    assert len(seen) == 4 * 3


@pytest.mark.parametrize(("of_dialler", "of_listener"), [(b"wrong", SECRET), (SECRET, b"wrong")])
def test_a_wrong_secret_is_found_by_the_listener(of_dialler: bytes, of_listener: bytes) -> None:
    """Who listens proves nothing to who has not proven himself first."""
    one, other = dialler(secret=of_dialler), listener(secret=of_listener)
    proof = one.prove(other.challenge(one.hello), A)
    assert reason(lambda: other.verify(proof)) == "secret"


def test_a_listener_that_accepts_everybody_is_found_by_the_dialler() -> None:
    """Somebody listens at the address of a node that went, without the secret."""
    one, other = dialler(), listener(secret=b"wrong")
    challenge = other.challenge(one.hello)
    claims, proof = cbor2.loads(one.prove(challenge, A)[LENGTH_BYTES + 1 :])
    other._root, other._theirs, other._proof, other._stage = b"\0" * 32, claims, proof, Kind.PROOF
    assert reason(lambda: one.finish(other.answer(B, Verdict.ACCEPTED))) == "secret"


def test_a_recorded_proof_is_worth_nothing_in_another_conversation() -> None:
    """Promise 33: replay. The same hello again meets another challenge."""
    one, other = dialler(), listener(2)
    proof = one.prove(other.challenge(one.hello), A)
    assert other.verify(proof) == A
    again = listener(3)
    again.challenge(one.hello)
    assert reason(lambda: again.verify(proof)) == "secret"


def test_a_recorded_answer_is_worth_nothing_in_another_conversation() -> None:
    """Promise 33: replay, the other way."""
    one, other = dialler(1), listener()
    other.verify(one.prove(other.challenge(one.hello), A))
    answer = other.answer(B, Verdict.ACCEPTED)
    another, recorded = dialler(5), listener()
    another.prove(recorded.challenge(another.hello), A)
    assert reason(lambda: another.finish(answer)) == "secret"


def test_a_proof_that_is_sent_back_proves_nothing() -> None:
    """Reflection: who knows no secret returns what he heard, as the answer."""
    one, other = dialler(), listener()
    proof = one.prove(other.challenge(one.hello), A)
    claims, mac = cbor2.loads(proof[LENGTH_BYTES + 1 :])
    for verdict in Verdict:
        body = bytes([Kind.ANSWER]) + cbor2.dumps([claims, int(verdict), mac])
        answer = len(body).to_bytes(LENGTH_BYTES, "big") + body
        assert reason(lambda answer=answer: one.finish(answer)) == "secret"


def test_a_dialler_that_is_called_back_with_its_own_messages_proves_nothing() -> None:
    """Reflection over two connections: its hello opens a conversation with itself, its proof must not close it."""
    victim_dials, victim_listens = dialler(1), listener(2)
    challenge = victim_listens.challenge(victim_dials.hello)
    proof = victim_dials.prove(challenge, A)
    theirs = victim_listens.verify(proof)
    assert reason(lambda: check_claims(theirs, A.peer, A.cluster)) == "self"


def alter(message: bytes, place: int) -> bytes:
    return message[:place] + bytes([message[place] ^ 1]) + message[place + 1 :]


@pytest.mark.parametrize("which", [Kind.HELLO, Kind.CHALLENGE, Kind.PROOF, Kind.ANSWER])
def test_no_bit_of_any_message_can_be_changed_unnoticed(which: Kind) -> None:
    """Promise 33: every byte is under a MAC; also the version range, so nobody talks the two down."""

    def converse(place: int) -> int:
        """Length of the message in question. Raises HandshakeRefused."""

        def through(kind: Kind, message: bytes) -> bytes:
            lengths[kind] = len(message)
            return alter(message, place) if kind is which and place >= 0 else message

        lengths: dict[Kind, int] = {}
        one, other = dialler(), listener()
        challenge = through(Kind.CHALLENGE, other.challenge(through(Kind.HELLO, one.hello)))
        other.require_version()
        other.verify(through(Kind.PROOF, one.prove(challenge, A)))
        one.finish(through(Kind.ANSWER, other.answer(B, Verdict.ACCEPTED)))
        return lengths[which]

    for place in range(converse(-1)):
        with pytest.raises(HandshakeRefused):
            converse(place)


@pytest.mark.parametrize("which", [Kind.HELLO, Kind.CHALLENGE, Kind.PROOF, Kind.ANSWER])
def test_a_message_that_is_cut_is_refused(which: Kind) -> None:
    """Truncation."""
    one, other = dialler(), listener()
    challenge = other.challenge(one.hello)
    proof = one.prove(challenge, A)
    other.verify(proof)
    answer = other.answer(B, Verdict.ACCEPTED)
    messages = {Kind.HELLO: one.hello, Kind.CHALLENGE: challenge, Kind.PROOF: proof, Kind.ANSWER: answer}
    for end in range(len(messages[which])):
        cut = messages[which][:end]
        fresh_one, fresh_other = dialler(), listener()
        fresh_challenge = fresh_other.challenge(fresh_one.hello) if which is not Kind.HELLO else b""
        if which is Kind.ANSWER:
            fresh_one.prove(fresh_challenge, A)
        steps: dict[Kind, Callable[[bytes], object]] = {
            Kind.HELLO: fresh_other.challenge,
            Kind.CHALLENGE: lambda message, end=fresh_one: end.prove(message, A),
            Kind.PROOF: fresh_other.verify,
            Kind.ANSWER: fresh_one.finish,
        }
        assert reason(lambda step=steps[which], cut=cut: step(cut)) == "malformed"


def test_the_highest_common_version_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """N-03: an older node and a newer one."""
    monkeypatch.setattr(handshake, "VERSION_MAX", 3)
    one = dialler()
    monkeypatch.setattr(handshake, "VERSION_MAX", 2)
    other = listener()
    challenge = other.challenge(one.hello)
    proof = one.prove(challenge, A)
    other.verify(proof)
    assert (one.version, other.version) == (2, 2)


def test_without_a_common_version_both_ends_say_which_they_speak(monkeypatch: pytest.MonkeyPatch) -> None:
    """N-03: a clear error at both ends, before anything is proven."""
    one = dialler()
    monkeypatch.setattr(handshake, "VERSION_MIN", 2)
    monkeypatch.setattr(handshake, "VERSION_MAX", 4)
    other = listener()
    challenge = other.challenge(one.hello)
    with pytest.raises(HandshakeRefused, match=r"versions 1 to 1 .* this node 2 to 4"):
        other.require_version()
    monkeypatch.setattr(handshake, "VERSION_MIN", 1)
    monkeypatch.setattr(handshake, "VERSION_MAX", 1)
    with pytest.raises(HandshakeRefused, match=r"versions 2 to 4 .* this node 1 to 1") as found:
        one.prove(challenge, A)
    assert found.value.reason == "version"


@pytest.mark.parametrize(
    ("theirs", "ours", "expected"),
    [
        (("c", "u1"), ("c", "u1"), None),
        (("c", ""), ("c", "u1"), None),
        (("c", "u1"), ("c", ""), None),
        (("c", ""), ("c", ""), None),
        (("c", "u2"), ("c", "u1"), "cluster"),
        (("d", "u1"), ("c", "u1"), "cluster"),
        (("d", ""), ("c", ""), "cluster"),
        (("C", "u1"), ("c", "u1"), "cluster"),
    ],
)
def test_only_nodes_of_one_cluster_talk_and_a_newcomer_takes_any_of_its_name(
    theirs: tuple[str, str], ours: tuple[str, str], expected: str | None
) -> None:
    """Promise 25."""
    claims = replace(A, cluster=ClusterIdentity(*theirs))
    if expected is None:
        check_claims(claims, Peer("b"), ClusterIdentity(*ours))
    else:
        assert reason(lambda: check_claims(claims, Peer("b"), ClusterIdentity(*ours))) == expected


@pytest.mark.parametrize(("me", "expected"), [("b", None), ("c", "stranger")])
def test_who_wants_another_node_than_the_one_it_reached_is_refused(me: str, expected: str | None) -> None:
    """A wrong address must not replace the session that the two have."""
    if expected is None:
        check_claims(A, Peer(me), A.cluster)
    else:
        assert reason(lambda: check_claims(A, Peer(me), A.cluster)) == expected
    check_claims(B, Peer(me + "x"), A.cluster)


@pytest.mark.parametrize("incarnation", [11, 12])
def test_a_peer_with_our_own_name_is_refused(incarnation: int) -> None:
    """Two nodes with one name, or a node that dialled itself."""
    assert reason(lambda: check_claims(A, Peer("a", incarnation), A.cluster)) == "self"


def test_the_refusal_is_the_same_whatever_the_reason() -> None:
    """Promise 40: and a dialler that is told so knows no more than that."""
    assert len(REFUSED) == LENGTH_BYTES + 1
    one = dialler()
    assert reason(lambda: one.prove(REFUSED, A)) == "refused"
    one.prove(listener().challenge(one.hello), A)
    assert reason(lambda: one.finish(REFUSED)) == "refused"


@pytest.mark.parametrize(
    ("length", "is_taken"), [(0, False), (1, True), (MESSAGE_BYTES_MAX, True), (MESSAGE_BYTES_MAX + 1, False)]
)
def test_a_length_is_judged_before_anything_is_kept(length: int, is_taken: bool) -> None:
    """An HTTP request or a TLS hello says more than that in its first two bytes."""
    if is_taken:
        assert message_bytes(length.to_bytes(LENGTH_BYTES, "big")) == length
    else:
        assert reason(lambda: message_bytes(length.to_bytes(LENGTH_BYTES, "big"))) == "malformed"
    for first in (b"GE", b"\x16\x03", b"\xff\xff"):
        assert reason(lambda first=first: message_bytes(first)) == "malformed"


def body_of(kind: Kind, body: object) -> bytes:
    data = bytes([kind]) + cbor2.dumps(body)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


NONCE, KEY = bytes(32), signing.Exchange(bytes(range(32))).public


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        [1, 1, NONCE],
        [1, 1, NONCE, KEY, 0],
        ["1", 1, NONCE, KEY],
        [True, 1, NONCE, KEY],
        [2, 1, NONCE, KEY],
        [0, 1, NONCE, KEY],
        [1, 1, NONCE[1:], KEY],
        [1, 1, NONCE, KEY + b"\0"],
        [1, 1, NONCE, KEY[:-1]],
    ],
)
def test_a_hello_that_is_none_is_refused(body: object) -> None:
    assert reason(lambda: listener().challenge(body_of(Kind.HELLO, body))) == "malformed"


def test_a_key_that_would_make_the_exchange_known_to_all_is_refused() -> None:
    """RFC 7748, 6.1: the point of order two."""
    one = dialler()
    assert reason(lambda: one.prove(body_of(Kind.CHALLENGE, [1, 1, NONCE, bytes(32)]), A)) == "malformed"


@pytest.mark.parametrize(
    "claims",
    [
        replace(A, peer=Peer("", 1)),
        replace(A, peer=Peer("a\n", 1)),
        replace(A, peer=Peer("a" * 257, 1)),
        replace(A, peer=Peer("a", -1)),
        replace(A, address="nowhere"),
        replace(A, address="h:0"),
        replace(A, boot=bytes(17)),
        replace(A, known=bytes(17)),
        replace(A, facts=PeerFacts(cores=-1)),
        replace(A, wanted="\0"),
        replace(A, facts=PeerFacts(role="\x1b[2J")),
        replace(A, cluster=ClusterIdentity("c", "u" * 257)),
    ],
)
def test_claims_that_cannot_be_are_refused_although_they_are_proven(claims: Claims) -> None:
    """What they say ends in tables, logs and on screens."""
    one, other = dialler(), listener()
    proof = one.prove(other.challenge(one.hello), claims)
    assert reason(lambda: other.verify(proof)) == "malformed"


def test_messages_out_of_turn_are_our_own_mistake() -> None:
    """The order is the code's, not the peer's."""
    with pytest.raises(AssertionError):
        dialler().finish(REFUSED)
    with pytest.raises(AssertionError):
        listener().verify(REFUSED)


@given(st.binary(max_size=300))
def test_nonsense_is_refused_and_breaks_nothing(data: bytes) -> None:
    """Whatever comes: HandshakeRefused and nothing else."""
    message = len(data).to_bytes(LENGTH_BYTES, "big") + data
    for kind in Kind:
        for each in (message, body_of(kind, data), (1 + len(data)).to_bytes(2, "big") + bytes([kind]) + data):
            reason(lambda each=each: listener().challenge(each))
            waiting = listener()
            waiting.challenge(dialler().hello)
            reason(lambda each=each, end=waiting: end.verify(each))


@pytest.mark.parametrize("text", ["h:1", "10.0.0.1:65535", "[::1]:9100"])
def test_addresses_are_read_as_they_are_written(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "h", ":1", "h:", "h:0", "h:65536", "h:-1", "h:x", "h:²"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not host:port"):
        Address.parse(text)
