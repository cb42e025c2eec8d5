"""The rules of the house, read from the source: who may import whom, who is pure, what goes through a port.

A rule is a function from modules to findings, each one sentence with a place and what to do instead. The tables are
ARCHITECTURE.md, sections 3 and 4, as data. Nothing here imports the code it judges, so a broken module cannot hide.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

FLOORS: Mapping[str, int] = {
    "simulations": 8,
    "arc.__main__": 8,
    "arc.cli": 7,
    "arc.node": 6,
    "arc.duties": 5,
    "arc.config": 5,
    "arc.system": 5,
    "arc.system_names": 1,
    "arc.system_s3": 5,
    "arc.api": 4,
    "arc.ingest": 3,
    "arc.query": 3,
    "arc.compaction": 3,
    "arc.deletion": 3,
    "arc.continuous": 3,
    "arc.backup": 3,
    "arc.replication": 3,
    "arc.cluster": 3,
    "arc.catalog": 2,
    "arc.wire": 2,
    "arc.raft": 1,
    "arc.storage": 1,
    "arc.security": 1,
    "arc.license": 1,
    "arc.journal": 0,
    "arc.telemetry": 0,
    "arc.settings": 0,
    "arc.ports": 0,
    "arc.quorum": 0,
    "arc.ids": 0,
    "arc.errors": 0,
    "arc": 0,
}
"""Room → floor. A room is entered only from above; rooms of one floor never import each other, but see GROUND."""

GROUND = frozenset({"arc", "arc.errors", "arc.ids", "arc.ports", "arc.telemetry"})
"""Words that even floor 0 may use: what can go wrong, names, the ports, how to tell."""

RAFT_ORDER = (
    {"types", "messages", "events", "effects", "config"},
    {"membership", "log", "progress", "durability"},
    {"recovery", "leading"},
    {"state"},
    {"lanes", "heartbeat"},
    {"snapshot", "reads"},
    {"append", "transfer", "status"},
    {"change", "election", "invariants"},
    {"core"},
    {"codec", "outbox"},
    {"storage", "snapshots", "requests", "disklane", "applylane"},
    {"saver"},
    {"turning"},
    {"node"},
)
"""Inside ``arc.raft``: a file imports only from steps before its own."""

PURE = (
    "arc.backup.access",
    "arc.backup.config",
    "arc.backup.document",
    "arc.backup.plan",
    "arc.backup.progress",
    "arc.backup.vault",
    "arc.catalog*",
    "arc.cluster.document",
    "arc.cluster.outlook",
    "arc.cluster.troubles",
    "arc.compaction.config",
    "arc.compaction.names",
    "arc.compaction.receipt",
    "arc.compaction.reports",
    "arc.compaction.survey",
    "arc.compaction.tally",
    "arc.compaction.tiers",
    "arc.config",
    "arc.deletion.config",
    "arc.deletion.names",
    "arc.deletion.orders",
    "arc.deletion.plan",
    "arc.continuous.config",
    "arc.continuous.definition",
    "arc.continuous.names",
    "arc.continuous.progress",
    "arc.continuous.schedule",
    "arc.continuous.statement",
    "arc.continuous.windows",
    "arc.errors",
    "arc.ids",
    "arc.ingest.*",
    "arc.journal*",
    "arc.license",
    "arc.ports",
    "arc.query.prune",
    "arc.query.show",
    "arc.query.snapshot",
    "arc.query.statement",
    "arc.quorum",
    "arc.raft*",
    "arc.replication.backlog",
    "arc.replication.bandwidth",
    "arc.replication.config",
    "arc.replication.copies",
    "arc.replication.insync",
    "arc.replication.messages",
    "arc.replication.placement",
    "arc.replication.suspicion",
    "arc.replication.watermark",
    "arc.security*",
    "arc.settings",
    "arc.storage.config",
    "arc.storage.coverage",
    "arc.storage.files",
    "arc.storage.objects",
    "arc.storage.shelf",
    "arc.storage.parquet",
    "arc.storage.paths",
    "arc.storage.wal.history",
    "arc.storage.wal.keys",
    "arc.storage.wal.record",
    "arc.telemetry*",
    "arc.wire.channels",
    "arc.wire.doorkeeper",
    "arc.wire.errors",
    "arc.wire.facts",
    "arc.wire.frames",
    "arc.wire.handshake",
    "arc.wire.outbox",
    "arc.wire.settlement",
)
IMPURE = (
    "arc.ingest.flush",
    "arc.ingest.holds",
    "arc.ingest.intake",
    "arc.ingest.mirror",
    "arc.ingest.replay",
    "arc.ingest.rescue",
    "arc.ingest.visibility",
    "arc.ingest.writing",
    "arc.raft.applylane",
    "arc.raft.disklane",
    "arc.raft.node",
    "arc.raft.requests",
    "arc.raft.saver",
    "arc.raft.storage",
    "arc.raft.turning",
)
"""Exceptions of the patterns above: the few that wait."""

ASYNC_LIBRARIES = frozenset({"trio", "quart", "quart_trio", "hypercorn", "anyio", "asyncio", "httpx"})

SIMULATOR_COMMANDS = ("arc.cli.exhaustive", "arc.cli.mutants", "arc.cli.sim")
"""These may look up at the simulator, when they run and never before: nothing that serves depends on it."""

PORTS_ONLY = ("arc.system", "arc.system_names", "arc.system_s3", "arc.cli*", "simulations*")
"""Where the world outside may be touched directly."""

WORLD = frozenset(
    {"asyncio", "concurrent", "multiprocessing", "obstore", "os", "pathlib", "random", "secrets", "selectors", "shutil"}
    | {"signal", "socket", "subprocess", "tempfile", "threading", "time", "uuid"}
)
WORLD_EXCEPT = frozenset({"pathlib.PurePosixPath", "pathlib.PurePath"})
"""Names of those modules that only compute."""

WORLD_CALLS = frozenset(
    {
        "open",
        "input",
        "io.open",
        "io.FileIO",
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "datetime.datetime.now",
        "datetime.datetime.utcnow",
        "datetime.datetime.today",
        "datetime.date.today",
        "trio.Path",
        "trio.open_file",
        "trio.open_tcp_listeners",
        "trio.open_tcp_stream",
        "trio.open_unix_socket",
        "trio.run_process",
        "trio.serve_tcp",
        "trio.to_thread.run_sync",
    }
)

GROUND_THIRD_PARTY = {"arc.journal": frozenset({"google_crc32c"})}

LINES_MAX = 450

DISTRIBUTIONS = {
    "google_crc32c": "google-crc32c",
    "prometheus_client": "prometheus-client",
    "prompt_toolkit": "prompt-toolkit",
    "quart_trio": "quart-trio",
}
"""Import name → name on PyPI where the two differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import: ``target`` is a module, ``name`` what was taken from it (empty: the module itself)."""

    target: str
    name: str
    line: int
    typing_only: bool
    in_function: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One source file."""

    name: str
    source: str = field(repr=False)
    tree: ast.Module = field(repr=False)
    imports: tuple[Import, ...] = field(repr=False)

    @property
    def room(self) -> str:
        """The entry of FLOORS that it belongs to, or its own name when there is none."""
        parts = self.name.split(".")
        for length in range(len(parts), 0, -1):
            candidate = ".".join(parts[:length])
            if candidate in FLOORS and (candidate != "arc" or self.name == "arc"):
                return candidate
        return self.name


def read_tree(root: Path, packages: Iterable[str]) -> dict[str, Module]:
    """Read every module below ``root/<package>``."""
    sources: dict[str, str] = {}
    packaged: set[str] = set()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if parts[-1] == "__init__":
                parts = parts[:-1]
                packaged.add(".".join(parts))
            sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return parse(sources, packaged)


def parse(sources: Mapping[str, str], packages: Iterable[str] = ()) -> dict[str, Module]:
    """Parse module name → source. ``packages`` are those that are an ``__init__`` (it matters for relative imports)."""
    return {
        name: Module(
            name=name,
            source=source,
            tree=(tree := ast.parse(source, filename=name)),
            imports=tuple(_imports(name, tree, sources.keys(), name in packages)),
        )
        for name, source in sources.items()
    }


def _imports(module: str, tree: ast.Module, known: Iterable[str], is_package: bool) -> Iterator[Import]:
    modules = frozenset(known)
    stack: list[tuple[ast.AST, bool, bool]] = [(tree, False, False)]
    while stack:
        node, typing_only, in_function = stack.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(
                    target=alias.name, name="", line=node.lineno, typing_only=typing_only, in_function=in_function
                )
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node, is_package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                target, name = (full, "") if full in modules else (base, alias.name)
                yield Import(
                    target=target, name=name, line=node.lineno, typing_only=typing_only, in_function=in_function
                )
        inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            stack.extend((child, True, inside) for child in node.body)
            stack.extend((child, typing_only, inside) for child in node.orelse)
        else:
            stack.extend((child, typing_only, inside) for child in ast.iter_child_nodes(node))


def _absolute(module: str, node: ast.ImportFrom, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module.split(".")
    keep = len(parts) - node.level + (1 if is_package else 0)
    return ".".join([*parts[:keep], *([node.module] if node.module else [])])


# ------------------------------------------------------------------------------------------------------------ rules


def floor_findings(modules: Mapping[str, Module]) -> list[str]:
    """A room imports only from lower floors, and rooms of one floor never meet. Imports for types count too."""
    found: list[str] = []
    for module in modules.values():
        if module.room not in FLOORS:
            found.append(f"{module.name}: has no floor; give it one in tests/floors.py and in ARCHITECTURE.md")
            continue
        for each in module.imports:
            target = _room_of(each.target, modules)
            if target is None or target == module.room:
                continue
            own, other = FLOORS[module.room], FLOORS.get(target, 99)
            if other < own or (own == other == 0 and target in GROUND):
                continue
            is_late = each.in_function or each.typing_only
            if target == "simulations" and module.name in SIMULATOR_COMMANDS and is_late:
                continue
            relation = "the same floor as" if own == other else "below"
            found.append(
                f"{module.name}:{each.line}: imports {each.target}, but {module.room} (floor {own}) is {relation}"
                f" {target} (floor {other}). What is missing is a fact (catalog), a value (lower floor), or a Protocol"
                " declared here whose object arc/node.py passes in"
            )
    return sorted(found)


def raft_order_findings(modules: Mapping[str, Module]) -> list[str]:
    """Inside raft, files follow the order of the paper."""
    step = {f"arc.raft.{name}": index for index, names in enumerate(RAFT_ORDER) for name in names}
    return sorted(
        f"{module.name}:{each.line}: imports {each.target}, which comes later in raft's order (ARCHITECTURE.md, 4)"
        for module in modules.values()
        if module.name in step
        for each in module.imports
        if step.get(each.target, -1) > step[module.name]
    )


def circle_findings(modules: Mapping[str, Module]) -> list[str]:
    """No module imports itself through others. Imports for types only do not run, so they do not count."""
    edges = {
        module.name: sorted({each.target for each in module.imports if not each.typing_only} & modules.keys())
        for module in modules.values()
    }
    found: list[str] = []
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = (*path[path.index(name) :], name)
            found.append(f"import circle: {' -> '.join(circle)}. Move what both need to a third module below them")
            return
        if name in done:
            return
        for target in edges[name]:
            visit(target, (*path, name))
        done.add(name)

    for name in sorted(edges):
        visit(name, ())
    return found


def purity_findings(modules: Mapping[str, Module]) -> list[str]:
    """A pure module reaches no async library, neither itself nor through what it imports."""
    found: list[str] = []
    for module in modules.values():
        if not _matches(module.name, PURE) or _matches(module.name, IMPURE):
            continue
        way = _way_to_async(module.name, modules)
        if way:
            found.append(
                f"{' -> '.join(way)}: {module.name} is pure and may not reach {way[-1]}."
                " Keep the decision here and move the awaiting to the caller"
            )
    return sorted(found)


def _way_to_async(start: str, modules: Mapping[str, Module]) -> tuple[str, ...]:
    seen = {start}
    ways: list[tuple[str, ...]] = [(start,)]
    for way in ways:
        for each in modules[way[-1]].imports:
            if each.typing_only:
                continue
            if each.target.partition(".")[0] in ASYNC_LIBRARIES:
                return (*way, each.target)
            if each.target in modules and each.target not in seen:
                seen.add(each.target)
                ways.append((*way, each.target))
    return ()


def port_findings(modules: Mapping[str, Module]) -> list[str]:
    """Time, chance, files, sockets and threads come through the five ports."""
    found: list[str] = []
    for module in modules.values():
        if _matches(module.name, PORTS_ONLY):
            continue
        for each in module.imports:
            if each.target.partition(".")[0] in WORLD and f"{each.target}.{each.name}" not in WORLD_EXCEPT:
                found.append(f"{module.name}:{each.line}: imports {each.target}; {_PORT_HINT}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and (called := _dotted(node.func)) in WORLD_CALLS:
                found.append(f"{module.name}:{node.lineno}: calls {called}; {_PORT_HINT}")
    return sorted(found)


_PORT_HINT = "take it from the port that was handed in (arc/ports.py); only arc/system.py and arc/cli touch the world"


def docstring_findings(modules: Mapping[str, Module]) -> list[str]:
    """A module opens with its one idea. An empty ``__init__`` says nothing and needs nothing."""
    return sorted(
        f"{module.name}: has no docstring; open it with its one idea, and what it deliberately does not do"
        for module in modules.values()
        if module.source.strip() and not ast.get_docstring(module.tree)
    )


def length_findings(modules: Mapping[str, Module]) -> list[str]:
    """A module is one idea; beyond this length it is two."""
    return sorted(
        f"{module.name}: {lines} lines, more than {LINES_MAX}; which two ideas are in it?"
        for module in modules.values()
        if (lines := len(module.source.splitlines())) > LINES_MAX
    )


def dependency_findings(modules: Mapping[str, Module], declared: Iterable[str]) -> list[str]:
    """What is imported is declared in pyproject.toml (else a fresh install breaks); floor 0 needs nothing installed."""
    known = {name.lower() for name in declared}
    found: list[str] = []
    for module in modules.values():
        for each in module.imports:
            top = each.target.partition(".")[0]
            if top in sys.stdlib_module_names or top in ("arc", "simulations"):
                continue
            if DISTRIBUTIONS.get(top, top).lower() not in known:
                found.append(f"{module.name}:{each.line}: imports {top}, which pyproject.toml does not list")
            is_ground = FLOORS.get(module.room) == 0 and not each.typing_only
            if is_ground and top not in GROUND_THIRD_PARTY.get(module.room, frozenset()):
                found.append(f"{module.name}:{each.line}: floor 0 needs nothing installed, but imports {top}")
    return sorted(found)


def _room_of(target: str, modules: Mapping[str, Module]) -> str | None:
    """The room of an imported module of ours; None for a library."""
    if target.partition(".")[0] not in ("arc", "simulations"):
        return None
    known = modules.get(target)
    return known.room if known else Module(name=target, source="", tree=ast.Module([], []), imports=()).room


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _dotted(node: ast.AST) -> str:
    match node:
        case ast.Name():
            return node.id
        case ast.Attribute():
            return f"{_dotted(node.value)}.{node.attr}"
        case _:
            return ""
