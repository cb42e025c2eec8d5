"""Files in a store that nodes share (S3 over HTTP, see `tests.storage.s3`): what is on no disk any more is fetched from
there, and a store that is away or wrong loses nothing.
"""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from arc.system_s3 import S3Objects
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import MakeServer
from tests.e2e.harness import Server
from tests.storage.s3 import Bucket, open_bucket


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with open_bucket() as found:
        yield found


def settings_of(storage: dict[str, object]) -> dict[str, object]:
    return {f"storage.{name}": value for name, value in storage.items()}


def flush(server: Server, *, expect: int = 200) -> None:
    answer = server.http.post("/api/v1/write/line-protocol/flush")
    assert answer.status_code == expect, f"{answer.status_code} {answer.text}"


def wait_for(known: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not known():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def has_rows(server: Server, count: int) -> bool:
    answer = server.http.post("/api/v1/query", json={"sql": "SELECT count(*), count(DISTINCT v) FROM cpu"})
    return answer.status_code == 200 and answer.json()["data"] == [[count, count]]


def files_of(server: Server) -> list[str]:
    folder = server.data_dir / "data"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet"))


def lines(first: int, count: int) -> str:
    return "\n".join(f"cpu,host=a v={number}i {number * 1_000_000_000}" for number in range(first, first + count))


def test_rows_are_back_after_kill_9_and_the_loss_of_all_local_files(bucket: Bucket, make_server: MakeServer) -> None:
    storage = bucket.settings
    server = make_server(settings=settings_of(storage)).start()
    server.write(lines(0, 100))
    flush(server)
    wait_for(lambda: "arc_shared_proven_files 1" in server.http.get("/metrics").text, "not seen there")
    server.write(lines(100, 50))
    server.kill9()
    stored = S3Objects(bucket.config(**storage)).page("", "", 100)
    assert [each.key.endswith(".parquet") for each in stored].count(True) == 1
    assert list((server.data_dir / "data").rglob("*.parquet")), "the disk has a copy, which queries read"
    shutil.rmtree(server.data_dir / "data")
    server.start()
    wait_for(lambda: has_rows(server, 150), "the file did not come back from the store")


def test_a_cluster_whose_disks_all_lost_their_files_has_them_again_from_the_store(
    bucket: Bucket, tmp_path: Path
) -> None:
    """No node can have given them: only the store had them."""
    with Cluster(tmp_path, settings=settings_of(bucket.settings)) as cluster:
        cluster.start()
        writer = cluster.nodes[cluster.writer()]
        writer.write(lines(0, 100))
        flush(writer)
        for node in cluster.nodes.values():
            wait_for(lambda node=node: bool(files_of(node)), "a node got no file")  # type: ignore[misc]
        before = files_of(writer)
        for node in cluster.nodes.values():
            node.kill9()
            shutil.rmtree(node.data_dir / "data")
        cluster.start()
        for node in cluster.nodes.values():
            wait_for(lambda node=node: has_rows(node, 100), f"{node} lacks rows")  # type: ignore[misc]
            wait_for(lambda node=node: files_of(node) == before, f"{node} lacks files")  # type: ignore[misc]


def test_a_flush_waits_for_the_store_and_goes_on_with_it(bucket: Bucket, make_server: MakeServer) -> None:
    """The server is asked through an address that nobody listens on at first."""
    target = urlsplit(bucket.endpoint)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    storage = {**bucket.settings, "s3_endpoint_url": f"http://127.0.0.1:{port}", "s3_allow_http": True}
    storage |= {"s3_retries": 0, "s3_timeout_seconds": 5}
    server = make_server(settings=settings_of(storage)).start()
    server.write(lines(0, 100))
    flush(server, expect=503)
    assert has_rows(server, 100), "nothing was dropped"
    assert not list((server.data_dir / "data").rglob("*.parquet")), "what is not in the store is no file"

    def carry(source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            sink.close()

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                stream, _ = listener.accept()
                server = socket.create_connection((target.hostname, target.port or 80))
            except OSError:
                return
            for pair in ((stream, server), (server, stream)):
                threading.Thread(target=carry, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        wait_for(lambda: server.http.post("/api/v1/write/line-protocol/flush").status_code == 200, "never flushed")
        assert has_rows(server, 100)
        assert list((server.data_dir / "data").rglob("*.parquet"))
        listener.shutdown(socket.SHUT_RDWR)


def test_a_wrong_bucket_is_refused_at_the_start_with_its_name(bucket: Bucket, make_server: MakeServer) -> None:
    storage = {**bucket.settings, "s3_bucket": "no-such-bucket-of-arc"}
    server = make_server(settings=settings_of(storage)).start(wait=False)
    assert server.wait_end() == 2
    assert "make the bucket no-such-bucket-of-arc" in server.stderr()
    assert str(storage["s3_secret_access_key"]) not in server.stderr().split()
