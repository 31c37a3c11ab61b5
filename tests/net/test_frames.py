from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

from aegis_edge.net import frames
from aegis_edge.net.channel import FRAME_BYTES_MAX_UNPROVEN, Goodbye, LinkError
from aegis_edge.peers.conduct import What
from aegis_edge.wire.session import FRAME_BYTES_MAX

MASK = b"\x01\x80\xff\x37"
SIZES = (0, 1, 3, 125, 126, 256, 65_535, 65_536)


def parser(*, masked: bool, size_bytes_max: int = FRAME_BYTES_MAX) -> frames.Parser:
    made = frames.Parser(masked=masked)
    made.size_bytes_max = size_bytes_max
    return made


def payload(size: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask", [MASK, b""])
def test_frames_are_read_by_an_implementation_that_is_not_ours(size: int, mask: bytes) -> None:
    other = FrameProtocol(client=not mask, extensions=[])
    other.receive_bytes(frames.binary(payload(size), mask))
    received = b"".join(frame.payload for frame in other.received_frames())
    assert received == payload(size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("client", [True, False])
def test_frames_of_an_implementation_that_is_not_ours_are_read(size: int, client: bool) -> None:
    ours = parser(masked=client)
    data = bytes(FrameProtocol(client=client, extensions=[]).send_data(payload(size)))
    ours.feed(data[:-1])
    assert size == 0 or ours.next() is None
    ours.feed(data[-1:])
    assert ours.next() == payload(size)
    assert ours.next() is None


@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 50), st.booleans())
def test_it_does_not_matter_how_the_bytes_are_cut(
    payloads: list[bytes], piece: int, masked: bool
) -> None:
    data = b"".join(frames.binary(p, MASK if masked else b"") for p in payloads)
    ours, received = parser(masked=masked), []
    for start in range(0, len(data), piece):
        ours.feed(data[start : start + piece])
        while (one := ours.next()) is not None:
            received.append(one)
    assert received == payloads


@pytest.mark.parametrize(
    ("data", "goodbye"),
    [
        (b"\x81\x81MASKx", Goodbye.PROTOCOL),  # a text
        (b"\x02\x81MASKx", Goodbye.PROTOCOL),  # the first fragment of something
        (b"\x80\x81MASKx", Goodbye.PROTOCOL),  # a continuation
        (b"\xc2\x81MASKx", Goodbye.PROTOCOL),  # a reserved bit
        (b"\x89\x80MASK", Goodbye.PROTOCOL),  # a ping
        (b"\x8a\x80MASK", Goodbye.PROTOCOL),  # a pong
        (b"\x83\x80MASK", Goodbye.PROTOCOL),  # an unknown kind
        (b"\x82\x05hello", Goodbye.PROTOCOL),  # not masked
        (b"\x88\xfe", Goodbye.PROTOCOL),  # a close frame that is too long
        (b"\x82\xfe\x10\x01", Goodbye.TOO_BIG),
        (b"\x82\xff" + b"\xff" * 8, Goodbye.TOO_BIG),
    ],
)
def test_what_no_node_sends_is_refused_before_it_is_all_there(
    data: bytes, goodbye: Goodbye
) -> None:
    ours = parser(masked=True, size_bytes_max=FRAME_BYTES_MAX_UNPROVEN)
    ours.feed(data)
    with pytest.raises(LinkError) as caught:
        ours.next()
    assert caught.value.goodbye is goodbye


def test_a_masked_frame_from_a_server_is_refused() -> None:
    ours = parser(masked=False)
    ours.feed(frames.binary(b"x", MASK))
    with pytest.raises(LinkError, match="masked"):
        ours.next()


@pytest.mark.parametrize(
    ("code", "words", "what"),
    [
        (Goodbye.NOT_A_MEMBER, "does not count us a member", What.REFUSED),
        (Goodbye.TOO_SOON, "our last links were short", What.REFUSED),
        (Goodbye.BANNED, "keeps us out", What.REFUSED),
        (Goodbye.GOING_AWAY, "shutting down", None),
        (Goodbye.SILENT, "did not hear us", None),
        (4999, r"closed the link \(code 4999\)", None),
    ],
)
def test_a_goodbye_is_told_in_our_words(code: int, words: str, what: What | None) -> None:
    ours = parser(masked=True)
    ours.feed(frames.close(code, MASK))
    with pytest.raises(LinkError, match=words) as caught:
        ours.next()
    assert caught.value.what is what, "whatever it says, it proves nothing"


def test_a_close_frame_is_understood_by_an_implementation_that_is_not_ours() -> None:
    other = FrameProtocol(client=False, extensions=[])
    other.receive_bytes(frames.close(Goodbye.SILENT, MASK))
    (frame,) = other.received_frames()
    assert frame.payload[0] == Goodbye.SILENT


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_give_payloads_or_the_one_error(data: bytes, masked: bool) -> None:
    ours = parser(masked=masked, size_bytes_max=100)
    ours.feed(data)
    try:
        while (one := ours.next()) is not None:
            assert len(one) <= 100
    except LinkError as error:
        assert str(error)  # noqa: PT017
