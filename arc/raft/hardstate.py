"""Term and vote on disk: two blocks of one preallocated file, written in turns.

A change costs one device write and never needs room. A slot holds its state twice, in sectors of their own, so a write
that a power cut tears leaves the old or the new state readable in it. Hence a slot in which nothing can be read was not
torn: it held what was promised, perhaps the newest vote, and a node that forgot its vote must not vote (Raft paper,
figure 2: persistent state).
"""

from __future__ import annotations

import struct

import google_crc32c

from arc.errors import Corrupt, DiskFailed
from arc.ports import BLOCK_BYTES, Disk, LogFile
from arc.raft.types import HardState, Peer

NAME = "hard-state.log"
FORMER = "hard-state"
"""One small file that was replaced whole; read once, then removed."""

COPY_BYTES = BLOCK_BYTES // 2

_MAGIC = b"ARCHARD2"
_HEAD = struct.Struct("<8sQQQI")  # magic, sequence, term, incarnation of the vote, length of its name (+ 1, 0: nobody)
_FORMER_MAGIC = b"ARCHARD1"
_FORMER_HEAD = struct.Struct("<8sQI")  # magic, term, length of the vote
_CRC = struct.Struct("<I")


class HardStateFile:
    """The file, opened. Blocks; one caller at a time."""

    def __init__(self, file: LogFile, path: str, sequence: int, state: HardState, finding: str = "") -> None:
        self._file = file
        self._path = path
        self._sequence = sequence
        self._failed = False
        self.state = state
        self.finding = finding
        """A damaged copy that the other one made up for; empty when there is none."""

    def __repr__(self) -> str:
        return f"<HardStateFile {self._path} term={self.state.term} vote={self.state.vote} writes={self._sequence}>"

    @classmethod
    def create(cls, disk: Disk, folder: str, state: HardState) -> HardStateFile:
        """Make the file; there is none before this returns, and a whole one after. Raises OSError."""
        path = f"{folder}/{NAME}"
        draft = f"{path}.new"
        disk.remove(draft)
        file = disk.create_log(draft, 2 * BLOCK_BYTES)
        file.write_durable(0, [_encode(0, state), _encode(1, state)])
        disk.rename(draft, path)
        disk.remove(f"{folder}/{FORMER}")
        return cls(file, path, 1, state)

    @classmethod
    def open(cls, disk: Disk, folder: str) -> HardStateFile | None:
        """Open the file, taking over the former one; None when there is neither. Raises Corrupt, OSError."""
        path, former = f"{folder}/{NAME}", f"{folder}/{FORMER}"
        if not disk.exists(path):
            return cls.create(disk, folder, read_former(disk, former)) if disk.exists(former) else None
        disk.remove(former)
        sequence, state, finding = decode(disk.read(path), path)
        file = disk.open_log(path)
        # A vote that a former process did not see through may be there to read, and gone after the next power cut.
        _write(file, sequence, state)
        return cls(file, path, sequence, state, finding)

    def save(self, state: HardState) -> bool:
        """Make it durable. Returns False when it is stored already. Raises DiskFailed, and refuses all from then on.

        The term never goes back, a vote is given once.
        """
        old = self.state
        if self._failed:
            raise DiskFailed(f"an earlier write of {self._path} failed; what is stored is unknown until a restart")
        if state == old:
            return False
        assert state.term >= old.term, (state, old)
        assert state.term > old.term or old.vote in (None, state.vote), (state, old)
        sequence = self._sequence + 1
        try:
            _write(self._file, sequence, state)
        except OSError as error:
            self._failed = True
            raise DiskFailed(f"writing {self._path} failed: {error}") from error
        self._sequence, self.state = sequence, state
        return True

    def close(self) -> None:
        """Release the file."""
        self._file.close()


def decode(data: bytes, path: str) -> tuple[int, HardState, str]:
    """(sequence, newest state, damage that did not matter). Raises Corrupt."""
    newest: list[tuple[int, HardState]] = []
    finding = ""
    for slot in range(2):
        copies = [_decode(data, slot * BLOCK_BYTES + place) for place in (0, COPY_BYTES)]
        whole = [copy for copy in copies if copy is not None and copy[0] % 2 == slot]
        if not whole:
            raise Corrupt("term and vote cannot be read, and this node must not forget whom it voted for. Remove the "
                          "node from the cluster and add it again with an empty data directory",
                          path=path, offset=slot * BLOCK_BYTES)  # fmt: skip
        if len(whole) < 2:
            finding = f"one of the two copies of term and vote at offset {slot * BLOCK_BYTES} of {path} is damaged"
        newest.append(max(whole))
    (first, _), (second, _) = newest
    if abs(first - second) != 1:
        raise Corrupt(f"writes {first} and {second} are not neighbours: one was lost", path=path, offset=0)
    sequence, state = max(newest)
    return sequence, state, finding


def read_former(disk: Disk, path: str) -> HardState:
    """The state in a file of the former format. Raises Corrupt."""
    data = disk.read(path)
    body, crc = data[: -_CRC.size], data[-_CRC.size :]
    if len(body) < _FORMER_HEAD.size or crc != _CRC.pack(google_crc32c.value(body)):
        raise Corrupt("the hard state does not match its checksum", path=path, offset=0)
    magic, term, length = _FORMER_HEAD.unpack_from(body)
    vote = body[_FORMER_HEAD.size :]
    if magic != _FORMER_MAGIC or len(vote) != length:
        raise Corrupt("not a hard state of this version", path=path, offset=0)
    return HardState(term, Peer.parse(vote[1:].decode()) if vote else None)


def _write(file: LogFile, sequence: int, state: HardState) -> None:
    """Into the slot that this write is for: the other one keeps the write before."""
    file.write_durable(sequence % 2 * BLOCK_BYTES, [_encode(sequence, state)])


def _encode(sequence: int, state: HardState) -> bytes:
    vote = state.vote
    name = b"" if vote is None else vote.name.encode()
    body = _HEAD.pack(_MAGIC, sequence, state.term, vote.incarnation if vote else 0, len(name) + 1 if vote else 0)
    copy = body + name + _CRC.pack(google_crc32c.value(body + name))
    assert len(copy) <= COPY_BYTES, state
    return copy.ljust(COPY_BYTES, b"\0") * 2


def _decode(data: bytes, place: int) -> tuple[int, HardState] | None:
    if len(data) < place + COPY_BYTES:
        return None
    magic, sequence, term, incarnation, length = _HEAD.unpack_from(data, place)
    end = place + _HEAD.size + max(length - 1, 0)
    if magic != _MAGIC or end + _CRC.size > place + COPY_BYTES:
        return None
    if _CRC.unpack_from(data, end)[0] != google_crc32c.value(data[place:end]):
        return None
    vote = Peer(data[place + _HEAD.size : end].decode(), incarnation) if length else None
    return sequence, HardState(term, vote)
