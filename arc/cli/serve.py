"""``arc serve``: run a node in this process until it is asked to stop or must.

Here are the things that only a process has: its configuration, its signals, its streams and the lock on its data
folder. What a node is stands in `arc.node`.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from arc.cli.configuring import load_configuration
from arc.cli.options import ConfigFile, DataDir, Settings, screen_of
from arc.cli.screen import Bar, Screen, progress_bar

if TYPE_CHECKING:
    from importlib.abc import MetaPathFinder

    import trio

    from arc.config import Config
    from arc.ingest.replay import Progress
    from arc.node import Started
    from arc.ports import Disk
    from arc.storage.objects import Objects
    from arc.telemetry import Log, RingSink


def serve(
    context: typer.Context,
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", metavar="HOST")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: a free one.", min=0, max=65535)] = None,
    config: ConfigFile = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.", metavar="FORMAT")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", metavar="LEVEL")] = None,
    settings: Settings = None,
) -> None:
    """Start a node.

    SIGTERM or Ctrl-C: no new writes, everything buffered goes to files, exit code 0. The same signal once more ends
    the process at once; nothing that was acknowledged is lost by that, the next start reads it from the log.
    """
    flags = {
        "node.data_dir": data_dir,
        "server.host": host,
        "server.port": port,
        "log.format": log_format,
        "log.level": log_level,
    }
    loaded = load_configuration(config, flags, settings or ())
    _run(loaded.config, screen_of(context))


def _run(config: Config, screen: Screen) -> None:
    import trio

    from arc.system import lock_folder

    _allow_many_files()
    _calm_interpreter()
    _leave_pandas_out()
    with lock_folder(Path(config.node.data_dir)):
        trio.run(_serve, config, screen)


def _allow_many_files() -> None:
    """Connections and files of queries are bounded by settings; the shell's soft limit of 1024 would come first."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _calm_interpreter() -> None:
    """A catalog is millions of objects in no cycles: walking them all for garbage would stall the node for nothing.

    The switch interval is how long a busy thread may keep the interpreter from the event loop.
    """
    gc.set_threshold(50_000, 50, 100)
    sys.setswitchinterval(0.0005)


def _leave_pandas_out() -> None:
    """Arrow looks for pandas with the first array that it makes, and imports it where it is installed.

    That was with the first write, on the event loop: a new writer said nothing for a second and more, in the middle of
    a failover. Told once that there is none, Arrow does not look again; nothing here needs it.
    """
    import pyarrow

    class Refuses:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "pandas":
                raise ModuleNotFoundError("left out by arc serve", name=name)

    refuses = cast("MetaPathFinder", Refuses)
    sys.meta_path.insert(0, refuses)
    try:
        pyarrow.array([None])
    finally:
        sys.meta_path.remove(refuses)


async def _serve(config: Config, screen: Screen) -> None:
    import trio

    from arc import __version__
    from arc.node import run_node
    from arc.system import system_ports
    from arc.telemetry import RingSink

    ports = system_ports(Path(config.node.data_dir))
    ring = RingSink(config.log.ring_events)
    log = _log(config, ring, ports.clock.wall_us)
    stop = trio.Event()
    with closing(_Recovery(screen, log)) as recovery:

        def on_started(started: Started) -> None:
            recovery.close()
            gc.collect()
            gc.freeze()
            _announce(started, screen)

        async with trio.open_nursery() as nursery:
            await nursery.start(_watch_signals, stop, log)
            await run_node(
                config,
                ports,
                log,
                ring,
                version=__version__,
                on_started=on_started,
                on_progress=recovery,
                stop=stop,
                objects=_objects(config),
                backup_disk=_backup_disk(config),
            )
            nursery.cancel_scope.cancel()


def _objects(config: Config) -> Objects | None:
    """The store that all nodes share; its library is loaded where it is used."""
    if config.storage.backend == "local":
        return None
    from arc.system_s3 import S3Objects

    return S3Objects(config.storage)


def _backup_disk(config: Config) -> Disk | None:
    """The folder of the backups, where it is not in the data folder."""
    if config.backup.backend != "local" or not config.backup.folder:
        return None
    from arc.system import SystemDisk

    return SystemDisk(Path(config.backup.folder))


async def _watch_signals(stop: trio.Event, log: Log, *, task_status: trio.TaskStatus[None]) -> None:
    import trio

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("stop_requested", signal=signal.Signals(number).name, next_step="the same again ends at once")
            _tell_supervisor("STOPPING=1")
            stop.set()
            break
    # From here on the kernel ends the process itself, however busy the loop may be. Cancelled when the node is done.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _log(config: Config, ring: RingSink, wall_us: Callable[[], int]) -> Log:
    from arc.telemetry import ConsoleSink, JsonSink, Log, Sink, wants_colour

    stream = cast(TextIO, _CurrentStderr())
    sink: Sink = JsonSink(stream)
    if config.log.format == "console":
        sink = ConsoleSink(stream, colour=wants_colour(sys.stderr, os.environ))
    return Log([sink, ring], wall_us, level=config.log.level)


class _CurrentStderr:
    """Whatever stderr is at the moment: while a bar is drawn, rich stands there and moves lines above it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _Recovery:
    """How far the replay of the log is: a bar for a person, a log line for each tenth otherwise."""

    def __init__(self, screen: Screen, log: Log) -> None:
        self._screen = screen
        self._log = log
        self._shown = ExitStack()
        self._bar: Bar | None = None
        self._done = self._tenth = 0

    def __call__(self, progress: Progress) -> None:
        """Called once per segment. One segment is read before anybody could look."""
        if progress.segments < 2:
            return
        if self._screen.err_is_terminal:
            if self._bar is None:
                bar = progress_bar(self._screen, "reading the log", progress.segments, unit="segments")
                self._bar = self._shown.enter_context(bar)
            self._bar.advance(progress.segments_done - self._done)
            self._done = progress.segments_done
            if self._done == progress.segments:
                self.close()
        elif (tenth := progress.segments_done * 10 // progress.segments) != self._tenth:
            self._tenth = tenth
            self._log.info(
                "recovering", segments_done=progress.segments_done, segments=progress.segments, rows=progress.rows
            )

    def close(self) -> None:
        """Take the bar away; also when the recovery failed."""
        self._shown.close()


def _announce(started: Started, screen: Screen) -> None:
    if started.bootstrap_token is not None:
        screen.framed(
            "First admin token: shown once, kept nowhere. Store it now",
            f"{started.bootstrap_token}\n\nexport ARC_TOKEN={started.bootstrap_token}",
        )
    _tell_supervisor("READY=1")


def _tell_supervisor(state: str) -> None:
    """systemd's notification socket (sd_notify(3)), when there is one. Whether it listens is its own business."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
        try:
            link.sendto(state.encode(), name)
        except OSError as error:
            print(f"cannot tell the supervisor: {error}", file=sys.stderr)
