from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.net.tor.endpoint import Endpoint, EndpointError

GOOD = [
    ("unix:/run/tor/control", Endpoint(path="/run/tor/control")),
    ("/run/tor/a b", Endpoint(path="/run/tor/a b")),
    ("9051", Endpoint(host="127.0.0.1", port=9051)),
    ("127.8.8.8:1", Endpoint(host="127.8.8.8", port=1)),
    ("[::1]:65535", Endpoint(host="::1", port=65535)),
]


@pytest.mark.parametrize(("text", "place"), GOOD)
def test_a_place_on_this_host(text: str, place: Endpoint) -> None:
    assert Endpoint.parse(text) == place
    assert Endpoint.parse(str(place)) == place
    assert place.is_unix == text.startswith(("unix:", "/"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no port"),
        ("localhost:9051", "not on this host"),
        ("tor.example:9051", "not on this host"),
        ("192.0.2.1:9051", "not on this host"),
        ("[2001:db8::1]:9051", "not on this host"),
        ("0.0.0.0:9051", "not on this host"),
        ("127.0.0.1:0", "no port"),
        ("127.0.0.1:65536", "no port"),
        ("9" * 5000, "no port"),
        ("٣", "no port"),
        ("unix:run/tor", "no absolute path"),
        ("unix:", "no absolute path"),
        ("/a\0b", "no absolute path"),
        ("/" + "a" * 107, "no absolute path"),
    ],
)
def test_any_other_place_is_refused_with_the_right_form(text: str, words: str) -> None:
    with pytest.raises(EndpointError, match=f"{words}.*; write it as unix:"):
        Endpoint.parse(text)


@given(st.text(max_size=40) | st.text("0123456789.:[]unix/", max_size=20))
def test_any_text_is_a_place_or_an_endpoint_error(text: str) -> None:
    try:
        place = Endpoint.parse(text)
    except EndpointError:
        return
    assert Endpoint.parse(str(place)) == place
