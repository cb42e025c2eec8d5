"""A licence is believed when its issuer signed it, and a broken one never makes a node do less in silence."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.nodes import NodeRecord
from arc.errors import ClusteringFeatureRequired, CoreLimitExceeded, LicenseRequired
from arc.ids import NodeId
from arc.license import (
    CLUSTERING,
    DAY_SECONDS,
    OPEN,
    WRITER_FAILOVER,
    InvalidLicense,
    License,
    LicenseConfig,
    LicenseState,
    check_clustering,
    check_cores,
    count_cores,
    load_license,
    parse_license,
    require_feature,
    sign_license,
)
from tests.fakes import MemoryDisk

PRIVATE = bytes(range(32))
PUBLIC = Ed25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw().hex()
NOW_US = 1_750_000_000_000_000
DAY_US = DAY_SECONDS * 1_000_000

GOOD = License(holder="Ada", features=(CLUSTERING,), max_cores=8, expires_us=NOW_US, grace_days=2)
TEXT = sign_license(GOOD, PRIVATE)


def test_without_a_licence_everything_is_allowed_for_ever_and_without_limit() -> None:
    licence = load_license(LicenseConfig(), MemoryDisk())
    assert licence is OPEN
    check_clustering(licence, 1 << 62)
    require_feature(licence, WRITER_FAILOVER, 1 << 62)
    check_cores(licence, nodes(n1=1_000_000), "n2", 1_000_000)


def test_a_signed_licence_comes_back_as_it_was_issued_from_a_text_and_from_a_file() -> None:
    assert load_license(LicenseConfig(text=TEXT, issuer=PUBLIC), MemoryDisk()) == GOOD
    disk = MemoryDisk()
    wrapped = "\n".join(TEXT[at : at + 60] for at in range(0, len(TEXT), 60)) + "\n"
    disk.write_durable("licence.txt", wrapped.encode())
    assert load_license(LicenseConfig(file="licence.txt", issuer=PUBLIC), disk) == GOOD


@given(place=st.integers(0, len(TEXT) - 1), char=st.characters(codec="ascii", exclude_categories=("Z", "C")))
def test_a_licence_with_any_character_changed_is_refused(place: int, char: str) -> None:
    changed = TEXT[:place] + char + TEXT[place + 1 :]
    if changed == TEXT or place == len(TEXT) - 1:
        return  # The last character of 64 bytes has bits that mean nothing.
    with pytest.raises(InvalidLicense):
        parse_license(changed, PUBLIC)


def test_a_licence_of_another_issuer_is_refused_and_not_quoted() -> None:
    with pytest.raises(InvalidLicense, match=r"not signed by the key in license\.issuer") as caught:
        parse_license(sign_license(GOOD, bytes(32)), PUBLIC)
    assert "Ada" not in caught.value.message and caught.value.code == "invalid_license"


@pytest.mark.parametrize(
    "text", ["", "x", "arc-licence-1.e30", "arc-licence-2.e30.e30", "a" * 20_000, "arc-licence-1.ü.e"]
)
def test_what_is_no_licence_is_refused(text: str) -> None:
    with pytest.raises(InvalidLicense):
        parse_license(text, PUBLIC)


def test_a_licence_that_is_configured_and_missing_stops_the_start() -> None:
    """P-45: never on as if nothing had been configured."""
    with pytest.raises(InvalidLicense, match=r"license\.file 'gone\.txt' cannot be read"):
        load_license(LicenseConfig(file="gone.txt", issuer=PUBLIC), MemoryDisk())


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"text": "x"}, "needs issuer"),
        ({"text": "x", "file": "y", "issuer": PUBLIC}, "not both"),
        ({"issuer": "abc"}, "64 hexadecimal digits"),
    ],
)
def test_a_section_that_says_too_little_is_refused(section: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        LicenseConfig(**section)


@pytest.mark.parametrize(
    ("now_us", "state"),
    [
        (NOW_US - 1, LicenseState.VALID),
        (NOW_US, LicenseState.GRACE),
        (NOW_US + 2 * DAY_US - 1, LicenseState.GRACE),
        (NOW_US + 2 * DAY_US, LicenseState.EXPIRED),
    ],
)
def test_a_licence_that_is_over_works_on_through_its_grace(now_us: int, state: LicenseState) -> None:
    assert GOOD.state(now_us) is state
    if state is LicenseState.EXPIRED:
        with pytest.raises(LicenseRequired, match="has expired"):
            check_clustering(GOOD, now_us)
    else:
        check_clustering(GOOD, now_us)


def test_clustering_needs_a_licence_that_speaks_of_it() -> None:
    with pytest.raises(LicenseRequired) as none:
        check_clustering(None, NOW_US)
    with pytest.raises(ClusteringFeatureRequired) as lacking:
        check_clustering(License(holder="Ada", features=(WRITER_FAILOVER,)), NOW_US)
    assert (none.value.code, lacking.value.code) == ("license_required", "clustering_feature_required")
    assert (none.value.status, lacking.value.status) == (403, 403)


@pytest.mark.parametrize(
    ("limit", "node", "cores", "is_allowed"),
    [
        (8, "n3", 2, True),  # 4 + 2 + 2, just at the limit
        (8, "n3", 3, False),
        (8, "n2", 4, True),  # its own 2 are not counted twice
        (8, "n2", 5, False),
        (0, "n3", 1_000, True),
        (-1, "n3", 1_000, True),  # no limit, as the newer original has it (#869)
        (5, "n2", 2, True),  # the limit shrank below what stands: who is there stays
        (5, "n1", 5, False),
    ],
)
def test_cores_are_counted_once_per_node(limit: int, node: str, cores: int, is_allowed: bool) -> None:
    licence = License(holder="Ada", features=(CLUSTERING,), max_cores=limit)
    if is_allowed:
        check_cores(licence, nodes(n1=4, n2=2), node, cores)
        return
    with pytest.raises(CoreLimitExceeded, match=f"the licence allows {limit}"):
        check_cores(licence, nodes(n1=4, n2=2), node, cores)


def test_the_account_of_cores_knows_what_remains() -> None:
    assert count_cores(GOOD, nodes(n1=4, n2=2)).remaining == 2
    assert count_cores(GOOD, nodes(n1=40)).remaining == 0
    assert count_cores(OPEN, nodes(n1=40)).remaining is None


def nodes(**cores: int) -> list[NodeRecord]:
    return [NodeRecord(NodeId(name), 1, "", cores=count) for name, count in cores.items()]
