from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.peers import address
from aegis_edge.peers.address import Address, AddressError, parse, parse_all


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("tcp:127.0.0.1:80", "127.0.0.1", 80),
        ("tcp:[::1]:8080", "::1", 8080),
        ("tcp:[2001:DB8:0::7]:1", "2001:db8::7", 1),
        ("tcp:Board.Local:65535", "board.local", 65535),
        ("tcp:my_board-2.example:1", "my_board-2.example", 1),
        ("tcp:7.a:1", "7.a", 1),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    found = parse(text)
    assert found == Address("tcp", host, port)
    assert parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp",
        "tcp:",
        "tcp:host",
        "tcp::80",
        "tcp:host:",
        "tcp:::1:80",
        "tcp:h:٣",
        "tcp:h:080",
        "tcp:h:-1",
        "tcp:h:1 ",
        " tcp:h:1",
        "tcp:h:1\n",
        "TCP:h:1",
        "tcp:[]:1",
        "tcp:[::1:1",
        "tcp:h]:1",
        "tcp:h:123456",
        "tcp:[fe80::1%eth0]:1",
    ],
)
def test_what_is_no_address_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(AddressError, match="write it as tcp:host:port"):
        parse(text)


@pytest.mark.parametrize(
    "host",
    [
        "a b",
        "a\tb",
        "a\x00b",
        "a/b",
        "a@b",
        "-a",
        "a-",
        "a..b",
        ".a",
        "a.",
        "%",
        "bücher.example",
        "[1.2.3.4]",
        "[a.b]",
        "[1::2::3]",
        "256.1.1.1",
        "1.2.3.4.5",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "a.0x",
        "a.1",
    ],
)
def test_a_host_is_a_name_or_an_ip_address_and_nothing_odd(host: str) -> None:
    with pytest.raises(AddressError):
        parse(f"tcp:{host}:1")


@pytest.mark.parametrize("host", ["a" * 64, "ab" + 63 * ".abc"])
def test_a_name_is_as_long_as_dns_allows(host: str) -> None:
    assert parse(f"tcp:{host[1:]}:1").host == host[1:]
    with pytest.raises(AddressError):
        parse(f"tcp:{host}:1")


def test_a_kind_that_is_not_known_is_refused() -> None:
    with pytest.raises(AddressError, match="does not know"):
        parse("udp:host:80")


def test_a_port_is_bounded_and_zero_is_only_for_listening() -> None:
    for text in ("tcp:host:65536", "tcp:host:0"):
        with pytest.raises(AddressError, match="from 1 to 65535"):
            parse(text)
    assert parse("tcp:host:0", port_min=0).port == 0


@pytest.mark.parametrize(
    "texts",
    [("tcp:a:1", "tcp:b:1", "tcp:a:1"), ("tcp:A:1", "tcp:a:1"), ("tcp:[::0]:1", "tcp:[::]:1")],
)
def test_one_place_twice_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(AddressError, match="twice"):
        parse_all(texts)
    assert parse_all(texts[:1]) == (parse(texts[0]),)
    assert parse_all(()) == ()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("LOCALHOST", "loopback"),
        ("a.localhost", "loopback"),
        ("169.254.169.254", "link-local"),
        ("[fe80::1]", "link-local"),
        ("224.0.0.1", "multicast"),
        ("[ff02::1]", "multicast"),
        ("255.255.255.255", "multicast"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("[::]", "unspecified"),
        ("192.168.1.20", ""),
        ("[fd00::1]", ""),
        ("localhost.example", ""),
        ("board", ""),
    ],
)
def test_who_dials_these_reaches_something_of_its_own(host: str, why: str) -> None:
    assert parse(f"tcp:{host}:1").peculiarity == why


@given(st.text(max_size=40) | st.from_regex(r"tcp:[^:]*:[0-9]{1,5}", fullmatch=True))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        found = parse(text)
    except AddressError:
        return
    assert parse(str(found)) == found
    assert found.peculiarity in ("", "loopback", "link-local", "multicast", "unspecified")
    assert found.is_name == (address._literal(found.host) is None)


ONION = "3vkq2a7fxhzygixgee4bb4nglnar73rsmtgq7gamymr2xpsnaibkh5qd.onion"


def test_an_onion_service_is_an_address_too() -> None:
    found = parse(f"onion:{ONION.upper()}:8080")
    assert found == Address("onion", ONION, 8080)
    assert str(found) == f"onion:{ONION}:8080"
    assert found.peculiarity == "", "it leads everybody to the same place"


@pytest.mark.parametrize("host", ["board.local", "127.0.0.1", "a" + ONION[1:], ONION[1:]])
def test_what_names_no_onion_service_is_refused(host: str) -> None:
    with pytest.raises(AddressError, match="no onion service"):
        parse(f"onion:{host}:8080")
