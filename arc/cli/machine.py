"""This machine's own metrics as line protocol, for the demo."""

from __future__ import annotations

import psutil


class Machine:
    """Reads counters; differences need the reading before, so one object is kept for a stream."""

    def __init__(self) -> None:
        psutil.cpu_percent(percpu=True)  # the first call only remembers

    def lines(self, time_ns: int) -> list[str]:
        """One line per core, disk and interface, one for memory and one for load, all at ``time_ns``."""
        memory, load = psutil.virtual_memory(), psutil.getloadavg()
        found = [
            f"cpu,core={core} usage={usage} {time_ns}" for core, usage in enumerate(psutil.cpu_percent(percpu=True))
        ]
        found.append(f"memory used={memory.used}i,available={memory.available}i,percent={memory.percent} {time_ns}")
        found.append(f"load one={load[0]},five={load[1]},fifteen={load[2]} {time_ns}")
        found += [
            f"disk,device={escaped(name)} read_bytes={io.read_bytes}i,write_bytes={io.write_bytes}i,"
            f"reads={io.read_count}i,writes={io.write_count}i {time_ns}"
            for name, io in (psutil.disk_io_counters(perdisk=True) or {}).items()
        ]
        found += [
            f"net,interface={escaped(name)} sent={io.bytes_sent}i,received={io.bytes_recv}i,"
            f"errors={io.errin + io.errout}i {time_ns}"
            for name, io in psutil.net_io_counters(pernic=True).items()
        ]
        return found


def escaped(name: str) -> str:
    """A tag value of line protocol."""
    for mark in ("\\", ",", "=", " "):
        name = name.replace(mark, f"\\{mark}") if mark != "\\" else name.rstrip("\\")
    return name or "unknown"
