"""Planted bugs around the core: in what stands for the driver, its disk, the state machine and the clients.

The simulator of bare cores runs these stand-ins, which do what the real ones do and nothing cleverer; the checkers and
the ghost's own state machine are left alone, so a bug here is judged like one in the core.
"""

from __future__ import annotations

from simulations.mutants.mutant import CLIENT, CODEC, DISK, DRIVER, MACHINE, STORAGE, Mutant
from simulations.mutants.plant import Edit

DEEDS, HOST = "simulations.deeds", "simulations.host"

AROUND = (
    Mutant(
        "K-25",
        "terms are cut to 32 bits on the wire",
        "A",
        (
            Edit(
                "arc/raft/codec.py",
                "    return value if type(value) is int and 0 <= value <= TERM_MAX else",
                "    return value & 0xFFFFFFFF if type(value) is int and 0 <= value <= TERM_MAX else",
            ),
        ),
        CODEC,
        tests=("tests/raft/test_codec.py",),
    ),
    Mutant(
        "K-52",
        "checksums are not looked at when a log is opened",
        "A",
        (
            Edit(
                "arc/journal/frames.py",
                'if cursor == limit and google_crc32c.extend(crc, b"".join(records)) == stored:',
                "if cursor == limit:",
            ),
        ),
        STORAGE,
        tests=("tests/journal", "tests/raft/test_storage.py", "tests/raft/test_storage_damage.py"),
    ),
    Mutant(
        "K-53",
        "a damaged record in the middle is taken for the end of the log",
        "A",
        (Edit(HOST, "is_damaged=self.disk.is_damaged,", "is_damaged=False,"),),
        DRIVER,
    ),
    Mutant(
        "K-53b",
        "the same in the real storage: what is found damaged is not told",
        "A",
        (Edit("arc/raft/opening.py", "is_damaged=log.mark is not None,", "is_damaged=False,"),),
        STORAGE,
        tests=("tests/raft/test_storage_damage.py",),
    ),
    Mutant(
        "K-55",
        "a sync that failed is asked again and believed",
        "A",
        (
            Edit(
                DEEDS,
                "    if disk.is_failing:\n",
                "    if disk.is_failing:\n"
                "        disk.is_failing = False  # The page cache calls them clean now; the disk never saw them.\n"
                "        disk.pending[:] = [write for write in disk.pending if write.write_id > covered]\n"
                "    if disk.is_failing:\n",
            ),
        ),
        DRIVER,
    ),
    Mutant(
        "K-56",
        "a batch that found room for a part only is reported done",
        "A",
        (Edit(DEEDS, "    if refused:\n", "    if False:\n"),),
        DRIVER,
    ),
    Mutant(
        "K-58",
        "recovery trusts a commit hint beyond the log that is there",
        "B",
        (
            Edit(
                HOST,
                "        self.state = self.core.state\n",
                "        self.state = self.core.state\n"
                "        self.state.commit = max(self.state.commit, self.memory.commit)\n",
            ),
        ),
        DRIVER,
    ),
    Mutant(
        "K-61",
        "the applied index is stored apart from the machine: a crash between them applies twice",
        "A",
        (
            Edit(
                HOST,
                "        self.machine = Machine(world.plan.has_sessions)\n        if synced.snapshot is not None:\n",
                "        kept = getattr(self, 'machine', None)\n"
                "        self.machine = kept or Machine(world.plan.has_sessions)\n"
                "        if synced.snapshot is not None and kept is None:\n",
            ),
        ),
        DRIVER,
    ),
    Mutant(
        "K-62",
        "a cut reaches the disk after the entries that follow it",
        "B",
        (
            Edit(
                "simulations.disk",
                "        if cut is not None:\n            if parts <= 0:\n                return\n",
                "        if cut is not None and parts < 3 + len(write.entries):\n"
                "            cut, parts = None, parts + 1\n"
                "        if cut is not None:\n            if parts <= 0:\n                return\n",
            ),
            Edit(  # What a crash keeps of a write may be its entries alone.
                "simulations.disk",
                "            if draw < shape.keep:\n                self.synced.do(write, with_entries",
                "            if draw < shape.keep:\n"
                "                self.synced.do(write, 2 + len(write.entries), with_entries",
            ),
        ),
        DISK,
    ),
    Mutant(
        "K-64",
        "an old copy of the disk is accepted",
        "C",
        (Edit(HOST, "        if not world.plan.is_disk_checked:\n", "        if True:\n"),),
        DISK,
    ),
    Mutant(
        "K-67",
        "a snapshot is stamped with the current term, not with that of its index",
        "A",
        (Edit(DEEDS, "    term = state.log.term(index)\n", "    term = state.term\n"),),
        DRIVER,
    ),
    Mutant(
        "K-73",
        "the state machine goes on while its snapshot is being written",
        "A",
        (
            Edit(
                DEEDS,
                "    life, meta, image = ticket\n",
                "    life, meta, image = ticket\n"
                "    if life == host.life:\n"
                "        image = host.machine.dump()\n"
                "        meta = meta._replace(size_bytes=len(image), digest=f'{zlib.crc32(image):08x}')\n",
            ),
        ),
        DRIVER,
    ),
    Mutant(
        "K-94",
        "sessions expire by the local clock",
        "A",
        (
            Edit(
                DEEDS,
                "        answer = host.machine.apply(entry)\n",
                "        now, used = host.local(host.world.now), host.__dict__.setdefault('used', {})\n"
                "        for client in [it for it in host.machine.sessions if now > used.get(it, now) + 1.0]:\n"
                "            del host.machine.sessions[client]\n"
                "        used.update((each, now) for each in host.machine.sessions if each not in used)\n"
                "        answer = host.machine.apply(entry)\n"
                "        if entry.payload and isinstance(entry.payload, bytes):\n"
                "            used[entry.payload.decode().split(' ')[0]] = now\n",
            ),
        ),
        MACHINE,
    ),
    Mutant(
        "K-95",
        "the machine walks a set in an order that differs between processes",
        "A",
        (
            Edit(
                "simulations.machine",
                "sorted(self.registers.items())",
                # The hash seed of a process, for which the identity of its machine stands here.
                "sorted(self.registers.items(), key=lambda pair: hash((pair[0], id(self))))",
            ),
        ),
        MACHINE,
    ),
    Mutant(
        "K-97",
        "a retry gets a new serial: nobody can tell that it is one",
        "A",
        (
            Edit(
                "simulations.workload",
                "            self.send()\n\n    def _rest",
                "            self.serial += 1\n            operation.serial = self.serial\n"
                "            self.send()\n\n    def _rest",
            ),
        ),
        CLIENT,
    ),
)
