"""How people write where a node is reached."""

from __future__ import annotations

import pytest

from arc.wire.facts import Address


@pytest.mark.parametrize(
    ("text", "read", "written"),
    [
        ("n1", ("n1", 8000), "n1:8000"),
        ("n1.example", ("n1.example", 8000), "n1.example:8000"),
        ("n1.example:80", ("n1.example", 80), "n1.example:80"),
        ("10.0.0.1", ("10.0.0.1", 8000), "10.0.0.1:8000"),
        ("10.0.0.1:8122", ("10.0.0.1", 8122), "10.0.0.1:8122"),
        ("::1", ("::1", 8000), "[::1]:8000"),
        ("[::1]", ("::1", 8000), "[::1]:8000"),
        ("[fe80::1]:81", ("fe80::1", 81), "[fe80::1]:81"),
    ],
)
def test_a_host_alone_is_reached_at_the_port_it_listens_on(text: str, read: tuple[str, int], written: str) -> None:
    found = Address.read(text, 8000)
    assert found == read and str(found) == written


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":80",
        "n1:",
        "n1:http",
        "n1:0",
        "n1:65536",
        "10.0.0.1:8122:8122",
        "http://n1:80",
        "n1/db",
        "me@n1",
        "a b",
        "[n1]:x",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host"):
        Address.read(text, 8000)
