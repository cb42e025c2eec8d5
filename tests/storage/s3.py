"""A store that speaks S3, for tests: moto's server on a port of its own, or the one that ``ARC_TEST_S3_*`` names.

``ARC_TEST_S3_ENDPOINT``, ``_BUCKET``, ``_KEY``, ``_SECRET`` and ``_REGION`` point the same tests at any other server;
the bucket has to exist there, and everything is put below a prefix of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3  # type: ignore[import-untyped]  # comes with moto
from moto.server import ThreadedMotoServer  # type: ignore[import-untyped]

from arc.storage.config import StorageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Where it is, and who may write there."""

    endpoint: str
    name: str
    key: str
    secret: str
    region: str

    @property
    def settings(self) -> dict[str, object]:
        """Of section ``[storage]``; each call names another prefix."""
        return {
            "backend": "s3",
            "s3_bucket": self.name,
            "s3_prefix": f"arc-test/{uuid.uuid4().hex}",
            "s3_endpoint_url": self.endpoint,
            "s3_region": self.region,
            "s3_access_key_id": self.key,
            "s3_secret_access_key": self.secret,
            "s3_allow_http": self.endpoint.startswith("http://"),
        }

    def config(self, **changes: object) -> StorageConfig:
        """The settings as one section."""
        return StorageConfig(**{**self.settings, **changes})  # type: ignore[arg-type]  # by name


@contextmanager
def open_bucket() -> Iterator[Bucket]:
    """A bucket as long as the block lasts."""
    if endpoint := os.environ.get("ARC_TEST_S3_ENDPOINT"):
        yield Bucket(
            endpoint=endpoint,
            name=os.environ["ARC_TEST_S3_BUCKET"],
            key=os.environ["ARC_TEST_S3_KEY"],
            secret=os.environ["ARC_TEST_S3_SECRET"],
            region=os.environ.get("ARC_TEST_S3_REGION", "us-east-1"),
        )
        return
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        bucket = Bucket(endpoint=f"http://{host}:{port}", name="rows", key="k", secret="s", region="us-east-1")
        client = boto3.client(
            "s3",
            endpoint_url=bucket.endpoint,
            region_name=bucket.region,
            aws_access_key_id=bucket.key,
            aws_secret_access_key=bucket.secret,
        )
        client.create_bucket(Bucket=bucket.name)
        yield bucket
    finally:
        server.stop()
