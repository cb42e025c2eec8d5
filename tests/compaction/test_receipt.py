"""A receipt says after any crash what is to become of the outputs it names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from arc.compaction.receipt import RECEIPTS, Receipt, Resumed, read_receipts, receipt_path, resume, write_receipt
from arc.storage.files import FileEntry
from tests.catalog.facts import file
from tests.compaction.catalogs import catalog_of
from tests.fakes import MemoryDisk

OLD, NEW = [file("a"), file("b", hour=1)], [file("c")]
RECEIPT = Receipt(
    job=7,
    tier="daily",
    epoch=5,
    outputs=tuple(NEW),
    drafts=("compaction/7/part-0000",),
    sources=tuple((f.path, f.sha256) for f in OLD),
)


@pytest.mark.parametrize(
    ("files", "holder", "epoch", "whole", "expected"),
    [
        (OLD, "n1", 5, True, Resumed.SWAP),
        (OLD, "n1", 5, False, Resumed.DISCARD),
        (OLD, "n2", 5, True, Resumed.DISCARD),
        (OLD, "n1", 6, True, Resumed.DISCARD),
        (OLD[:1], "n1", 5, True, Resumed.DISCARD),
        ([OLD[0], replace(OLD[1], sha256="6" * 64)], "n1", 5, True, Resumed.DISCARD),
        (NEW, "n1", 5, True, Resumed.DONE),
        (NEW, "n2", 9, False, Resumed.DONE),
        ([replace(NEW[0], sha256="6" * 64)], "n1", 5, True, Resumed.DISCARD),
        ([], "n1", 5, True, Resumed.DISCARD),
    ],
)
def test_what_becomes_of_a_job(
    files: Sequence[FileEntry], holder: str, epoch: int, whole: bool, expected: Resumed
) -> None:
    catalog = catalog_of(files, holder=holder, epoch=epoch)
    assert resume(RECEIPT, catalog, node="n1", is_whole=lambda entry: whole) is expected


def test_receipts_are_read_back_and_rotten_ones_are_told() -> None:
    disk = MemoryDisk()
    assert read_receipts(disk) == ([], [])
    write_receipt(disk, RECEIPT)
    write_receipt(disk, replace(RECEIPT, job=8))
    disk.truncate(receipt_path(8), 20)
    disk.write_durable(f"{RECEIPTS}/x.cbor", b"\x01")
    found, bad = read_receipts(disk)
    assert found == [RECEIPT] and len(bad) == 2 and receipt_path(8) in bad[0]
