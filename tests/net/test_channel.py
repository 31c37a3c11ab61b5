from __future__ import annotations

from aegis_edge.net.channel import Goodbye, LinkError


def test_every_goodbye_has_its_own_words() -> None:
    words = {goodbye.words for goodbye in Goodbye}
    assert len(words) == len(Goodbye)
    assert all(text.startswith("the other node ") for text in words)


def test_private_codes_stay_in_the_private_range_of_rfc_6455() -> None:
    assert all(code < 1016 or 4000 <= code <= 4999 for code in Goodbye)


def test_an_error_says_what_to_tell_the_other_end() -> None:
    assert LinkError("it broke").goodbye is Goodbye.NORMAL
    assert str(LinkError("it broke", Goodbye.SILENT)) == "it broke"
