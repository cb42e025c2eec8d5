"""Buffer to Parquet on one core: our sort, encoding and hash against `pyarrow.parquet.write_table` as it comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from benchmarks.measure import Row, Run, figure

ROWS = 1_000_000
BATCH_ROWS = 1_000
"""What a request usually brings: the buffer holds many small batches, and merging them is part of a flush."""


def flush(run: Run) -> list[Row]:
    """In a process of its own, pinned, since Arrow's thread pool is per process."""
    command = [sys.executable, "-m", "benchmarks.flush", str(run.repetitions)]
    done = subprocess.run(
        ["taskset", "-c", str(run.server_cpu), *command], capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    title = f"{ROWS:,} rows × 21 columns in batches of {BATCH_ROWS:,}"
    return [
        Row(
            name=f"flush: {title}, merge + sort + Parquet + sha256",
            ours=figure("M rows/s", found["ours"]),
            peer_name="pyarrow's defaults on the merged table",
            peer=figure("M rows/s", found["theirs"]),
            at_least=1.3,
        ),
        Row(
            name=f"flush: bytes of {title}",
            ours=figure("bytes/row", [found["our_bytes"] / ROWS]),
            peer_name="pyarrow's defaults",
            peer=figure("bytes/row", [found["their_bytes"] / ROWS]),
            at_most=0.7,
        ),
        Row(
            name="flush against plain strings, snappy, all statistics (a common writer's shape)",
            ours=figure("M rows/s", found["ours"]),
            peer_name=f"pyarrow so set, {found['plain_bytes'] / ROWS:.1f} bytes/row",
            peer=figure("M rows/s", found["plain"]),
        ),
    ]


def main() -> None:
    """Alternate, and print the times."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from arc.storage import parquet
    from benchmarks.payloads import wide_table

    pa.set_cpu_count(1)
    table = wide_table(ROWS)
    batches = tuple(table.to_batches(max_chunksize=BATCH_ROWS))
    decoded = pa.table(
        {
            name: column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    )
    ours, theirs, plain, our_bytes, their_bytes, plain_bytes = [], [], [], 0, 0, 0
    for _ in range(int(sys.argv[1])):
        began = time.perf_counter()
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        theirs.append(ROWS / (time.perf_counter() - began) / 1e6)
        their_bytes = sink.getvalue().size
        began = time.perf_counter()
        sink = pa.BufferOutputStream()
        pq.write_table(decoded, sink, use_dictionary=False, compression="snappy")
        plain.append(ROWS / (time.perf_counter() - began) / 1e6)
        plain_bytes = sink.getvalue().size
        began = time.perf_counter()
        files = parquet.encode_hours(batches, {})
        ours.append(ROWS / (time.perf_counter() - began) / 1e6)
        our_bytes = sum(file.data.size for file in files)
    sizes = {"our_bytes": our_bytes, "their_bytes": their_bytes, "plain_bytes": plain_bytes}
    print(json.dumps({"ours": ours, "theirs": theirs, "plain": plain, **sizes}))


if __name__ == "__main__":
    main()
