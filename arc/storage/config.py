"""Settings of what lies on disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class WalConfig:
    """Section ``[wal]``, the write-ahead log. There is no setting that answers a write before the disk has it."""

    segment_bytes: int = 64 << 20
    """Large enough that rotation is rare (one per second at 64 MB/s), small enough that little is kept for one slow
    measurement.
    """

    group_bytes: int = 8 << 20
    """One durable write takes at most this much: about 5 ms of a disk, so that a small write never waits long behind
    big ones.
    """

    max_bytes: int = 2 << 30
    """When the log holds more than this, the measurements that hold its oldest records are flushed, however young."""

    idempotency_window_seconds: float = 3600.0
    """A retry that comes later than this counts as a new write."""

    idempotency_keys_max: int = 1_000_000
    """Keys remembered at most; beyond it a write with a new key is refused with 503 until old ones expire."""

    write_level: Literal["replicated", "local"] = "replicated"
    """``replicated``: a write is acknowledged when it is durable on every node that could take over. ``local``: when it
    is durable on the node that took it; a failover may then lose acknowledged rows.
    """

    min_insync: int = 0
    """With fewer nodes in sync, the writer's own included, writes are refused with 503 ``not_enough_replicas``. 0: two,
    as soon as two nodes that take writes are part of the cluster, else one.
    """

    lag_timeout_seconds: float = 2.0
    """A node that could take over, but has not confirmed new records for this long, is left out of the in-sync set,
    so that writes go on without it; not one that is slow, when fewer than ``min_insync`` would be left.
    """

    lease_seconds: float = 5.0
    """A writer that has not heard the leader of the cluster for this long takes no more writes until it does."""

    stall_seconds: float = 5.0
    """A disk that has not finished a write of the log within this time stands still. The node takes no more writes
    until it has, and another one takes over the writer lease.
    """

    follower_window_bytes: int = 16 << 20
    """Records on their way to one follower and not confirmed by it, at most; also what the writer keeps in memory for
    followers. Who falls further behind is served from the log's segments.
    """

    def __post_init__(self) -> None:
        for name in ("lag_timeout_seconds", "lease_seconds", "stall_seconds", "follower_window_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """Section ``[storage]``: Parquet files and what is left over from crashes."""

    reserve_bytes: int = 256 << 20
    """Writes are refused with 503 while less than this is free: flush and the catalog's log still need room to make
    space.
    """

    orphan_grace_seconds: float = 86_400.0
    """Files that the manifest does not know are moved to ``quarantine/`` and removed from there after this time."""

    delete_grace_seconds: float = 60.0
    """A file that left the manifest stays on disk this long after the last query that uses it ended."""

    backend: Literal["local", "s3"] = "local"
    """``s3``: every file is also put into a bucket that all nodes of the cluster share, before it counts as written.
    The same on every node.
    """

    s3_bucket: str = ""
    """Its name. It must exist."""

    s3_prefix: str = ""
    """What all names in the bucket begin with, such as ``arc/production``. Below it each cluster has a folder of its
    own, so several may share it.
    """

    s3_endpoint_url: str = ""
    """Where the store answers, such as ``https://s3.example.com``. Empty: AWS, in the region."""

    s3_region: str = "us-east-1"
    """Region of the bucket; most stores other than AWS take any."""

    s3_access_key_id: str = ""
    """Who asks. Only this setting is read: neither ``AWS_*`` variables nor roles of the machine are."""

    s3_secret_access_key: str = field(default="", repr=False)  # out of the repr means secret, see arc/config.py
    """Better in a variable than in the file."""

    s3_allow_http: bool = False
    """Whether ``s3_endpoint_url`` may begin with ``http://``: rows then cross the network readable."""

    s3_timeout_seconds: float = 30.0
    """One request, with the whole of a file in it, may take so long."""

    s3_retries: int = 3
    """How often a request is repeated before it counts as failed. What failed is tried again later, for ever."""

    def __post_init__(self) -> None:
        if self.backend == "local":
            return
        needed = ("s3_bucket", "s3_region", "s3_access_key_id", "s3_secret_access_key")
        if lacking := [name for name in needed if not getattr(self, name)]:
            raise ValueError(f'backend = "s3" needs {", ".join(lacking)}')
        if self.s3_prefix != self.s3_prefix.strip("/"):
            raise ValueError("s3_prefix must not begin or end with a slash")
        if self.s3_endpoint_url.startswith("http://") and not self.s3_allow_http:
            raise ValueError(
                "s3_endpoint_url begins with http://: rows would cross the network readable; with "
                "s3_allow_http = true they may"
            )
        if self.s3_timeout_seconds <= 0:
            raise ValueError("s3_timeout_seconds must be above 0")
