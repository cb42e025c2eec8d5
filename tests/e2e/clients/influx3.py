"""PyPI ``influxdb3-python``: writes. Its queries are gRPC Flight, which this server does not speak; they must fail, not
hang."""

from __future__ import annotations

from influxdb_client_3 import SYNCHRONOUS, InfluxDBClient3, Point, WriteOptions, write_client_options
from recorder import Recorder, target

START_S = 1_767_225_600


def main() -> None:
    """Drive the client."""
    to, record = target(), Recorder()
    options = write_client_options(write_options=SYNCHRONOUS)
    with InfluxDBClient3(
        host=to.url, token=to.token, org="any", database=to.database, write_client_options=options
    ) as client:
        point = Point("v3").tag("host", "a").field("usage", 1.5).time(START_S * 10**9)
        record.call("write_point", lambda: client.write(point))
        record.call(
            "write_lines", lambda: client.write([f"v3,host=b usage={n}.5 {START_S + n}000000000" for n in range(4)])
        )
        record.call("write_seconds", lambda: client.write(f"v3,host=c usage=9.5 {START_S}", write_precision="s"))
        record.call("write_wrong", lambda: client.write("v3 usage="))
        record.call("query", lambda: client.query("SELECT 1", timeout=5))
    batching = write_client_options(write_options=WriteOptions(batch_size=30, flush_interval=200))
    with InfluxDBClient3(
        host=to.url, token=to.token, org="any", database=to.database, write_client_options=batching
    ) as batched:

        def batches() -> int:
            for n in range(100):
                batched.write(f"v3batch n={n}i {START_S + n}000000000")
            return 100

        record.call("batching", batches)
    record.print()


main()
