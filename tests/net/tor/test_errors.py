from __future__ import annotations

from aegis_edge.net.tor.errors import Refused, TorError


def test_an_error_is_words_and_advice() -> None:
    error = TorError("tor is old", "update it")
    assert (str(error), error.message, error.advice) == (
        "tor is old; update it",
        "tor is old",
        "update it",
    )


def test_a_refusal_has_advice_even_if_nobody_knows_better() -> None:
    error = Refused("SETCONF", 513, "Unacceptable")
    assert (error.code, error.said) == (513, "Unacceptable")
    assert str(error) == f"tor refuses SETCONF (513 Unacceptable); {error.advice}"
    assert "tor's log" in error.advice
    assert Refused("X", 1, "", "do this").advice == "do this"
