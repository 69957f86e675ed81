"""Compressed bodies: whole or not at all, and never larger than allowed."""

import gzip
import json
import tracemalloc

import pytest
import zstandard

from sampan.api.bodies import Bodies, TooLarge, Unpackable

LIMIT = 200_000
TEXT = json.dumps(list(range(30_000))).encode()
PACKED = {
    b"gzip": gzip.compress(TEXT),
    b"zstd": zstandard.compress(TEXT),
    b"zstd ": zstandard.ZstdCompressor(write_content_size=False).compress(TEXT),
}


def unpack(body: bytes, encoding: bytes, limit: int = LIMIT) -> bytes:
    return Bodies(limit, lambda count: None).unpack(body, encoding.strip())


@pytest.mark.parametrize("encoding", PACKED)
def test_a_body_comes_out_as_it_was_packed(encoding: bytes) -> None:
    assert unpack(PACKED[encoding], encoding, len(TEXT)) == TEXT
    with pytest.raises(TooLarge):
        unpack(PACKED[encoding], encoding, len(TEXT) - 1)


@pytest.mark.parametrize("encoding", PACKED)
def test_a_body_that_ends_too_soon_or_goes_on_is_not_taken_as_whole(encoding: bytes) -> None:
    packed = PACKED[encoding]
    for kept in (*range(0, 300, 7), *range(300, len(packed), 997), len(packed) - 4, len(packed) - 1):
        with pytest.raises(Unpackable, match="it ends too soon"):
            unpack(packed[:kept], encoding)
    for more in (b"\n", b"x" * 5_000, packed):
        with pytest.raises(Unpackable, match="bytes follow its end"):
            unpack(packed + more, encoding)
    with pytest.raises(Unpackable):
        unpack(b"nonsense" * 10, encoding)


def test_what_is_packed_very_tightly_is_given_up_early() -> None:
    block = ((131_072 << 3) | 2).to_bytes(3, "little") + b"a"  # says 128 KiB in four bytes
    bomb = b"\x28\xb5\x2f\xfd\x00\x38" + block * 250_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            unpack(bomb, b"zstd")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
