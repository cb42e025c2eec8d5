"""The shared object store in production: one prefix of a bucket that speaks S3, over HTTP. The only module that does.

Requests are repeated by the library, with growing pauses and jitter, a bounded number of times; what is still not
answered then is Unavailable to whoever asked. A put carries ``If-None-Match: *``: it makes an object or changes
nothing. Credentials are those of the configuration and no others: neither the environment nor the machine is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from arc.errors import InvalidRequest, NotFound, Unavailable
from arc.ports import Buffer
from arc.storage.config import StorageConfig
from arc.storage.objects import StoredObject

if TYPE_CHECKING:
    from obstore.store import S3Credential

PROBE = "arc-probe"
"""Put, below the prefix, by every node that starts: twice, to see the second one refused."""

REASON_CHARS_MAX = 300
"""Of what the library says; its chains of causes go on for pages."""

REFUSALS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed")


class S3Objects:
    """See `arc.storage.objects.Objects`."""

    def __init__(self, config: StorageConfig) -> None:
        self._config = config
        self._endpoint = config.s3_endpoint_url or f"https://s3.{config.s3_region}.amazonaws.com"
        retry_seconds = config.s3_timeout_seconds * (1 + config.s3_retries)
        self._store = S3Store(
            config.s3_bucket,
            prefix=config.s3_prefix or None,
            endpoint=self._endpoint,
            region=config.s3_region,
            virtual_hosted_style_request=False,
            conditional_put="etag",
            client_options={
                "allow_http": config.s3_allow_http,
                "timeout": timedelta(seconds=config.s3_timeout_seconds),
                "connect_timeout": timedelta(seconds=min(5.0, config.s3_timeout_seconds)),
            },
            retry_config={
                "max_retries": config.s3_retries,
                "retry_timeout": timedelta(seconds=retry_seconds),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
            credential_provider=_always(config),
        )

    def __repr__(self) -> str:
        return f"<S3Objects {self.name} at {self._endpoint}>"

    @property
    def name(self) -> str:
        """``s3://bucket/prefix``."""
        return f"s3://{self._config.s3_bucket}/{self._config.s3_prefix}".rstrip("/") + "/"

    def check(self) -> None:
        """Put one small object that stays, and see that a second put of it is refused."""
        try:
            self._create(PROBE, b"arc\n", "")
            if self._create(PROBE, b"arc\n", ""):
                raise InvalidRequest(
                    f"{self.name} at {self._endpoint} ignores If-None-Match: a put there may replace an object; use a "
                    "store that knows conditional puts",
                    code="storage_refused",
                )
        except (FileNotFoundError, PermissionDeniedError, UnauthenticatedError, NotSupportedError) as error:
            raise self._refused(error) from error
        except BaseError as error:
            if any(word in str(error) for word in REFUSALS):
                raise self._refused(error) from error
            raise self._unavailable("put", PROBE, error) from error

    def put(self, key: str, data: Buffer, sha256: str) -> None:
        """Create an object, or find that this very one is there."""
        data = memoryview(data).cast("B")  # Arrow's buffers are of signed bytes, which the library refuses.
        with self._asking("put", key):
            if self._create(key, data, sha256):
                return
            found = obstore.get(self._store, key)
            attributes = {str(name): value for name, value in found.attributes.items()}
            there = (found.meta["size"], attributes.get("arc-sha256"))
        if there != (len(data), sha256):
            raise Unavailable(
                f"{self.name}{key} is there with other bytes ({there[0]}, hash {there[1]}): nothing of ours; look who "
                "else writes there",
                code="object_conflict",
            )

    def read_at(self, key: str, offset: int, size: int) -> bytes:
        """A range of an object."""
        with self._asking("get", key):
            try:
                return bytes(obstore.get_range(self._store, key, start=offset, length=size))
            except FileNotFoundError as error:
                if _is_no_bucket(error):
                    raise
                raise NotFound(f"{self.name}{key} is not there", code="not_here") from error

    def size(self, key: str) -> int | None:
        """Length of an object. A HEAD has no body to tell a missing bucket from a missing object."""
        with self._asking("head", key):
            try:
                return int(obstore.head(self._store, key)["size"])
            except FileNotFoundError:
                return None

    def remove(self, keys: Sequence[str]) -> None:
        """One request for up to a thousand of them."""
        if keys:
            with self._asking("delete", keys[0]):
                obstore.delete(self._store, list(keys))

    def page(self, folder: str, after: str, limit: int) -> list[StoredObject]:
        """One page of a listing."""
        with self._asking("list", folder):
            found = next(iter(obstore.list(self._store, folder, offset=after or None, chunk_size=limit)), [])
        return [
            StoredObject(
                key=str(each["path"]),
                size_bytes=int(each["size"]),
                modified_us=round(each["last_modified"].timestamp() * 1e6),
            )
            for each in found
        ]

    def _create(self, key: str, data: Buffer, sha256: str) -> bool:
        """One request, however large the object: its parts would not be conditional. False: something is there."""
        try:
            obstore.put(
                self._store, key, data, mode="create", use_multipart=False, attributes={"arc-sha256": sha256 or "none"}
            )
        except AlreadyExistsError:
            return False
        return True

    @contextmanager
    def _asking(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            raise self._unavailable(verb, key, error) from error

    def _unavailable(self, verb: str, key: str, error: Exception) -> Unavailable:
        return Unavailable(
            f"{verb} of {self.name}{key} at {self._endpoint} failed: {_reason(error)}", code="storage_unavailable"
        )

    def _refused(self, error: Exception) -> InvalidRequest:
        if _is_no_bucket(error):
            step = f"make the bucket {self._config.s3_bucket}, or set storage.s3_bucket"
        else:
            step = "see storage.s3_access_key_id, s3_secret_access_key and s3_region, and whether they may write there"
        return InvalidRequest(
            f"{self.name} at {self._endpoint} cannot be used: {_reason(error)}; {step}", code="storage_refused"
        )


def _always(config: StorageConfig) -> Callable[[], S3Credential]:
    def credentials() -> S3Credential:
        return {
            "access_key_id": config.s3_access_key_id,
            "secret_access_key": config.s3_secret_access_key,
            "expires_at": None,
        }

    return credentials


def _is_no_bucket(error: Exception) -> bool:
    return "NoSuchBucket" in str(error)


def _reason(error: Exception) -> str:
    """What the server said, else what the library says, without its second part that is for its authors."""
    said = re.search(r"<Code>([^<]*)</Code>\s*<Message>([^<]*)</Message>", str(error))
    if said:
        return f"{said[1]}: {said[2]}"[:REASON_CHARS_MAX]
    text = " ".join(str(error).partition("Debug source:")[0].split())
    return text if len(text) <= REASON_CHARS_MAX else text[:REASON_CHARS_MAX] + "…"
