from __future__ import annotations

import pytest

from aegis_edge.net.channel import Goodbye, LinkError, Misconduct
from aegis_edge.peers.conduct import What


def test_every_goodbye_has_its_own_words() -> None:
    words = {goodbye.words for goodbye in Goodbye}
    assert len(words) == len(Goodbye)
    assert all(text.startswith("the other node ") for text in words)


def test_private_codes_stay_in_the_private_range_of_rfc_6455() -> None:
    assert all(code < 1016 or 4000 <= code <= 4999 for code in Goodbye)


def test_an_error_says_what_to_tell_the_other_end() -> None:
    assert LinkError("it broke").goodbye is Goodbye.NORMAL
    assert str(LinkError("it broke", Goodbye.SILENT)) == "it broke"


@pytest.mark.parametrize(
    ("goodbye", "what"),
    [
        (Goodbye.NORMAL, None),
        (Goodbye.GOING_AWAY, None),
        (Goodbye.DUPLICATE, None),
        (Goodbye.BANNED, None),
        (Goodbye.SILENT, What.SILENT),
        (Goodbye.PROTOCOL, What.GARBAGE),
        (Goodbye.TOO_BIG, What.GARBAGE),
        (Goodbye.HANDSHAKE, What.GARBAGE),
        (Goodbye.NOT_A_MEMBER, What.REFUSED),
        (Goodbye.WRONG_NODE, What.REFUSED),
        (Goodbye.OWN_KEY, What.REFUSED),
        (Goodbye.RECORD, What.REFUSED),
        (Goodbye.TOO_SOON, What.REFUSED),
    ],
)
def test_an_error_tells_something_of_the_other_end_but_never_a_proof(
    goodbye: Goodbye, what: What | None
) -> None:
    assert LinkError("it broke", goodbye).what is what
    assert LinkError("it broke", goodbye, What.CUT).what is What.CUT
    assert Misconduct("it lied", goodbye).what is What.WRONG
