"""Planted bugs of what becomes of files once they are registered: merged, replaced, dropped."""

from __future__ import annotations

from simulations.mutants.mutant import Mutant
from simulations.mutants.planting import Edit, by_story, by_tests

SWAPPING = "arc/compaction/swapping.py"
RUNNER = "arc/compaction/runner.py"
KEEPER = "arc/storage/keeper.py"

COMPACTION: tuple[Mutant, ...] = (
    by_story(
        "R-61",
        "compaction",
        "outputs stand for their sources before anybody else has them",
        "world_compaction",
        Edit(SWAPPING, "        return await self._copies.spread(outputs)\n", "        return ()\n"),
    ),
    by_story(
        "R-62",
        "compaction",
        "sources stay in the manifest beside the output",
        "world_compaction",
        Edit(
            SWAPPING,
            'deletes = [DeleteSource(path=path, reason=f"compaction:{job}") for path in sources]',
            "deletes: list[DeleteSource] = []",
        ),
    ),
    by_tests(
        "R-63",
        "compaction",
        "a swap whose outcome is not known is given up, and its outputs removed",
        ("tests/compaction/test_runner.py",),
        Edit(
            SWAPPING,
            "            except (Unavailable, OutcomeUnknown) as problem:\n                self._tally",
            "            except OutcomeUnknown as problem:\n"
            '                raise Unavailable("it did not happen") from problem\n'
            "            except Unavailable as problem:\n                self._tally",
        ),
    ),
    by_tests(
        "R-64",
        "storage",
        "a node that took a file sets it aside at its next start, before the swap that counts on it",
        ("tests/storage/test_keeper.py",),
        Edit(
            KEEPER, "tuple(path for path in difference.unknown if epoch_of(path) not in reigns)", "difference.unknown"
        ),
    ),
    by_tests(
        "R-65",
        "storage",
        "files that left the manifest are unlinked although a query reads them",
        ("tests/storage/test_keeper.py",),
        Edit(KEEPER, "elif since <= limit and path not in self._pins:", "elif since <= limit:"),
    ),
    by_tests(
        "R-66",
        "compaction",
        "rows with the key at which windows are cut are left out",
        ("tests/compaction/test_merge.py",),
        Edit(
            "arc/compaction/merge.py",
            "                        yield pa.Table.from_batches([rows])\n",
            "                        pass\n",
        ),
        Edit(
            "arc/compaction/merge.py",
            "if not (rows_out == rows_in or (deduplicate and 0 < rows_out < rows_in)):",
            "if False:",
        ),
    ),
    by_tests(
        "R-67",
        "compaction",
        "a source whose bits have rotted gets a fresh hash by being merged",
        ("tests/compaction/test_merge.py",),
        Edit("arc/compaction/windows.py", "        verify(view, self.entry, pause)\n", ""),
    ),
    by_tests(
        "R-68",
        "replication",
        "files are taken from whoever offers them, whatever lease he holds",
        ("tests/replication/test_offers.py",),
        Edit("arc/replication/taking.py", "lease.holder == peer and lease.epoch == entry.epoch", "True"),
    ),
    by_tests(
        "R-69",
        "replication",
        "a file that was taken is not kept until the manifest has it",
        ("tests/replication/test_offers.py",),
        Edit("arc/replication/taking.py", "self._files.pin([entry.path])", "pass"),
        Edit("arc/replication/taking.py", "self._files.unpin([path])", "pass"),
    ),
    by_tests(
        "R-70",
        "compaction",
        "what was written last does not win when rows are deduplicated",
        ("tests/compaction/test_merge.py",),
        Edit(
            "arc/compaction/merge.py",
            "np.append(keys[1:] != keys[:-1], True)",
            "np.append(True, keys[1:] != keys[:-1])",
        ),
    ),
    by_tests(
        "R-71",
        "compaction",
        "files are merged with others that are no neighbours in the order of the WAL",
        ("tests/compaction/test_tiers.py",),
        Edit("arc/compaction/tiers.py", "            if not between:\n", "            if True:\n"),
    ),
    by_tests(
        "R-72",
        "compaction",
        "a receipt of an earlier grant is swapped",
        ("tests/compaction/test_receipt.py",),
        Edit("arc/compaction/receipt.py", "and lease.epoch == receipt.epoch", ""),
    ),
)
