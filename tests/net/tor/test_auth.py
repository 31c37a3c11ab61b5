from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_edge.crypto import sodium
from aegis_edge.net.tor import auth
from aegis_edge.net.tor.auth import Credentials, ProtocolInfo
from aegis_edge.net.tor.errors import NotAuthenticated, NotTor
from aegis_edge.net.tor.lines import Garbled, Parser, Reply

COOKIE, NONCE, SERVER_NONCE = bytes(range(32)), b"n" * 32, b"s" * 32
INFO = (
    b"250-PROTOCOLINFO 1\r\n"
    b'250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="/run/tor/\\"x\\""\r\n'
    b'250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
)


def reply(data: bytes) -> Reply:
    (found,) = Parser().feed(data)
    return found


def challenged(server_hash: str, server_nonce: str = SERVER_NONCE.hex()) -> Reply:
    return reply(
        f"250 AUTHCHALLENGE SERVERHASH={server_hash} SERVERNONCE={server_nonce}\r\n".encode()
    )


def info(*methods: str) -> ProtocolInfo:
    return ProtocolInfo(frozenset(methods), "/c", "0.4.9.11")


def test_tor_introduces_itself() -> None:
    assert auth.protocol_info(reply(INFO)) == ProtocolInfo(
        frozenset({"COOKIE", "SAFECOOKIE"}), '/run/tor/"x"', "0.4.9.11"
    )


@pytest.mark.parametrize(
    "data",
    [b"250 OK\r\n", b"510 Unrecognized command\r\n", b'250-PROTOCOLINFO 1\r\n250 AUTH M="\r\n'],
)
def test_who_does_not_is_no_tor(data: bytes) -> None:
    with pytest.raises(NotTor, match="what listens there is no tor"):
        auth.protocol_info(reply(data))


@given(st.lists(st.sampled_from(INFO.split(b"\r\n")) | st.binary(max_size=40), max_size=6))
def test_any_introduction_is_read_or_no_tors(parts: list[bytes]) -> None:
    try:
        replies = Parser().feed(b"".join(part + b"\r\n" for part in parts))
    except Garbled:
        return
    for found in replies:
        try:
            auth.protocol_info(found)
        except NotTor:
            continue


def test_the_safe_way_is_taken_and_the_unsafe_ones_refused() -> None:
    password = Credentials(password_file=Path("/p"))
    assert auth.method(info("COOKIE", "SAFECOOKIE"), Credentials()) == "SAFECOOKIE"
    assert auth.method(info("NULL", "SAFECOOKIE"), Credentials(allow_none=True)) == "SAFECOOKIE"
    assert auth.method(info("NULL"), Credentials(allow_none=True)) == "NULL"
    assert auth.method(info("HASHEDPASSWORD", "SAFECOOKIE"), password) == "PASSWORD"
    for methods, credentials, words in [
        (("NULL",), Credentials(), "lets anybody on this host.*CookieAuthentication 1"),
        (("COOKIE",), Credentials(), "no way to authenticate"),
        (("HASHEDPASSWORD",), Credentials(), "no way to authenticate"),
        (("SAFECOOKIE",), password, "tor takes none"),
    ]:
        with pytest.raises(NotAuthenticated, match=words):
            auth.method(info(*methods), credentials)


def test_both_sides_prove_that_they_know_the_cookie() -> None:
    assert auth.challenge(NONCE) == ("AUTHCHALLENGE", "SAFECOOKIE", "6E" * 32)
    data = COOKIE + NONCE + SERVER_NONCE
    theirs = sodium.mac("sha256", b"Tor safe cookie authentication server-to-controller hash", data)
    ours = sodium.mac("sha256", b"Tor safe cookie authentication controller-to-server hash", data)
    assert auth.proof(challenged(theirs.hex().upper()), COOKIE, NONCE) == (
        "AUTHENTICATE",
        ours.hex().upper(),
    )
    for cookie, nonce in ((bytes(32), NONCE), (COOKIE, bytes(32))):
        with pytest.raises(NotAuthenticated, match="does not know the cookie"):
            auth.proof(challenged(theirs.hex()), cookie, nonce)


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"512 Wrong number of arguments\r\n"),
        reply(b"250 OK\r\n"),
        reply(
            b"551 AUTHCHALLENGE SERVERHASH=" + b"00" * 32 + b" SERVERNONCE=" + b"00" * 32 + b"\r\n"
        ),
        reply(b'250 AUTHCHALLENGE SERVERHASH="\r\n'),
        challenged("00" * 31),
        challenged("00" * 32, "00" * 31),
        challenged("zz" * 32),
        challenged(""),
    ],
)
def test_a_challenge_that_is_not_taken_up_ends_it(answer: Reply) -> None:
    with pytest.raises(NotAuthenticated, match="does not take up the challenge"):
        auth.proof(answer, COOKIE, NONCE)


def test_the_cookie_is_32_bytes_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "cookie"
    good.write_bytes(COOKIE)
    assert auth.read_cookie(str(good)) == COOKIE
    for size in (0, 31, 33, 5000):
        good.write_bytes(bytes(size))
        with pytest.raises(NotAuthenticated, match="is not tor's cookie"):
            auth.read_cookie(str(good))
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), str(tmp_path), "/dev/zero"):
        with pytest.raises(NotAuthenticated, match="is no file"):
            auth.read_cookie(path)
    for path in (str(tmp_path / "none"), "", "/a\0b", "\udcff", "/" + "x" * 5000, f"{good}/x"):
        with pytest.raises(NotAuthenticated, match=r"cannot be read.*CookieAuthFile"):
            auth.read_cookie(path)

    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied")  # as for all users but root

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(NotAuthenticated, match=r"may not read tor's cookie.*group"):
        auth.read_cookie(str(good))


def test_a_password_is_sent_so_that_it_cannot_break_out(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b'a b"\\\xff\r\n')
    path.chmod(0o600)
    assert auth.password_proof(path) == ("AUTHENTICATE", "612062225CFF")
    path.chmod(0o640)
    with pytest.raises(NotAuthenticated, match="chmod 600"):
        auth.password_proof(path)
    path.chmod(0o600)
    for content in (b"", b"\n", b"x" * 1025):
        path.write_bytes(content)
        with pytest.raises(NotAuthenticated, match="holds no password"):
            auth.password_proof(path)


@pytest.mark.parametrize(
    ("how", "fix"),
    [("PASSWORD", "HashedControlPassword"), ("SAFECOOKIE", "try again"), ("NULL", "Cookie")],
)
def test_a_refusal_says_what_to_mend(how: str, fix: str) -> None:
    error = auth.refused(how, reply(b"515 Authentication failed\r\n"))
    assert "515 Authentication failed" in error.message
    assert fix in error.advice
