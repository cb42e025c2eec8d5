"""A node over HTTPS whose certificate is of an authority that only its owner knows."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import typer.main

from arc.api.config import ServerConfig
from arc.cli import doctor
from arc.cli.asking_nodes import give_ca_file
from arc.cli.main import build_app
from arc.cluster.config import ClusterConfig
from arc.config import Config
from tests.cli import fake_node
from tests.cli.conftest import Run
from tests.cli.fake_node import Answer, FakeNode

ALONE = Answer(document={"enabled": False, "mode": "standalone", "reason": "this node runs alone: a cluster of one"})


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    return made


@pytest.fixture
def secure_node(authority: trustme.CA) -> Iterator[FakeNode]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with fake_node.running(context) as found:
        yield found


def test_a_private_authority_is_named_by_the_option_or_the_variable(
    run: Run, secure_node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ("cluster", "status", "--endpoint", secure_node.endpoint)
    refused = run(*ask)
    assert refused.exit_code == 4 and "--ca-file or ARC_CA_FILE" in refused.stderr
    secure_node.script(ALONE, ALONE)
    assert run(*ask, "--ca-file", str(tmp_path / "ca.pem")).exit_code == 0
    assert run(*ask).exit_code == 4, "it was for that run"
    monkeypatch.setenv("ARC_CA_FILE", str(tmp_path / "ca.pem"))
    assert run(*ask).exit_code == 0


def test_another_authority_does_not_vouch_for_the_node(run: Run, secure_node: FakeNode, tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    ask = ("raft", "status", "--endpoint", secure_node.endpoint, "--ca-file", str(tmp_path / "other.pem"))
    assert run(*ask).exit_code == 4


@pytest.mark.parametrize(("body", "said"), [(None, "No such file"), ("no certificate", "it holds no certificate")])
def test_a_file_that_is_no_authority_is_a_wrong_use(run: Run, tmp_path: Path, body: str | None, said: str) -> None:
    path = tmp_path / "bad.pem"
    if body is not None:
        path.write_text(body)
    found = run("query", "SELECT 1", "--ca-file", str(path))
    assert found.exit_code == 2 and said in found.stderr


def test_the_doctor_checks_a_node_as_other_nodes_do(secure_node: FakeNode, tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    config = Config(
        server=ServerConfig(
            host="127.0.0.1",
            port=int(secure_node.endpoint.rpartition(":")[2]),
            tls_cert_file=str(pem),
            tls_key_file=str(pem),
        ),
        cluster=ClusterConfig(tls_ca_file=str(pem), tls_cert_file=str(pem), tls_key_file=str(pem)),
    )
    secure_node.script(Answer(document={"version": "1"}), Answer(document={"status": "ready"}))
    assert doctor._running(7, config).finding.startswith("process 7, version 1, is ready at https://")


def test_every_command_that_asks_a_node_takes_it_once() -> None:
    app = build_app()
    give_ca_file(app)
    lacking, asking = [], 0

    def look(command: object, path: str) -> None:
        nonlocal asking
        for name, part in getattr(command, "commands", {}).items():
            look(part, f"{path} {name}")
        names = [option for each in command.params for option in each.opts]  # type: ignore[attr-defined]
        if "--endpoint" in names:
            asking += 1
            if names.count("--ca-file") != 1:
                lacking.append(path)

    look(typer.main.get_command(app), "arc")
    assert (lacking, asking >= 20) == ([], True)
