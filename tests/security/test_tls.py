"""Certificates from files that change: new ones are used, broken ones are told and change nothing."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
import trustme

from arc.errors import InvalidRequest
from arc.security.tls import Certificates, TlsFiles


class Files:
    """Two PEM files and one of an authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(folder / "ca.pem")
        self.install()

    def install(self, expires: datetime.datetime | None = None) -> None:
        issued = self.ca.issue_cert("localhost", not_after=expires)
        issued.private_key_pem.write_to_path(self.folder / "key.pem")
        issued.cert_chain_pems[0].write_to_path(self.folder / "cert.pem")

    def certificates(self, **more: str) -> Certificates:
        files = TlsFiles(cert=str(self.folder / "cert.pem"), key=str(self.folder / "key.pem"), **more)  # type: ignore[arg-type]
        return Certificates(files, lambda path: Path(path).read_bytes())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_files_that_do_not_change_are_read_and_not_built_again(files: Files) -> None:
    certificates = files.certificates()
    certificates.load()
    server = certificates.server
    for _ in range(3):
        assert not certificates.refresh().is_new
    assert certificates.server is server


def test_new_files_make_new_contexts(files: Files) -> None:
    certificates = files.certificates()
    until = datetime.datetime(2040, 5, 6, tzinfo=datetime.UTC)
    certificates.load()
    former = certificates.server, certificates.client
    files.install(until)
    found = certificates.refresh()
    assert found.is_new and found.problem is None
    assert found.expires_us == until.timestamp() * 1_000_000
    assert certificates.server is not former[0] and certificates.client is not former[1]
    assert certificates.reloads_total == 1


def break_cert(files: Files) -> None:
    (files.folder / "cert.pem").write_bytes(b"-----BEGIN")


def remove_key(files: Files) -> None:
    (files.folder / "key.pem").unlink()


def swap_key(files: Files) -> None:
    files.ca.issue_cert("x").private_key_pem.write_to_path(files.folder / "key.pem")


@pytest.mark.parametrize("spoil", [break_cert, remove_key, swap_key])
def test_files_that_cannot_be_used_change_nothing_and_are_told_once(files: Files, spoil: object) -> None:
    certificates = files.certificates()
    certificates.load()
    former = certificates.server
    spoil(files)  # type: ignore[operator]
    assert certificates.refresh().problem is not None
    assert certificates.refresh().problem is None, "told once for each state of the files"
    assert certificates.server is former
    assert certificates.failures_total == 1
    files.install()
    assert certificates.refresh().is_new
    spoil(files)  # type: ignore[operator]
    assert certificates.refresh().problem is not None, "and again after they had been good"


def test_a_start_with_files_that_cannot_be_used_is_refused(files: Files) -> None:
    swap_key(files)
    with pytest.raises(InvalidRequest, match=r"cert\.pem"):
        files.certificates().load()


def test_files_that_change_while_they_are_read_wait_for_the_next_look(files: Files) -> None:
    """An operator replaces two files, one after the other."""
    certificates = files.certificates()
    certificates.load()
    former, reads = certificates.server, 0
    files.install()

    def read(path: str) -> bytes:
        nonlocal reads
        reads += 1
        if reads == 3:
            files.install()
        return Path(path).read_bytes()

    certificates._read = read
    found = certificates.refresh()
    assert not found.is_new and found.problem is None and certificates.server is former
    assert certificates.refresh().is_new


def test_between_nodes_tls_is_1_3_and_with_an_authority_mutual(files: Files) -> None:
    certificates = files.certificates(ca=str(files.folder / "ca.pem"))
    certificates.load()
    for context in (certificates.server, certificates.client):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert certificates.client.check_hostname


def test_a_port_for_everybody_asks_for_no_certificate_and_trusts_one_authority_where_it_dials(files: Files) -> None:
    """One set of files for serving HTTP and for passing requests on: it is read, and told of, once."""
    certificates = files.certificates(trusted=str(files.folder / "ca.pem"))
    certificates.load()
    assert certificates.server.verify_mode is ssl.CERT_NONE
    assert certificates.client.verify_mode is ssl.CERT_REQUIRED
    assert len(certificates.client.get_ca_certs()) == 1
    (files.folder / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    assert certificates.refresh().is_new, "its authority is looked at as well"


def test_without_an_authority_the_dialled_end_alone_is_checked(files: Files) -> None:
    certificates = files.certificates()
    certificates.load()
    assert certificates.server.verify_mode is ssl.CERT_NONE
    assert certificates.client.verify_mode is ssl.CERT_REQUIRED
