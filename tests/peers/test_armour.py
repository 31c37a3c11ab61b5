from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.peers import armour


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.booleans())
def test_what_is_wrapped_comes_out_whatever_stands_around_it(
    contents: list[bytes], carriage_returns: bool
) -> None:
    text = "from the attic:\n" + "\nand\n".join(armour.wrap("A B", c) for c in contents)
    if carriage_returns:
        text = text.replace("\n", "\r\n")
    assert armour.unwrap("A B", text) == tuple(contents)


def test_lines_fit_a_mail() -> None:
    lines = armour.wrap("X", bytes(1000)).splitlines()
    assert lines[0] == "-----BEGIN X-----"
    assert lines[-1] == "-----END X-----"
    assert {len(line) for line in lines[1:-2]} == {64}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is it the right file"),
        (armour.wrap("Y", b"data"), "is it the right file"),
        (armour.wrap("X", b"data").replace("END", "AND"), "cut off"),
        (armour.wrap("X", b"data")[:30], "cut off"),
        (armour.wrap("X", b"data").replace("ZGF", "Z!F"), "copy the whole text again"),
        (armour.wrap("X", b"data").replace("ZGF", "ZÄF"), "copy the whole text again"),
        (armour.wrap("X", b"data").replace("ZGF", "ZG"), "copy the whole text again"),
        ("x" * (armour.TEXT_CHARACTERS_MAX + 1), "longer than"),
    ],
)
def test_other_texts_are_refused_with_advice(text: str, says: str) -> None:
    with pytest.raises(armour.ArmourError, match=says):
        armour.unwrap("X", text)


@given(st.text())
def test_any_text_gives_content_or_the_one_error(text: str) -> None:
    try:
        armour.unwrap("X", f"-----BEGIN X-----{text}-----END X-----")
    except armour.ArmourError as error:
        assert str(error)  # noqa: PT017
