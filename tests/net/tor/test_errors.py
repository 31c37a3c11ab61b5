from __future__ import annotations

import pytest

from aegis_edge.net.tor.errors import Refused, TorError, alone


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


def test_one_kind_leaves_a_group_and_nothing_else_does() -> None:
    why = KeyError("x")
    with pytest.raises(KeyError) as caught:
        with alone(KeyError):
            raise ExceptionGroup("", [OSError(), ExceptionGroup("", [why])])
    assert caught.value is why
    with pytest.raises(ExceptionGroup):
        with alone(KeyError):
            raise ExceptionGroup("", [OSError()])
