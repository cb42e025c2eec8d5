"""A setting is either in force or refused: nothing that an operator wrote is silently ignored."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.cluster.config import peer_secret
from arc.config import OTHER_VARIABLES, SECTIONS, Config, Loaded, NodeConfig, Setting, describe, load
from arc.errors import InvalidRequest
from arc.security.signing import INSECURE_SECRET
from arc.settings import read_value, show_value

SECRET = "0123456789-a-token-of-an-operator-0123456789"


def setting(loaded: Loaded, section: str, key: str) -> Setting:
    return next(row for row in describe(loaded) if (row.section, row.key) == (section, key))


def refusal(toml: str = "", environment: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        load(toml=toml, environment=environment or {}, flags={k.replace("__", "."): v for k, v in flags.items()})
    assert caught.value.code == "invalid_configuration"
    return caught.value.message


def test_nothing_given_is_the_defaults() -> None:
    loaded = load(environment={"HOME": "/", "PATH": "/bin"})
    assert loaded.config == Config()
    assert {row.source for row in describe(loaded)} == {"default"}


@pytest.mark.parametrize(
    ("toml", "environment", "flags", "port", "source"),
    [
        (None, {}, {}, 8000, "default"),
        ("[server]\nport = 1\n", {}, {}, 1, "arc.toml line 2"),
        ("[server]\nport = 1\n", {"ARC_SERVER_PORT": "2"}, {}, 2, "variable ARC_SERVER_PORT"),
        ("[server]\nport = 1\n", {"ARC_SERVER_PORT": "2"}, {"server.port": 3}, 3, "flag server.port"),
        ("[server]\nport = 1\n", {"ARC_SERVER_PORT": "2"}, {"server.port": None}, 2, "variable ARC_SERVER_PORT"),
    ],
)
def test_later_source_wins(
    toml: str | None, environment: dict[str, str], flags: dict[str, object], port: int, source: str
) -> None:
    loaded = load(toml=toml, environment=environment, flags=flags)
    assert loaded.config.server.port == port
    assert setting(loaded, "server", "port").source == source


def test_every_key_can_be_set_by_its_variable() -> None:
    """`describe` names the variable; setting it to the default's own text changes nothing but the source."""
    rows = [row for row in describe(load(environment={})) if row.default]
    loaded = load(environment={row.variable: row.default for row in rows})
    assert loaded.config == Config()
    assert all(setting(loaded, row.section, row.key).source == f"variable {row.variable}" for row in rows)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[server]\nprot = 1\n", 'arc.toml line 2: unknown key "prot" in [server]; did you mean "port"?'),
        ("\n[sever]\nport = 1\n", "arc.toml line 2: unknown section [sever]; did you mean [server]?"),
        ("[zzz]\n", "arc.toml line 1: unknown section [zzz]"),
        ("[query]\nsegment_bytes = 1\n", "in [query]; did you mean [wal] segment_bytes?"),
        ("port = 1\n", 'arc.toml line 1: "port" stands outside of any section; did you mean [server] port?'),
        ("server = 1\n", 'arc.toml line 1: "server" stands outside of any section; write [server]'),
        ("[server]\nport = \n", "arc.toml: not TOML: Invalid value (at line 2, column 8)"),
        ("[server.tls]\ncert = 1\n", 'unknown key "tls" in [server]'),
        ("[server]\nport = 'x'\n", "arc.toml line 2: [server] port must be a whole number, got 'x'"),
        ("[server]\nport = true\n", "[server] port must be a whole number, got True"),
        ("[server]\nport = 1.5\n", "[server] port must be a whole number, got 1.5"),
        ("[server]\nport = 70000\n", "[server]: port"),
        ("[server]\nhost = 1\n", "[server] host must be text, got 1"),
        ("[server]\nport.a = 1\n", "[server] port must be a whole number"),
        (
            "[query]\ntimeout_seconds = -1\n",
            "[query] timeout_seconds must be a duration such as 5s, 250ms or 10m, got -1",
        ),
        ("[query]\ntimeout_seconds = nan\n", "[query] timeout_seconds must be a duration"),
        ("[query]\ntimeout_seconds = '5MiB'\n", "[query] timeout_seconds must be a duration"),
        ("[wal]\nsegment_bytes = '5s'\n", "[wal] segment_bytes must be a size such as 65536 or 64MiB"),
        ("[wal]\nsegment_bytes = '0.3b'\n", "[wal] segment_bytes must be a size"),
        ("[log]\nlevel = 'loud'\n", "[log] level must be one of debug, info, warning, error, got 'loud'"),
        ("[auth]\nenabled = 'maybe'\n", "[auth] enabled must be true or false, got 'maybe'"),
        ("[log]\nring_events = 0\n", "[log]: ring_events must be at least 1"),
    ],
)
def test_file_problem_names_place_and_remedy(toml: str, told: str) -> None:
    assert told in refusal(toml)


def test_all_problems_are_told_at_once() -> None:
    message = refusal("[server]\nprot = 1\n[log]\nlevel = 'x'\n", {"ARC_SERVR_PORT": "1"}, server__prot=1)
    assert message.count("\n") == 3
    assert "variable ARC_SERVR_PORT: not known; did you mean ARC_SERVER_PORT?" in message
    assert "flag server.prot: not known; did you mean server.port?" in message


def test_variable_problem_names_the_variable() -> None:
    assert "variable ARC_SERVER_PORT: [server] port must be a whole number, got ''" in refusal(
        environment={"ARC_SERVER_PORT": ""}
    )


@pytest.mark.parametrize("variable", sorted(OTHER_VARIABLES))
def test_variables_of_the_client_are_left_alone(variable: str) -> None:
    assert load(environment={variable: "x"}).config == Config()


def test_secret_is_never_shown() -> None:
    loaded = load(environment={"ARC_AUTH_BOOTSTRAP_TOKEN": SECRET})
    assert loaded.config.auth.bootstrap_token == SECRET
    assert SECRET not in repr(describe(loaded))
    assert SECRET not in repr(loaded)
    assert setting(loaded, "auth", "bootstrap_token").value == "(set)"
    assert SECRET not in refusal(f"[auth]\nbootstrap_token = ['{SECRET}']\n")


def test_what_sounds_like_a_secret_is_one() -> None:
    """`repr=False` on the field makes it one; a new key may not forget it."""
    for section, cls in SECTIONS.items():
        for part in fields(cls):
            if part.name.endswith(("token", "secret", "password", "_key")):
                assert not part.repr, f"[{section}] {part.name} needs field(repr=False)"


def test_every_key_has_a_type_that_settings_can_read() -> None:
    for cls in SECTIONS.values():
        for key, wanted in get_type_hints(cls).items():
            default = getattr(cls(), key)
            assert read_value(key, wanted, show_value(key, default)) == default


def test_variables_of_all_keys_differ() -> None:
    variables = [row.variable for row in describe(load(environment={}))]
    assert len(variables) == len(set(variables))
    assert not OTHER_VARIABLES & set(variables)


def test_line_is_found_under_its_own_section_only() -> None:
    toml = "[server]\nhost = 'a'\n\n[node]\n# id\nid = 'n1' # [server]\n  role='standalone'\n"
    loaded = load(toml=toml, toml_name="x/arc.toml", environment={})
    assert loaded.config.node == NodeConfig(id="n1")
    assert setting(loaded, "node", "id").source == "x/arc.toml line 6"
    assert setting(loaded, "node", "role").source == "x/arc.toml line 7"
    assert "arc.toml line 4: [server] port must be" in refusal("[log]\nport = 1\n[server]\nport = 'x'\n")


# --------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("key", "wanted", "raw", "value"),
    [
        ("a_bytes", int, "64MiB", 64 << 20),
        ("a_bytes", int, "64mb", 64 << 20),
        ("a_bytes", int, "64 m", 64 << 20),
        ("a_bytes", int, "1.5k", 1536),
        ("a_bytes", int, "2GB", 2 << 30),
        ("a_bytes", int, "1_000", 1000),
        ("a_bytes", int, "7b", 7),
        ("a_bytes", int, 7, 7),
        ("a_seconds", float, "250ms", 0.25),
        ("a_seconds", float, "5s", 5.0),
        ("a_seconds", float, "5", 5.0),
        ("a_seconds", float, "10m", 600.0),
        ("a_seconds", float, "2h", 7200.0),
        ("a_seconds", int, "1d", 86400),
        ("a_seconds", float, 3, 3.0),
        ("ratio", float, "0.8", 0.8),
        ("count", int, "1_000", 1000),
        ("on", bool, "Yes", True),
        ("on", bool, "0", False),
        ("on", bool, False, False),
        ("names", tuple[str, ...], "a, b,,c", ("a", "b", "c")),
        ("names", tuple[str, ...], ["a", "b"], ("a", "b")),
        ("names", tuple[str, ...], "", ()),
        ("mode", Literal["x", "y"], "y", "y"),
        ("limit", int | None, "", None),
        ("limit", int | None, "3", 3),
        ("limit_bytes", int | None, "3k", 3072),
        ("sql_bytes_max", int, "3k", 3072),
    ],
)
def test_value_is_read_by_its_annotation(key: str, wanted: object, raw: object, value: object) -> None:
    got = read_value(key, wanted, raw)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("key", "wanted", "raw", "told"),
    [
        ("count", int, "5s", "a whole number"),
        ("count", int, "x", "a whole number"),
        ("count", int, "-1", "a whole number"),
        ("count", int, "1e400", "a whole number"),
        ("count", int, None, "a whole number"),
        ("a_bytes", int, "64XB", "a size"),
        ("a_seconds", float, "inf", "a duration"),
        ("a_seconds", float, float("inf"), "a duration"),
        ("on", bool, 1, "true or false"),
        ("on", bool, "", "true or false"),
        ("names", tuple[str, ...], [1], "a list of texts"),
        ("mode", Literal["x", "y"], "z", "one of x, y"),
        ("limit", int | None, "x", "a whole number, or empty"),
    ],
)
def test_other_value_is_refused_with_what_was_expected(key: str, wanted: object, raw: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_value(key, wanted, raw)


@given(st.integers(min_value=0, max_value=1 << 50))
def test_size_is_read_back_as_it_was_shown(size: int) -> None:
    assert read_value("a_bytes", int, show_value("a_bytes", size)) == size


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_duration_is_read_back_as_it_was_shown(seconds: float) -> None:
    assert read_value("a_seconds", float, show_value("a_seconds", seconds)) == seconds


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever stands in a variable, the answer is a value or a sentence."""
    for key, wanted in (("a_bytes", int), ("a_seconds", float), ("n", int), ("on", bool), ("l", tuple[str, ...])):
        try:
            read_value(key, wanted, text)
        except ValueError as problem:
            assert str(problem)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("enabled = true", "needs a shared_secret"),
        ('enabled = true\nshared_secret = ""', "needs a shared_secret"),
        ('shared_secret = "15 characters.."', "at least 16 characters"),
        ('enabled = true\ninsecure_dev = true\nshared_secret = "sixteen of them."', "exclude each other"),
        ('tls_cert_file = "c"', "must be given together"),
        ('tls_ca_file = "c"', "needs tls_cert_file"),
    ],
)
def test_a_clustered_node_needs_a_secret(settings: str, told: str) -> None:
    """Promise 35: fail closed at the start, in one sentence."""
    assert told in refusal(f"[cluster]\n{settings}")


def test_where_a_node_is_reached_is_a_host_with_or_without_a_port() -> None:
    """Given its peers' form twice, it was told to others as host:port:port, and nobody reached it."""
    assert "advertise: '10.0.0.1:81:81' is neither host:port nor a host" in refusal(
        '[server]\nadvertise = "10.0.0.1:81:81"'
    )
    assert load(toml='[server]\nadvertise = "10.0.0.1:81"', environment={}).config.server.advertise == "10.0.0.1:81"


def test_the_secret_of_a_cluster_is_shown_nowhere() -> None:
    loaded = load(toml=f'[cluster]\nenabled = true\nshared_secret = "{SECRET}"', environment={})
    assert setting(loaded, "cluster", "shared_secret").value == "(set)"
    assert SECRET not in repr(loaded.config)
    assert peer_secret(loaded.config.cluster) == SECRET.encode()
    assert SECRET not in refusal(f'[cluster]\nshared_secret = "{SECRET}"\ninsecure_dev = true')


def test_a_demo_takes_the_secret_that_everybody_knows() -> None:
    """One path for both: there is no session without a secret."""
    loaded = load(toml="[cluster]\nenabled = true\ninsecure_dev = true", environment={})
    assert peer_secret(loaded.config.cluster) == INSECURE_SECRET.encode()


S3 = {"storage.backend": "s3", "storage.s3_bucket": "rows", "storage.s3_access_key_id": "k"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({}, "needs s3_secret_access_key"),
        ({"storage.s3_secret_access_key": "s", "storage.s3_bucket": ""}, "needs s3_bucket"),
        ({"storage.s3_secret_access_key": "s", "storage.s3_prefix": "/a"}, "s3_prefix must not begin"),
        ({"storage.s3_secret_access_key": "s", "storage.s3_endpoint_url": "http://x"}, "s3_allow_http"),
        ({"storage.s3_secret_access_key": "s", "storage.s3_timeout_seconds": "0"}, "s3_timeout_seconds must be above"),
    ],
)
def test_a_shared_store_that_cannot_work_is_refused_with_the_reason(changes: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        load(environment={}, flags=S3 | changes)


def test_the_secret_of_a_shared_store_is_not_shown_and_a_local_backend_asks_for_nothing() -> None:
    loaded = load(environment={"ARC_STORAGE_S3_SECRET_ACCESS_KEY": "very-secret"}, flags=S3)
    assert loaded.config.storage.s3_secret_access_key == "very-secret"
    assert "very-secret" not in f"{loaded!r}{describe(loaded)}"
    assert load(environment={}).config.storage.backend == "local"
