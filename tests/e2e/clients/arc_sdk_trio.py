"""PyPI ``arc-tsdb-client``, the asynchronous one, on Trio."""

from __future__ import annotations

import trio
from arc_client import AsyncArcClient
from recorder import Recorder, target

START_US = 1_767_225_600_000_000
SEEN_SECONDS = 10.0


async def main() -> None:
    """Drive the client, eight writers and a reader at the same time."""
    to, record = target(), Recorder()
    async with AsyncArcClient(host=to.host, port=to.port, token=to.token, database=to.database) as client:
        await record.call_async("ready", client.ready)

        async def write(number: int) -> None:
            columns = {"time": [START_US + number], "host": [f"h{number}"], "usage": [float(number)]}
            await record.call_async(f"write_{number}", lambda: client.write.write_columnar("acpu", columns))

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(write, number)

        async def query() -> object:
            return (await client.query.query("SELECT host, usage FROM acpu ORDER BY usage")).data

        async def arrow() -> object:
            return (await client.query.query_arrow("SELECT sum(usage) AS s FROM acpu")).to_pydict()

        async def buffered() -> object:
            async with client.write.buffered(batch_size=3) as writer:
                for n in range(7):
                    await writer.write({"measurement": "abuf", "fields": {"v": n}, "timestamp": START_US + n})
            found: object = None
            with trio.move_on_after(SEEN_SECONDS):  # A standby hears a moment later that a row is durable everywhere.
                while found != [[7]]:
                    found = (await client.query.query("SELECT count(*) FROM abuf")).data
            return found

        async def tokens() -> object:
            return len(await client.auth.list_tokens()) >= 1

        async def continuous() -> object:
            text = "SELECT max(usage) AS m FROM acpu WHERE time >= {start_time} AND time < {end_time}"
            queries = client.continuous_queries
            made = await queries.create("cq-trio", to.database, "acpu", "acpu_1h", text, "1h", is_active=False)
            done = await queries.execute(made.id, "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z")
            history = await queries.get_executions(made.id, limit=10)
            listed = [each.name for each in await queries.list(is_active=False) if each.id == made.id]
            await queries.delete(made.id)
            return [done.status, len(history), *listed]

        await record.call_async("query", query)
        await record.call_async("continuous", continuous)
        await record.call_async("query_arrow", arrow)
        await record.call_async("buffered", buffered)
        await record.call_async("list_tokens", tokens)
        await record.call_async("list_databases", client.query.list_databases)

        async def delete() -> object:
            answer = await client.delete.delete(to.database, "acpu", "1=1", dry_run=False, confirm=True)
            left = (await client.query.query("SELECT count(*) FROM acpu")).data
            return [answer.deleted_count, left, (await client.delete.get_config()).implementation]

        await record.call_async("delete", delete)
    record.print()


trio.run(main)
