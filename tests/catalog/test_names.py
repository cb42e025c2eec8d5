"""Names: what may be called how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.names import check_column_name, check_database_name, check_measurement_name
from arc.errors import InvalidRequest
from arc.storage.paths import quote_part, unquote_part


@pytest.mark.parametrize("name", ["a", "Default", "my_db-2", "x" * 64])
def test_database_names_that_are_taken(name: str) -> None:
    assert check_database_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "1a", "_a", "-a", "a.b", "a b", "a/b", "..", "\u00e4", "a\n", "x" * 65, "system", "Internal", "_internal"],
)
def test_database_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        check_database_name(name)


@pytest.mark.parametrize(
    "name", ["cpu", "_internal", "1min", "disk.io", "http response", "\u6e29\u5ea6", "a=b,c", "%2e", "x" * 128, "a-b:c"]
)
def test_measurement_names_that_are_taken(name: str) -> None:
    assert check_measurement_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "a\\b",
        'a"b',
        "a'b",
        "a`b",
        "a\0",
        "a\nb",
        "\u202e",
        " a",
        "a ",
        "x" * 129,
        "\u6e29" * 100,
    ],
)
def test_measurement_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="measurement name"):
        check_measurement_name(name)


@given(st.text(max_size=130))
def test_an_accepted_measurement_is_one_folder_that_leads_back_to_it(name: str) -> None:
    try:
        check_measurement_name(name)
    except InvalidRequest:
        return
    folder = quote_part(name)
    assert "/" not in folder and "\\" not in folder and not folder.startswith(".") and folder.isascii()
    assert len(folder) <= 255
    assert unquote_part(folder) == name


@pytest.mark.parametrize("name", ["", "time", "TIME", "Time", "a\0b", "x" * 256])
def test_column_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="column name"):
        check_column_name(name)


@pytest.mark.parametrize("name", ["v", "usage idle", 'quote"d', "\u00e4", "_time", "x" * 255])
def test_column_names_that_are_taken(name: str) -> None:
    assert check_column_name(name) == name
