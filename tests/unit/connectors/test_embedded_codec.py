"""Encoded bodies: in and out, bounded, never half."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.embedded.codec import (
    BodyTooLargeError,
    Encoder,
    accepted_encodings,
    can_decode,
    choose_encoding,
    encode_whole,
    pieces,
)

ENCODINGS = ["", *accepted_encodings()]


def decode(body: bytes, encoding: str, bytes_max: int = 1 << 30) -> bytes:
    return b"".join(pieces(body, encoding, bytes_max=bytes_max))


def test_every_encoding_of_the_client_is_known_here() -> None:
    assert accepted_encodings() == ("lz4", "zstd", "gzip", "deflate")
    assert not can_decode("br")


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(parts=st.lists(st.binary(max_size=200), max_size=5))
def test_what_was_encoded_comes_back(encoding: str, parts: list[bytes]) -> None:
    assert decode(encode_whole(parts, encoding), encoding) == b"".join(parts)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_one_member_after_the_other_is_one_body(encoding: str) -> None:
    """The client writes one member per block."""
    body = b"".join(encode_whole([b"%d" % n * 40_000], encoding) for n in range(3))

    assert decode(body, encoding) == b"0" * 40_000 + b"1" * 40_000 + b"2" * 40_000


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_small_body_cannot_become_an_endless_one(encoding: str) -> None:
    body = encode_whole([b"x" * 50_000_000], encoding)
    with pytest.raises(BodyTooLargeError):
        decode(body, encoding, bytes_max=10_000_000)


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
def test_half_a_body_is_refused(encoding: str) -> None:
    with pytest.raises(ValueError, match=encoding):
        decode(encode_whole([b"x" * 1000], encoding)[:-3], encoding)


@pytest.mark.parametrize("encoding", ENCODINGS[1:])
@given(body=st.binary(min_size=1, max_size=100))
def test_a_body_that_is_not_encoded_is_refused(encoding: str, body: bytes) -> None:
    try:
        decode(body, encoding)
    except ValueError as error:
        assert str(error) == encoding  # noqa: PT017 - a body may be valid by chance


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", ""),
        ("lz4,zstd,br,gzip,deflate", "lz4"),
        ("gzip, deflate", "gzip"),
        ("GZIP", "gzip"),
        ("gzip;q=0, deflate;q=0.5", "deflate"),
        ("identity", ""),
        ("br", ""),
        ("*", ""),
    ],
)
def test_the_cheapest_accepted_encoding_is_chosen(accepted: str, chosen: str) -> None:
    assert choose_encoding(accepted) == chosen


def test_an_encoder_streams() -> None:
    encoder = Encoder("gzip")
    body = encoder.encode(b"one") + encoder.encode(b"two") + encoder.finish()

    assert gzip.decompress(body) == b"onetwo"
