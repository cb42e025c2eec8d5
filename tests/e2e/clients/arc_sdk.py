"""PyPI ``arc-tsdb-client``, the synchronous one: every call of it that this version of the server has a feature for."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
from arc_client import ArcClient
from arc_client.models.delete import DeleteResponse
from recorder import Recorder, target

START_US = 1_767_225_600_000_000


def _told(answer: DeleteResponse) -> list[object]:
    return [answer.success, answer.dry_run, answer.deleted_count, answer.affected_files, len(answer.files_processed)]


def main() -> None:
    """Drive the client."""
    to, record = target(), Recorder()
    call = record.call
    with ArcClient(host=to.host, port=to.port, token=to.token, database=to.database) as client:
        call("health", lambda: client.health().status)
        call("ready", client.ready)
        write, query = client.write, client.query
        columns = {"time": [START_US, START_US + 1_000_000], "host": ["a", "b"], "usage": [1.5, 2.5]}
        call("write_columnar", lambda: write.write_columnar("cpu", columns))
        rows = [
            {
                "measurement": "mem",
                "timestamp": START_US + n,
                "fields": {"free": float(n), "used": n},
                "tags": {"host": f"h{n}"},
            }
            for n in range(3)
        ]
        call("write_records", lambda: write.write_records(rows))
        call("write_record", lambda: write.write_records(rows[:1]))
        times = pd.to_datetime([START_US // 1000 + 5, START_US // 1000 + 6], unit="ms")
        frame = pd.DataFrame({"time": times, "host": ["a", "b"], "v": [1.0, 2.0]})
        call("write_dataframe", lambda: write.write_dataframe(frame, "frame", time_column="time", tag_columns=["host"]))
        call("write_line_protocol", lambda: write.write_line_protocol(f"disk,host=a free=7i {START_US}000"))
        call(
            "write_point",
            lambda: write.write_point("disk", fields={"free": 8}, tags={"host": "b"}, timestamp=START_US + 1),
        )

        def buffered() -> int:
            with write.buffered(batch_size=2) as writer:
                for n in range(5):
                    fields = {"v": float(n)} if n % 2 else {"w": n}
                    row = {"measurement": "sparse", "fields": fields, "tags": {"host": "a"}, "timestamp": START_US + n}
                    writer.write(row)
            return 5

        call("buffered", buffered)

        call("query", lambda: query.query("SELECT time, host, usage FROM cpu ORDER BY time").data)
        call("query_columns", lambda: query.query("SELECT time, host, usage FROM cpu ORDER BY time").columns)
        call("query_disk", lambda: query.query("SELECT host, free FROM disk ORDER BY free").data)
        call("query_mem", lambda: query.query("SELECT host, free, used FROM mem ORDER BY time, free").data)
        call("query_frame", lambda: query.query("SELECT epoch_ms(time), host, v FROM frame ORDER BY v").data)
        call("query_sparse", lambda: query.query("SELECT count(*), count(v), count(w) FROM sparse").data)
        call("query_arrow", lambda: query.query_arrow("SELECT usage FROM cpu ORDER BY usage").to_pydict())
        call("query_pandas", lambda: query.query_pandas("SELECT usage FROM cpu ORDER BY usage")["usage"].tolist())
        call("estimate", lambda: query.estimate("SELECT * FROM cpu").estimated_rows)
        call("list_measurements", lambda: sorted(each.measurement for each in query.list_measurements(to.database)))
        call("list_databases", query.list_databases)
        call("show_tables", lambda: sorted(row[1] for row in query.show_tables(to.database).data))
        call("query_wrong", lambda: query.query("SELECT nothing FROM nowhere"))
        call("query_arrow_wrong", lambda: query.query_arrow("SELECT nothing FROM nowhere"))

        auth = client.auth
        call("verify", lambda: auth.verify().valid)
        token = call("create_token", lambda: auth.create_token(name=f"t-{to.database}", permissions=["read"]).token)
        listed = {each.name: each.id for each in auth.list_tokens()}
        call("list_tokens", lambda: f"t-{to.database}" in listed)
        number = listed.get(f"t-{to.database}", 0)
        call("get_token", lambda: auth.get_token(number).name)
        call("update_token", lambda: auth.update_token(number, description="changed"))
        rotated = call("rotate_token", lambda: auth.rotate_token(number))
        call("rotated_differs", lambda: bool(rotated) and rotated != token)
        call("revoke_token", lambda: auth.revoke_token(number))
        call("delete_token", lambda: auth.delete_token(number))
        call("get_token_gone", lambda: auth.get_token(number))

        keep = client.retention
        policy = call(
            "retention_create", lambda: keep.create(f"r-{to.database}", to.database, 30, measurement="old").id
        )
        number = int(policy) if isinstance(policy, int) else 0
        old = "old,host=a v=1 1000000000000000000\nold,host=a v=2 1000000001000000000"
        call("retention_rows", lambda: write.write_line_protocol(old))
        call("retention_list", lambda: [each.name for each in keep.list() if each.id == number])
        call("retention_get", lambda: keep.get(number).retention_days)
        call("retention_update", lambda: keep.update(number, retention_days=40, buffer_days=1).buffer_days)
        call("retention_unconfirmed", lambda: keep.execute(number, dry_run=False))
        call("retention_dry_run", lambda: keep.execute(number, dry_run=True).dry_run)
        call("retention_execute", lambda: keep.execute(number, dry_run=False, confirm=True).policy_name)
        call("retention_executions", lambda: [each.status for each in keep.get_executions(number)])
        call("retention_delete", lambda: keep.delete(number))
        call("retention_gone", lambda: keep.get(number))

        # Hours are files: the rows of one go with their file, in whichever cluster.
        hosts = (("a", 1, 0), ("a", 2, 1), ("b", 3, 3600))
        gone = "\n".join(f"gone,host={host} v={v} {START_US + second * 1_000_000}000" for host, v, second in hosts)
        call("delete_rows", lambda: write.write_line_protocol(gone))
        call("delete_config", lambda: client.delete.get_config().enabled)
        where = (to.database, "gone", "host = 'a'")
        call("delete_dry_run", lambda: _told(client.delete.delete(*where)))
        call("delete_all_unconfirmed", lambda: client.delete.delete(to.database, "gone", "1=1", dry_run=False))
        call("delete_wrong", lambda: client.delete.delete(to.database, "gone", "nothing = 1", dry_run=False))
        call("delete", lambda: _told(client.delete.delete(*where, dry_run=False, confirm=True)))
        call("delete_left", lambda: query.query("SELECT v FROM gone").data)
        continuous = client.continuous_queries
        text = (
            "SELECT date_trunc('hour', time) AS time, host, avg(usage) AS mean FROM cpu "
            "WHERE time >= {start_time} AND time < {end_time} GROUP BY 1, 2"
        )
        made = call(
            "cq_create",
            lambda: (
                continuous.create(
                    f"cq-{to.database}",
                    to.database,
                    "cpu",
                    "cpu_1h",
                    text,
                    "1h",
                    description="hourly",
                    retention_days=400,
                ).id
            ),
        )
        cq = int(made) if isinstance(made, int) else 0
        start, end = datetime(2026, 1, 1), datetime(2026, 1, 1, 1, tzinfo=UTC)
        call("cq_list", lambda: [each.name for each in continuous.list(to.database, is_active=True) if each.id == cq])
        call("cq_get", lambda: continuous.get(cq).destination_measurement)
        call("cq_update", lambda: continuous.update(cq, description="changed", interval="1h").description)
        call("cq_dry_run", lambda: continuous.execute(cq, start, end, dry_run=True).records_written)
        call("cq_execute", lambda: continuous.execute(cq, start, end).records_written)
        call("cq_execute_again", lambda: continuous.execute(cq, start, "2026-01-01T01:00:00Z").records_written)
        call("cq_executions", lambda: sorted({each.status for each in continuous.get_executions(cq)}))
        call("cq_wrong", lambda: continuous.create("wrong", to.database, "cpu", "other", "SELECT 1", "1h"))
        call("cq_delete", lambda: continuous.delete(cq))
        call("cq_gone", lambda: continuous.get(cq))
    with ArcClient(host=to.host, port=to.port, token="wrong" * 8, database=to.database) as stranger:
        call("query_unauthorised", lambda: stranger.query.query("SELECT 1"))
    record.print()


main()
