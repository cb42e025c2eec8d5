"""Bodies by their first bytes: what comes out, and what never gets out of hand."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import compression
from arc.ingest.compression import inflate

LIMIT = 1 << 24
TEXT = b"cpu,host=a usage=1.5 1700000000000000000\n" * 5000


def zstd_streaming(data: bytes) -> bytes:
    """A frame without content size, as a client makes it that does not know the size beforehand."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor.compress(data) + compressor.flush()


FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "zstd streaming": zstd_streaming,
}
formats = pytest.mark.parametrize("compress", FORMATS.values(), ids=FORMATS.keys())


@formats
@given(data=st.binary(max_size=2000))
@settings(max_examples=50)
def test_what_was_compressed_comes_out_again(compress: Callable[[bytes], bytes], data: bytes) -> None:
    assert inflate(compress(data), limit_bytes=LIMIT) == data


@formats
def test_members_one_after_another_are_one_body(compress: Callable[[bytes], bytes]) -> None:
    assert inflate(compress(TEXT) + compress(b"end"), limit_bytes=LIMIT) == TEXT + b"end"


@formats
def test_a_body_larger_than_one_chunk_comes_out_whole(compress: Callable[[bytes], bytes]) -> None:
    data = TEXT * 12
    assert len(data) > 2 * compression.CHUNK_BYTES
    assert inflate(compress(data), limit_bytes=len(data)) == data


@formats
def test_one_byte_over_the_limit_is_too_large(compress: Callable[[bytes], bytes]) -> None:
    assert inflate(compress(TEXT), limit_bytes=len(TEXT)) == TEXT
    with pytest.raises(TooLarge):
        inflate(compress(TEXT), limit_bytes=len(TEXT) - 1)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_is_given_up_after_the_limit_and_one_chunk(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million zero bytes for each byte sent must not be made before somebody counts them."""
    bomb = FORMATS[kind](bytes(64 << 20))
    made: list[int] = []
    unpack = compression._gunzip if kind == "gzip" else compression._unzstd

    def counted(body: bytes) -> object:
        for chunk in unpack(body):
            made.append(len(chunk))
            yield chunk

    monkeypatch.setattr(compression, "_gunzip" if kind == "gzip" else "_unzstd", counted)
    with pytest.raises(TooLarge):
        inflate(bomb, limit_bytes=4 << 20)
    assert sum(made) <= (4 << 20) + compression.CHUNK_BYTES
    assert max(made) <= compression.CHUNK_BYTES


@formats
def test_every_cut_of_a_body_is_invalid(compress: Callable[[bytes], bytes]) -> None:
    body = compress(b"cpu usage=1.5\n" * 20)
    for length in range(4, len(body)):
        with pytest.raises(InvalidRequest, match=r"cut short|corrupt"):
            inflate(body[:length], limit_bytes=LIMIT)


@formats
def test_bytes_after_the_end_are_invalid(compress: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InvalidRequest):
        inflate(compress(TEXT) + b"junk", limit_bytes=LIMIT)


def test_gzip_of_endless_empty_members_is_given_up() -> None:
    with pytest.raises(TooLarge, match="members"):
        inflate(gzip.compress(b"") * (compression.GZIP_MEMBERS_MAX + 1), limit_bytes=LIMIT)


def test_zero_padding_after_gzip_is_ignored() -> None:
    assert inflate(gzip.compress(TEXT) + bytes(512), limit_bytes=LIMIT) == TEXT


def test_a_wrong_checksum_is_invalid() -> None:
    body = bytearray(gzip.compress(TEXT))
    body[-5] ^= 1
    with pytest.raises(InvalidRequest, match="corrupt"):
        inflate(bytes(body), limit_bytes=LIMIT)


def test_a_zstd_frame_that_asks_for_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(InvalidRequest, match="memory"):
        inflate(compressor.compress(b"abc") + compressor.flush(), limit_bytes=LIMIT)


@pytest.mark.parametrize("body", [b"", b"\x1f", b"cpu usage=1 1", b"\x28\xb5", b"\x82\xa1m\xa3cpu"])
def test_other_bodies_pass_unchanged(body: bytes) -> None:
    assert inflate(body, limit_bytes=LIMIT) == body


def test_an_uncompressed_body_over_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge):
        inflate(b"x" * 11, limit_bytes=10)


def test_gzip_without_isal_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_inflater", zlib.decompressobj)
    body = gzip.compress(TEXT) + gzip.compress(b"x")
    assert inflate(body, limit_bytes=LIMIT) == TEXT + b"x"
    with pytest.raises(InvalidRequest):
        inflate(body[:-3], limit_bytes=LIMIT)


@given(
    magic=st.sampled_from([b"\x1f\x8b", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b""]), rest=st.binary(max_size=200)
)
@settings(max_examples=200)
def test_random_bytes_never_raise_anything_unforeseen(magic: bytes, rest: bytes) -> None:
    with contextlib.suppress(InvalidRequest, TooLarge):
        inflate(magic + rest, limit_bytes=1 << 20)


@given(data=st.data())
@settings(max_examples=100)
def test_a_damaged_body_never_raises_anything_unforeseen(data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(list(FORMATS.values())))(b"cpu usage=1.5\n" * 9))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest, TooLarge):
        inflate(bytes(body), limit_bytes=1 << 20)
