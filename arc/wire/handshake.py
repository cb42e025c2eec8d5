"""Who are you, and do you know the secret: four messages before a session, without any input or output.

::

    dialler → HELLO      versions, nonce, ephemeral key
    listener → CHALLENGE versions, nonce, ephemeral key           nothing about itself: it knows nobody yet
    dialler → PROOF      claims, MAC over all of the above         label "dialler"
    listener → ANSWER    claims, verdict, MAC over all of the above  label "listener"

Claims are who one is: name and incarnation, cluster, role, addresses, software. All bytes of all four messages are
under the MACs and in the keys of the session, so nothing can be replayed (nonces), sent back (labels), moved to another
cluster (claims) or talked down to an older version (ranges). Whoever is refused is told one byte that is the same for
every reason; the reason stays with the one who refuses, in `HandshakeRefused`.

Not here: which of two sessions stays (`arc.wire.settlement`), and time limits (`arc.wire.session`).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import cbor2

from arc.raft.types import TERM_MAX, Peer
from arc.security import signing
from arc.wire.facts import Address, ClusterIdentity, PeerFacts

VERSION_MIN, VERSION_MAX = 1, 1
"""Protocols that this node speaks. The highest that both speak is taken."""

MESSAGE_BYTES_MAX = 4096
LENGTH_BYTES = 2
CHANCE_BYTES = signing.NONCE_BYTES + signing.KEY_BYTES
TEXT_CHARS_MAX = 256
ID_BYTES = 16

_PROTOCOL = b"arc peer session"


class Kind(IntEnum):
    """First byte of a message of the handshake."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    ANSWER = 4
    REFUSED = 5


class Purpose(IntEnum):
    """What a connection is for."""

    SESSION = 0
    """The one stream between two nodes."""
    ASK = 1
    """Some questions by one who knows nothing but an address; it stands beside the session and ends soon."""


class Verdict(IntEnum):
    """What the listener makes of a peer that has proven who it is."""

    ACCEPTED = 0
    SETTLED = 1
    """Another session of these two stands or is about to; this connection closes."""


class HandshakeRefused(ValueError):
    """This is no peer to talk to. ``reason`` is one word for counters; the text is for the local log alone."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """Who a node says it is."""

    peer: Peer
    cluster: ClusterIdentity
    address: str
    facts: PeerFacts
    boot: bytes
    """Chosen anew by every process, so that a session with a former life is known as such."""
    known: bytes = b""
    """The last session with this peer that stood here, empty: none in this life."""
    purpose: Purpose = Purpose.SESSION
    wanted: str = ""
    """Name of the node that is dialled, empty: whoever listens there. Another one must not take it for its own."""


class Keys(NamedTuple):
    """What a handshake leaves: a name for the session, and a key for each direction."""

    session: bytes
    to_listener: bytes
    to_dialler: bytes


REFUSED = (1).to_bytes(LENGTH_BYTES, "big") + bytes([Kind.REFUSED])
"""The whole message, the same for every reason."""


class DiallerHandshake:
    """The end that opened the connection. ``secret`` is shared by the cluster, ``chance`` has `CHANCE_BYTES`."""

    def __init__(self, secret: bytes, chance: bytes) -> None:
        self._secret = secret
        self._nonce = chance[: signing.NONCE_BYTES]
        self._exchange = signing.Exchange(chance[signing.NONCE_BYTES :])
        self._stage = Kind.HELLO
        self.hello = _message(Kind.HELLO, [VERSION_MIN, VERSION_MAX, self._nonce, self._exchange.public])

    def __repr__(self) -> str:
        return f"<DiallerHandshake after {self._stage.name}>"

    def prove(self, challenge: bytes, claims: Claims) -> bytes:
        """PROOF, the answer to a CHALLENGE. Raises HandshakeRefused."""
        assert self._stage is Kind.HELLO, self
        body = _body(challenge, Kind.CHALLENGE)
        versions, public = _opening(body)
        self.version = _common(versions)
        self._transcript = signing.digest(_PROTOCOL, self.hello, challenge)
        self._root = signing.root_key(self._secret, _exchanged(self._exchange, public), self._transcript)
        self._claims = _encode_claims(claims)
        self._proof = _prove_dialler(self._root, self._transcript, self._claims)
        self._stage = Kind.PROOF
        return _message(Kind.PROOF, [self._claims, self._proof])

    def finish(self, answer: bytes) -> tuple[Claims, Verdict]:
        """Who the listener is and what it decided, from its ANSWER. Raises HandshakeRefused."""
        assert self._stage is Kind.PROOF, self
        claims, verdict, proof = _list(_body(answer, Kind.ANSWER), (bytes, int, bytes))
        expected = _prove_listener(self._root, self._transcript, self._claims, self._proof, claims, verdict)
        if not signing.is_equal(proof, expected):
            raise HandshakeRefused("secret", "the listener does not know our secret")
        if verdict not in (Verdict.ACCEPTED, Verdict.SETTLED):
            raise HandshakeRefused("malformed", f"no such verdict: {verdict}")
        self._stage = Kind.ANSWER
        self.keys = _keys(self._root, self._transcript, self._claims, self._proof, claims, proof)
        return _decode_claims(claims), Verdict(verdict)


class ListenerHandshake:
    """The end that was called."""

    def __init__(self, secret: bytes, chance: bytes) -> None:
        self._secret = secret
        self._nonce = chance[: signing.NONCE_BYTES]
        self._exchange = signing.Exchange(chance[signing.NONCE_BYTES :])
        self._stage = Kind.REFUSED

    def __repr__(self) -> str:
        return f"<ListenerHandshake after {self._stage.name}>"

    def challenge(self, hello: bytes) -> bytes:
        """CHALLENGE, the answer to a HELLO. Raises HandshakeRefused."""
        assert self._stage is Kind.REFUSED, self
        self._versions, self._public = _opening(_body(hello, Kind.HELLO))
        challenge = _message(Kind.CHALLENGE, [VERSION_MIN, VERSION_MAX, self._nonce, self._exchange.public])
        self._transcript = signing.digest(_PROTOCOL, hello, challenge)
        self._stage = Kind.CHALLENGE
        return challenge

    def require_version(self) -> None:
        """Raises HandshakeRefused when nothing in common is spoken. To be asked after CHALLENGE has left: the other end
        has our range by then, and can tell the same.
        """
        self.version = _common(self._versions)

    def verify(self, proof: bytes) -> Claims:
        """Who the dialler is, from its PROOF. Raises HandshakeRefused."""
        assert self._stage is Kind.CHALLENGE, self
        self.require_version()
        root = signing.root_key(self._secret, _exchanged(self._exchange, self._public), self._transcript)
        claims, mac = _list(_body(proof, Kind.PROOF), (bytes, bytes))
        if not signing.is_equal(mac, _prove_dialler(root, self._transcript, claims)):
            raise HandshakeRefused("secret", "the dialler does not know our secret")
        self._root, self._theirs, self._proof = root, claims, mac
        self._stage = Kind.PROOF
        return _decode_claims(claims)

    def answer(self, claims: Claims, verdict: Verdict) -> bytes:
        """ANSWER: who this node is and what it decided."""
        assert self._stage is Kind.PROOF, self
        ours = _encode_claims(claims)
        mac = _prove_listener(self._root, self._transcript, self._theirs, self._proof, ours, verdict)
        self._stage = Kind.ANSWER
        self.keys = _keys(self._root, self._transcript, self._theirs, self._proof, ours, mac)
        return _message(Kind.ANSWER, [ours, int(verdict), mac])


def message_bytes(length: bytes) -> int:
    """How long the message behind these `LENGTH_BYTES` is. Raises HandshakeRefused before anything is allocated."""
    size = int.from_bytes(length, "big")
    if not 0 < size <= MESSAGE_BYTES_MAX:
        raise HandshakeRefused("malformed", f"a first message of {size} bytes: this is no peer of ours")
    return size


def check_claims(theirs: Claims, me: Peer, cluster: ClusterIdentity) -> None:
    """Whether a proven peer is one to talk to. Raises HandshakeRefused."""
    if theirs.peer.name == me.name:
        same = theirs.peer == me
        raise HandshakeRefused("self", "this is the node itself" if same else f"{theirs.peer} has our own name")
    if theirs.wanted not in ("", me.name):
        raise HandshakeRefused("stranger", f"{theirs.peer} wants {theirs.wanted} and has dialled {me}")
    if not cluster.agrees(theirs.cluster):
        raise HandshakeRefused(
            "cluster", f"{theirs.peer} belongs to cluster {_named(theirs.cluster)}, this node to {_named(cluster)}"
        )


# ------------------------------------------------------------------------------------------------------------- proofs


def _prove_dialler(root: bytes, transcript: bytes, claims: bytes) -> bytes:
    return signing.proof(signing.labelled_key(root, b"proof of the dialler"), transcript, claims)


def _prove_listener(
    root: bytes, transcript: bytes, theirs: bytes, their_proof: bytes, ours: bytes, verdict: int
) -> bytes:
    key = signing.labelled_key(root, b"proof of the listener")
    return signing.proof(key, transcript, theirs, their_proof, ours, bytes([verdict & 0xFF]))


def _keys(root: bytes, *said: bytes) -> Keys:
    whole = signing.digest(*said)
    return Keys(
        session=signing.labelled_key(root, b"name of the session", whole)[:ID_BYTES],
        to_listener=signing.labelled_key(root, b"from the dialler to the listener", whole),
        to_dialler=signing.labelled_key(root, b"from the listener to the dialler", whole),
    )


def _exchanged(exchange: signing.Exchange, public: bytes) -> bytes:
    try:
        return exchange.with_public(public)
    except ValueError as error:
        raise HandshakeRefused("malformed", f"no ephemeral key: {error}") from error


def _common(theirs: tuple[int, int]) -> int:
    version = min(VERSION_MAX, theirs[1])
    if version < max(VERSION_MIN, theirs[0]):
        raise HandshakeRefused(
            "version",
            f"the peer speaks versions {theirs[0]} to {theirs[1]} of this protocol, this node {VERSION_MIN} to "
            f"{VERSION_MAX}",
        )
    return version


# ------------------------------------------------------------------------------------------------------------ messages


def _message(kind: Kind, body: list[object]) -> bytes:
    data = bytes([kind]) + cbor2.dumps(body)
    assert len(data) <= MESSAGE_BYTES_MAX, len(data)
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _body(message: bytes, kind: Kind) -> object:
    if message == REFUSED:
        raise HandshakeRefused("refused", "the peer refused this node; its log tells why")
    if len(message) <= LENGTH_BYTES or message_bytes(message[:LENGTH_BYTES]) != len(message) - LENGTH_BYTES:
        raise HandshakeRefused("malformed", "a message that is cut")
    if message[LENGTH_BYTES] != kind:
        raise HandshakeRefused("malformed", f"{kind.name} expected, found {message[LENGTH_BYTES]}")
    try:
        return cbor2.loads(message[LENGTH_BYTES + 1 :])
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError) as error:
        raise HandshakeRefused("malformed", f"not CBOR: {error}") from error


def _opening(body: object) -> tuple[tuple[int, int], bytes]:
    least, most, nonce, public = _list(body, (int, int, bytes, bytes))
    if not 0 < least <= most or len(nonce) != signing.NONCE_BYTES or len(public) != signing.KEY_BYTES:
        raise HandshakeRefused("malformed", "versions, nonce or key are out of range")
    return (least, most), public


def _encode_claims(claims: Claims) -> bytes:
    return cbor2.dumps(
        [
            *claims.peer,
            *claims.cluster,
            claims.address,
            *astuple(claims.facts),
            claims.boot,
            claims.known,
            int(claims.purpose),
            claims.wanted,
        ]
    )


_CLAIMS = (str, int, str, str, str, str, str, str, int, bytes, bytes, int, str)


def _decode_claims(data: bytes) -> Claims:
    try:
        body = cbor2.loads(data)
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError) as error:
        raise HandshakeRefused("malformed", f"claims that are not CBOR: {error}") from error
    fields = _list(body, _CLAIMS)
    name, incarnation, cluster, uuid, address, role, api, version, cores, boot, known, purpose, wanted = fields
    texts = (name, cluster, uuid, address, role, api, version, wanted)
    if not name or any(len(text) > TEXT_CHARS_MAX or not text.isprintable() for text in texts):
        raise HandshakeRefused("malformed", "claims with texts that cannot be names")
    if not 0 <= incarnation <= TERM_MAX or not 0 <= cores < 1 << 20 or len(boot) > ID_BYTES or len(known) > ID_BYTES:
        raise HandshakeRefused("malformed", "claims with numbers that cannot be")
    try:
        Address.parse(address)
        meant = Purpose(purpose)
    except ValueError as error:
        raise HandshakeRefused("malformed", f"claims: {error}") from error
    return Claims(
        peer=Peer(name, incarnation),
        cluster=ClusterIdentity(cluster, uuid),
        address=address,
        facts=PeerFacts(role=role, api_address=api, version=version, cores=cores),
        boot=boot,
        known=known,
        purpose=meant,
        wanted=wanted,
    )


def _list(body: object, types: tuple[type, ...]) -> Any:
    """A list of exactly these types."""
    if type(body) is not list or tuple(map(type, body)) != types:
        raise HandshakeRefused("malformed", "fields of wrong number or types")
    return body


def _named(cluster: ClusterIdentity) -> str:
    return f"{cluster.name} ({cluster.uuid or 'no identity yet'})"
