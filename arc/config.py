"""The whole configuration: one frozen section per package, filled from defaults, ``arc.toml``, environment and flags.

Later beats earlier: default < file < ``ARC_<SECTION>_<KEY>`` < flag. A section is a field of `Config` and a key is a
field of its dataclass; nothing else has to be told about a new key. Every value is checked against its annotation, and
every name that is not known is refused with the nearest one that is: a setting that is silently ignored is worse than
none.

This module reads the text and the mapping it is given. Finding the file and the environment is the command line's part.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Literal, get_type_hints

from arc.api.config import AuthConfig, ServerConfig
from arc.backup.config import BackupConfig
from arc.cluster.config import ClusterConfig
from arc.cluster.failover import FailoverConfig
from arc.cluster.judging import HealthConfig
from arc.cluster.router import RouterConfig
from arc.compaction.config import CompactionConfig, RetentionConfig
from arc.continuous.config import ContinuousConfig
from arc.deletion.config import DeleteConfig
from arc.errors import InvalidRequest
from arc.ingest.config import IngestConfig
from arc.license import LicenseConfig
from arc.query.config import QueryConfig
from arc.replication.config import ReplicationConfig
from arc.settings import expected, read_value, show_value
from arc.storage.config import StorageConfig, WalConfig
from arc.telemetry import LogConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Section ``[node]``: who this node is."""

    data_dir: str = "data"
    """Folder of everything the node keeps. Two nodes never share one; a lock refuses the second."""
    id: str = ""
    """Name of the node. Empty: chosen at the first start and kept in the data folder."""
    role: Literal["standalone", "writer", "reader", "compactor"] = "standalone"
    """What the node may do. A standalone node does everything, alone or in a cluster; the others need a cluster."""

    def __post_init__(self) -> None:
        if len(self.id) > 128 or not self.id.isprintable() or self.id != self.id.strip() or {"#", "/"} & {*self.id}:
            raise ValueError(f"id {self.id!r} must be at most 128 printable characters without '#' and '/'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every section. The one place where a new section is registered."""

    node: NodeConfig = field(default_factory=NodeConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    log: LogConfig = field(default_factory=LogConfig)
    wal: WalConfig = field(default_factory=WalConfig)
    ingest: IngestConfig = field(default_factory=IngestConfig)
    query: QueryConfig = field(default_factory=QueryConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    replication: ReplicationConfig = field(default_factory=ReplicationConfig)
    compaction: CompactionConfig = field(default_factory=CompactionConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    delete: DeleteConfig = field(default_factory=DeleteConfig)
    continuous: ContinuousConfig = field(default_factory=ContinuousConfig)
    backup: BackupConfig = field(default_factory=BackupConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    failover: FailoverConfig = field(default_factory=FailoverConfig)
    routing: RouterConfig = field(default_factory=RouterConfig)
    license: LicenseConfig = field(default_factory=LicenseConfig)


SECTIONS: Mapping[str, type] = get_type_hints(Config)
"""Section name → its dataclass."""

OTHER_VARIABLES = frozenset({"ARC_CA_FILE", "ARC_CONNECTION", "ARC_ENDPOINT", "ARC_ORACLE", "ARC_TOKEN"})
"""``ARC_*`` variables that are not configuration of a node: the command line's client and the tests read them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration, and where each value that is not a default came from: ``{"server.port": "arc.toml line 3"}``."""

    config: Config
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One row of `describe`. Values are text in the form the file accepts; a secret shows only whether it is set."""

    section: str
    key: str
    variable: str
    expects: str
    default: str
    value: str
    source: str


def load(
    *,
    toml: str | None = None,
    toml_name: str = "arc.toml",
    environment: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> Loaded:
    """Compose the configuration. ``flags`` is keyed ``"server.port"``; a flag of None was not given.

    Raises InvalidRequest that lists every problem found, each with its source and, for names, the nearest known one.
    """
    problems: list[str] = []
    values: dict[str, dict[str, object]] = {name: {} for name in SECTIONS}
    sources: dict[str, str] = {}
    for given in _given(toml, toml_name, environment, flags or {}, problems):
        hints = get_type_hints(SECTIONS[given.section])
        try:
            values[given.section][given.key] = read_value(given.key, hints[given.key], given.raw)
        except ValueError as problem:
            got = "" if _is_secret(given.section, given.key) else f", got {given.raw!r}"
            problems.append(f"{given.source}: [{given.section}] {given.key} must be {problem}{got}")
        sources[f"{given.section}.{given.key}"] = given.source
    sections = {name: _build(name, values[name], problems) for name in SECTIONS}
    if problems:
        raise InvalidRequest("configuration: " + "\n  ".join(problems), code="invalid_configuration")
    return Loaded(config=Config(**sections), sources=sources)  # type: ignore[arg-type]  # checked by _build


def describe(loaded: Loaded) -> list[Setting]:
    """Return every key with its default, its value and where the value came from, in the order of the sections."""
    rows: list[Setting] = []
    defaults = Config()
    for section, cls in SECTIONS.items():
        hints = get_type_hints(cls)
        for part in fields(cls):
            key = part.name
            value = getattr(getattr(loaded.config, section), key)
            shown = show_value(key, value)
            if _is_secret(section, key) and shown:
                shown = "(set)"
            rows.append(
                Setting(
                    section=section,
                    key=key,
                    variable=_variable(section, key),
                    expects=expected(key, hints[key]),
                    default=show_value(key, getattr(getattr(defaults, section), key)),
                    value=shown,
                    source=loaded.sources.get(f"{section}.{key}", "default"),
                )
            )
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """One value somebody set, its name already known to be right."""

    section: str
    key: str
    raw: object
    source: str


def _given(
    toml: str | None, toml_name: str, environment: Mapping[str, str], flags: Mapping[str, object], problems: list[str]
) -> Iterator[_Given]:
    if toml is not None:
        yield from _from_file(toml, toml_name, problems)
    yield from _from_environment(environment, problems)
    yield from _from_flags(flags, problems)


def _from_file(text: str, name: str, problems: list[str]) -> Iterator[_Given]:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        problems.append(f"{name}: not TOML: {problem}")
        return
    for section, table in document.items():
        if not isinstance(table, dict):
            hint = f"; write [{section}]" if section in SECTIONS else _owner_of(section)
            problems.append(f'{_place(name, text, "", section)}: "{section}" stands outside of any section{hint}')
        elif section not in SECTIONS:
            hint = _or_nearest(section, SECTIONS, "[{}]")
            problems.append(f"{_place(name, text, section, None)}: unknown section [{section}]{hint}")
        else:
            yield from _from_table(section, table, text, name, problems)


def _from_table(
    section: str, table: Mapping[str, object], text: str, name: str, problems: list[str]
) -> Iterator[_Given]:
    known = _keys(SECTIONS[section])
    for key, raw in table.items():
        place = _place(name, text, section, key)
        if key in known:
            yield _Given(section=section, key=key, raw=raw, source=place)
        else:
            hint = _or_nearest(key, known, '"{}"') or _owner_of(key)
            problems.append(f'{place}: unknown key "{key}" in [{section}]{hint}')


def _from_environment(environment: Mapping[str, str], problems: list[str]) -> Iterator[_Given]:
    known = {_variable(section, key): (section, key) for section, cls in SECTIONS.items() for key in _keys(cls)}
    for variable in sorted(environment):
        if not variable.startswith("ARC_") or variable in OTHER_VARIABLES:
            continue
        if variable in known:
            section, key = known[variable]
            yield _Given(section=section, key=key, raw=environment[variable], source=f"variable {variable}")
        else:
            hint = _or_nearest(variable, known.keys() | OTHER_VARIABLES, "{}")
            problems.append(f"variable {variable}: not known{hint}")


def _from_flags(flags: Mapping[str, object], problems: list[str]) -> Iterator[_Given]:
    for name, raw in flags.items():
        section, _, key = name.partition(".")
        if raw is None:
            continue
        if section in SECTIONS and key in _keys(SECTIONS[section]):
            yield _Given(section=section, key=key, raw=raw, source=f"flag {name}")
        else:
            known = [f"{owner}.{each}" for owner, cls in SECTIONS.items() for each in _keys(cls)]
            problems.append(f"flag {name}: not known{_or_nearest(name, known, '{}')}")


def _build(section: str, values: dict[str, object], problems: list[str]) -> object:
    """Make the section. Its own ``__post_init__`` may refuse a combination with ValueError or InvalidRequest."""
    try:
        return SECTIONS[section](**values)
    except (ValueError, InvalidRequest) as problem:
        problems.append(f"[{section}]: {problem}")
        return None


def _keys(cls: type) -> tuple[str, ...]:
    return tuple(part.name for part in fields(cls))


def _variable(section: str, key: str) -> str:
    return f"ARC_{section}_{key}".upper()


def _is_secret(section: str, key: str) -> bool:
    """A field that its dataclass keeps out of its repr is one that nobody prints."""
    return any(part.name == key and not part.repr for part in fields(SECTIONS[section]))


def _owner_of(key: str) -> str:
    """The key may be right and its section wrong."""
    owners = [f"[{section}] {key}" for section, cls in SECTIONS.items() if key in _keys(cls)]
    return f"; did you mean {owners[0]}?" if owners else ""


def _or_nearest(name: str, known: Iterable[str], form: str) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {form.format(near[0])}?" if near else ""


def _place(name: str, text: str, section: str, key: str | None) -> str:
    """Name file and line. The TOML library keeps no lines, so look for the plain spelling, else name only the file."""
    current = ""
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            current = stripped.strip("[] \t").partition("]")[0].strip()
            if key is None and current.partition(".")[0].strip() == section:
                return f"{name} line {number}"
        elif key is not None and current == section and stripped.partition("=")[0].strip().strip("\"'") == key:
            return f"{name} line {number}"
    return name
