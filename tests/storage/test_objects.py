"""The shared store over HTTP, against a server that speaks S3 (see `tests.storage.s3`): what a put promises (DURABILITY
7), and what becomes of answers that never come.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from arc.errors import InvalidRequest, NotFound, Unavailable
from arc.storage.objects import file_of, key_of
from arc.system_s3 import S3Objects
from tests.storage.s3 import Bucket, open_bucket

BODY = bytes(range(256)) * 100
SHA = hashlib.sha256(BODY).hexdigest()
PATH = "metrics/c%20pu/2026/01/01/00/0000000007-00000000000001-n%2F1~2.parquet"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with open_bucket() as found:
        yield found


@pytest.fixture
def store(bucket: Bucket) -> S3Objects:
    return S3Objects(bucket.config())


def test_what_was_put_is_there_whole_and_in_pieces(store: S3Objects) -> None:
    key = key_of("cluster", PATH, SHA)
    store.put(key, memoryview(BODY), SHA)
    assert store.size(key) == len(BODY)
    assert store.read_at(key, 0, len(BODY)) == BODY
    assert store.read_at(key, 1000, 300) == BODY[1000:1300]


def test_the_buffer_of_an_encoded_file_is_taken_as_it_is(store: S3Objects) -> None:
    store.put("c/a", memoryview(pa.py_buffer(BODY)), SHA)
    assert store.read_at("c/a", 0, len(BODY)) == BODY


def test_an_object_larger_than_a_part_of_a_multipart_upload_is_still_created_only_once(store: S3Objects) -> None:
    """Parts are not conditional; the library would use them from 5 MiB on."""
    large = bytes(6 << 20)
    store.put("c/large", large, hashlib.sha256(large).hexdigest())
    with pytest.raises(Unavailable, match="other bytes"):
        store.put("c/large", large + b"x", "another")
    assert store.size("c/large") == len(large)


def test_a_put_of_what_is_there_already_is_done(store: S3Objects) -> None:
    store.put("c/a", BODY, SHA)
    store.put("c/a", BODY, SHA)


@pytest.mark.parametrize(("body", "sha256"), [(BODY[:-1], SHA), (BODY, "0" * 64)], ids=["other size", "other hash"])
def test_a_put_never_replaces_other_bytes(store: S3Objects, body: bytes, sha256: str) -> None:
    store.put("c/a", BODY, SHA)
    with pytest.raises(Unavailable, match="other bytes") as raised:
        store.put("c/a", body, sha256)
    assert raised.value.code == "object_conflict"
    assert store.read_at("c/a", 0, len(BODY)) == BODY


def test_what_is_not_there_is_told_from_what_cannot_be_asked(store: S3Objects) -> None:
    assert store.size("c/none") is None
    with pytest.raises(NotFound) as raised:
        store.read_at("c/none", 0, 1)
    assert raised.value.code == "not_here"


def test_removing_is_done_also_for_what_is_gone(store: S3Objects) -> None:
    store.put("c/a", BODY, SHA)
    store.put("c/b", BODY, SHA)
    store.remove(["c/a", "c/none"])
    store.remove([])
    assert (store.size("c/a"), store.size("c/b")) == (None, len(BODY))


def test_a_folder_is_listed_page_by_page_and_others_are_not(store: S3Objects) -> None:
    for number in range(5):
        store.put(f"c/{number}", BODY[:number], str(number))
    store.put("cc/x", BODY, SHA)
    first = store.page("c", "", 3)
    assert [(each.key, each.size_bytes) for each in first] == [("c/0", 0), ("c/1", 1), ("c/2", 2)]
    assert [each.key for each in store.page("c", first[-1].key, 3)] == ["c/3", "c/4"]
    assert store.page("c", "c/4", 3) == []
    assert first[0].modified_us > 1_700_000_000_000_000


def test_keys_with_escaped_names_come_back_as_they_were(store: S3Objects) -> None:
    key = key_of("cluster", PATH, SHA)
    store.put(key, BODY, SHA)
    (found,) = store.page("cluster", "", 10)
    assert found.key == key
    assert file_of("cluster", found.key) == (PATH, SHA[:32])


@pytest.mark.parametrize(
    "key", ["cluster/readme.txt", "other/a.parquet", "cluster/a.parquet", "cluster/a.short.parquet"]
)
def test_names_that_are_not_ours_are_no_files(key: str) -> None:
    assert file_of("cluster", key) is None


def test_files_with_other_bytes_have_other_keys() -> None:
    assert key_of("c", PATH, SHA) != key_of("c", PATH, "0" * 64)


# ---- whether it can be used at all


def test_a_store_that_can_be_used_passes_again_and_again(bucket: Bucket) -> None:
    config = bucket.config()
    S3Objects(config).check()
    S3Objects(config).check()


def test_a_bucket_that_is_not_there_is_refused_with_its_name(bucket: Bucket) -> None:
    with pytest.raises(InvalidRequest, match=r"make the bucket no-such-bucket-of-arc") as raised:
        S3Objects(bucket.config(s3_bucket="no-such-bucket-of-arc")).check()
    assert raised.value.code == "storage_refused"


def test_a_bucket_that_went_is_no_missing_object(bucket: Bucket) -> None:
    store = S3Objects(bucket.config(s3_bucket="no-such-bucket-of-arc"))
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        store.read_at("c/a", 0, 1)
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        store.put("c/a", BODY, SHA)


def test_a_server_that_says_no_to_these_credentials_is_refused(bucket: Bucket) -> None:
    with answering(lambda request: denied()) as endpoint, pytest.raises(InvalidRequest, match="s3_access_key_id"):
        S3Objects(bucket.config(s3_endpoint_url=endpoint, s3_allow_http=True)).check()


def test_a_server_that_ignores_conditions_is_refused(bucket: Bucket) -> None:
    """Older S3 servers take If-None-Match and replace the object all the same."""
    taken = response("200 OK", 'ETag: "1"\r\n')
    with answering(lambda request: taken) as endpoint, pytest.raises(InvalidRequest, match="ignores If-None-Match"):
        S3Objects(bucket.config(s3_endpoint_url=endpoint, s3_allow_http=True)).check()


def test_a_secret_is_in_no_text(bucket: Bucket) -> None:
    config = bucket.config(s3_secret_access_key="very-secret-indeed")
    store = S3Objects(config)
    with answering(lambda request: denied()) as endpoint, pytest.raises(InvalidRequest) as raised:
        S3Objects(bucket.config(s3_endpoint_url=endpoint, s3_secret_access_key="very-secret-indeed")).check()
    assert "very-secret-indeed" not in f"{config!r}{store!r}{raised.value.message}"


# ---- a network in between


def test_a_put_whose_answer_was_lost_is_found_done_by_the_repetition(bucket: Bucket) -> None:
    """The server stored it; the repeated put is told "already there" and finds its own size and hash."""
    with Between(bucket.endpoint) as between:
        between.lose_answers = 1
        store = S3Objects(bucket.config(s3_endpoint_url=between.endpoint, s3_allow_http=True))
        store.put("c/a", BODY, SHA)
        assert between.lost == 1
        assert store.read_at("c/a", 0, len(BODY)) == BODY


def test_after_its_bounded_repetitions_a_request_is_unavailable_and_the_next_may_work(bucket: Bucket) -> None:
    with Between(bucket.endpoint) as between:
        between.lose_answers = 2
        store = S3Objects(bucket.config(s3_endpoint_url=between.endpoint, s3_allow_http=True, s3_retries=1))
        with pytest.raises(Unavailable, match=r"put of s3://.*c/a") as raised:
            store.put("c/a", BODY, SHA)
        assert raised.value.code == "storage_unavailable"
        assert between.lost == 2
        store.put("c/a", BODY, SHA)


def test_a_server_that_is_away_or_silent_is_unavailable_and_no_wrong_setting(bucket: Bucket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        config = bucket.config(s3_endpoint_url=endpoint, s3_allow_http=True, s3_timeout_seconds=0.2, s3_retries=0)
        with pytest.raises(Unavailable):
            S3Objects(config).check()
        with pytest.raises(Unavailable):
            S3Objects(config).read_at("c/a", 0, 1)
    with pytest.raises(Unavailable):
        S3Objects(config).check()


def response(status: str, headers: str = "", body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def denied() -> bytes:
    return response("403 Forbidden", body=b"<Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>")


def read_message(stream: socket.socket) -> bytes:
    """Head and body of one HTTP message that has a length."""
    found = b""
    while b"\r\n\r\n" not in found:
        if not (piece := stream.recv(65536)):
            return found
        found += piece
    head = found.partition(b"\r\n\r\n")[0]
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(found) < len(head) + 4 + length:
        if not (piece := stream.recv(65536)):
            return found
        found += piece
    return found


@contextmanager
def answering(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A server that gives every request the same answer; its endpoint."""

    def serve() -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            with stream:
                stream.sendall(answer(read_message(stream)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


class Between:
    """Passes requests on to a server, one each connection, and hangs up instead of the first `lose_answers` answers."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._target = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.lose_answers = self.lost = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Between:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                stream, _ = self._listener.accept()
            except OSError:
                return
            with stream, socket.create_connection(self._target) as server:
                request = read_message(stream)
                head, _, body = request.partition(b"\r\n\r\n")
                server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
                answer = b""
                while piece := server.recv(65536):
                    answer += piece
                if self.lost < self.lose_answers:
                    self.lost += 1
                    continue
                stream.sendall(answer)
