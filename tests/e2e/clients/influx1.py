"""PyPI ``influxdb`` (InfluxDB 1.x): Basic auth with the token as password, its handshakes, every precision it has."""

from __future__ import annotations

from influxdb import InfluxDBClient
from recorder import Recorder, target

START_S = 1_767_225_600


def main() -> None:
    """Drive the client."""
    to, record = target(), Recorder()
    client = InfluxDBClient(host=to.host, port=to.port, username="anybody", password=to.token, database=to.database)
    record.call("ping", client.ping)
    record.call("create_database", lambda: client.create_database(to.database))
    record.call("get_list_database", lambda: [each["name"] for each in client.get_list_database()])
    points = [
        {"measurement": "v1", "tags": {"host": f"h{n}"}, "fields": {"usage": n + 0.5, "on": True, "note": f"n {n}"},
         "time": START_S + n}
        for n in range(3)
    ]  # fmt: skip
    record.call("write_points", lambda: client.write_points(points, time_precision="s"))
    for precision, factor in (("n", 10**9), ("u", 10**6), ("ms", 10**3), ("s", 1)):
        point = {"measurement": "v1p", "tags": {"p": precision}, "fields": {"v": 1.0}, "time": START_S * factor}
        record.call(f"write_{precision}", lambda p=point, u=precision: client.write_points([p], time_precision=u))
    for precision, seconds in (("m", 60), ("h", 3600)):
        point = {"measurement": "v1p", "tags": {"p": precision}, "fields": {"v": 1.0}, "time": START_S // seconds}
        record.call(f"write_{precision}", lambda p=point, u=precision: client.write_points([p], time_precision=u))
    lines = [f"v1lines n={n}i {START_S + n}000000000" for n in range(10)]
    record.call("write_lines", lambda: client.write_points(lines, protocol="line", batch_size=4))
    record.call("write_wrong", lambda: client.write_points(["v1 usage="], protocol="line"))
    client.close()
    zipped = InfluxDBClient(
        host=to.host, port=to.port, username="x", password=to.token, database=to.database, gzip=True
    )
    record.call("write_gzip", lambda: zipped.write_points([f"v1gzip n=1i {START_S}000000000"], protocol="line"))
    stranger = InfluxDBClient(host=to.host, port=to.port, username="x", password="wrong" * 8, database=to.database)
    record.call("write_unauthorised", lambda: stranger.write_points(["v1 n=1i"], protocol="line"))
    record.print()


main()
