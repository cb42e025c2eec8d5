"""Both places for backups, asked the same."""

from __future__ import annotations

import hashlib

import pytest

from arc.backup import document
from arc.backup.vault import DRAFTS, PIECE_BYTES, Blob, FolderVault, StoreVault, Vault, pieces, read
from arc.errors import Corrupt, NotFound
from arc.system_s3 import S3Objects
from tests.fakes import MemoryDisk
from tests.storage.memory_objects import MemoryObjects
from tests.storage.s3 import open_bucket


def blob(data: bytes, *, sha256: str = "") -> Blob:
    found = hashlib.sha256(data).hexdigest()
    return Blob(key=document.object_key(found), data=data, sha256=sha256 or found, name="plant/cpu/x.parquet")


def vaults() -> list[Vault]:
    return [
        FolderVault(MemoryDisk(), "", "n1"),
        FolderVault(MemoryDisk(), "some/where", "n1"),
        StoreVault(MemoryObjects(), "arc-backups"),
    ]


def test_a_bucket_that_speaks_s3_is_such_a_place() -> None:
    with open_bucket() as bucket:
        test_what_was_put_is_there_until_it_is_removed(StoreVault(S3Objects(bucket.config()), "arc-backups"))
        test_bytes_that_are_not_what_their_name_says_never_come_in(
            StoreVault(S3Objects(bucket.config()), "arc-backups")
        )


@pytest.mark.parametrize("vault", vaults(), ids=["disk", "folder", "store"])
def test_what_was_put_is_there_until_it_is_removed(vault: Vault) -> None:
    one, two = blob(b"one"), blob(b"2" * (2 * PIECE_BYTES))
    assert vault.sizes(document.OBJECTS) == {}
    with pytest.raises(NotFound):
        read(vault, one.key)
    vault.put([one, two])
    vault.put([one])
    assert vault.sizes(document.OBJECTS) == {two.key: 2 * PIECE_BYTES, one.key: 3}
    assert [*vault.sizes(document.OBJECTS)] == sorted([one.key, two.key])
    assert read(vault, two.key) == two.data and [len(piece) for piece in pieces(vault, one.key)] == [3]
    vault.remove([one.key, one.key])
    assert [*vault.sizes(document.OBJECTS)] == [two.key]


@pytest.mark.parametrize("vault", vaults(), ids=["disk", "folder", "store"])
def test_bytes_that_are_not_what_their_name_says_never_come_in(vault: Vault) -> None:
    with pytest.raises(Corrupt, match="plant/cpu/x"):
        vault.put([blob(b"good"), blob(b"bad", sha256="0" * 64)])
    assert blob(b"bad").key not in vault.sizes(document.OBJECTS)
    vault.clear()
    assert vault.sizes(DRAFTS) == {}


def test_two_nodes_in_one_folder_do_not_disturb_each_other() -> None:
    """One clears what it left half done; what the other is writing is not its business."""
    disk = MemoryDisk()
    disk.make_dirs(f"{DRAFTS}/n2")
    disk.write_durable(f"{DRAFTS}/n2/0", b"half")
    first = FolderVault(disk, "", "n1")
    first.clear()
    first.put([blob(b"one")])
    assert disk.walk(DRAFTS) == [f"{DRAFTS}/n2/0"]
