"""PyPI ``influxdb-client`` (InfluxDB 2): synchronous and batching writes, gzip, and its handshakes."""

from __future__ import annotations

from influxdb_client import InfluxDBClient, Point, WriteOptions, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS
from recorder import Recorder, target

START_S = 1_767_225_600


def main() -> None:
    """Drive the client."""
    to, record = target(), Recorder()
    with InfluxDBClient(url=to.url, token=to.token, org="any") as client:
        record.call("ping", client.ping)
        record.call("version", client.version)
        record.call("build", client.build)
        record.call("ready", lambda: client.ready().status)
        write = client.write_api(write_options=SYNCHRONOUS)
        point = Point("v2").tag("host", "a").field("usage", 1.5).field("n", 3).time(START_S, WritePrecision.S)
        record.call("write_point", lambda: write.write(bucket=to.database, record=point))
        line = f"v2,host=b usage=2.5,n=4i {START_S + 1}000000000"
        record.call("write_line", lambda: write.write(bucket=to.database, record=line))
        ms = f"v2,host=c usage=3.5,n=5i {START_S + 2}000"
        record.call("write_ms", lambda: write.write(to.database, record=ms, write_precision=WritePrecision.MS))
        wrong = "v2 usage= 1\nv2,host=d usage=4.5,n=6i 1767225603000000000"
        record.call("write_partly_wrong", lambda: write.write(bucket=to.database, record=wrong))

        def batching() -> int:
            options = WriteOptions(batch_size=50, flush_interval=200, jitter_interval=0, retry_interval=100)
            problems: list[str] = []
            with client.write_api(
                write_options=options, error_callback=lambda _, data, error: problems.append(str(error))
            ) as batched:
                for n in range(175):
                    batched.write(bucket=to.database, record=f"v2batch,host=a n={n}i {START_S + n}000000000")
            return len(problems)

        record.call("batching", batching)
    with InfluxDBClient(url=to.url, token=to.token, org="any", enable_gzip=True) as zipped:
        zip_write = zipped.write_api(write_options=SYNCHRONOUS)
        lines = "\n".join(f"v2gzip n={n}i {START_S + n}000000000" for n in range(100))
        record.call("write_gzip", lambda: zip_write.write(bucket=to.database, record=lines))
    with InfluxDBClient(url=to.url, token="wrong" * 8, org="any") as stranger:
        stranger_write = stranger.write_api(write_options=SYNCHRONOUS)
        record.call("write_unauthorised", lambda: stranger_write.write(bucket=to.database, record="v2 n=1i"))
    record.print()


main()
