from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stem.response import ControlMessage

from aegis_edge.net.tor import lines
from aegis_edge.net.tor.lines import Garbled, Line, Parser, Reply

GETINFO = b"250-version=0.4.9.11\r\n250+config-text=\r\nA 1\r\n..B\r\n\r\n.\r\n250 OK\r\n"
EVENT = b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=10 SUMMARY="Conn \\"x\\""\r\n'
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)


def parse(data: bytes) -> list[Reply]:
    return Parser().feed(data)


def refusal(data: bytes) -> str:
    with pytest.raises(Garbled) as caught:
        parse(data)
    return str(caught.value)


# --- replies --------------------------------------------------------------------------------


def test_a_reply_has_lines_and_data() -> None:
    (reply,) = parse(GETINFO)
    assert reply == Reply(
        250, (Line("version=0.4.9.11"), Line("config-text=", "A 1\n.B\n"), Line("OK"))
    )
    assert reply.is_good and not reply.is_event and reply.said == "OK"
    assert reply.values() == {"version": ("0.4.9.11",), "config-text": ("A 1\n.B\n",)}


def test_an_option_has_none_or_several_values() -> None:
    (reply,) = parse(b"250-Bridge=a\r\n250-ORPort\r\n250-Log=x=y\r\n250 Bridge=b\r\n")
    assert reply.values() == {"Bridge": ("a", "b"), "ORPort": (), "Log": ("x=y",)}


def test_events_come_between_replies() -> None:
    first, event, second = parse(GETINFO + EVENT + b"552 Unrecognized key\r\n")
    assert event.is_event and not event.is_good
    assert not second.is_good and second.said == "Unrecognized key"
    assert first.is_good


@given(st.lists(st.integers(1, 20), max_size=20))
def test_the_cuts_of_the_stream_do_not_matter(cuts: list[int]) -> None:
    data, parser, found = GETINFO + EVENT + b"250 OK\r\n", Parser(), []
    for cut in [*cuts, len(data)]:
        found += parser.feed(data[:cut])
        data = data[cut:]
    assert found == parse(GETINFO + EVENT + b"250 OK\r\n")


@given(st.binary(max_size=300) | st.lists(st.sampled_from([GETINFO, EVENT, b"\r\n", b"250"])))
def test_any_bytes_are_replies_or_garbled(data: bytes | list[bytes]) -> None:
    try:
        replies = parse(data if isinstance(data, bytes) else b"".join(data))
    except Garbled:
        return
    for reply in replies:
        assert reply.lines and reply.values() is not None
        for line in reply.lines:
            try:
                lines.fields(line.text)
            except Garbled:
                pass


@given(
    st.lists(st.tuples(TEXT, st.none() | st.lists(TEXT, min_size=1, max_size=4)), max_size=5),
    TEXT,
)
def test_it_reads_what_stem_reads(parts: list[tuple[str, list[str] | None]], last: str) -> None:
    raw = b""
    for text, data in parts:
        raw += f"250{'-' if data is None else '+'}{text}\r\n".encode()
        for line in data or ():
            raw += f"{'.' if line.startswith('.') else ''}{line}\r\n".encode()
        raw += b".\r\n" if data is not None else b""
    raw += f"250 {last}\r\n".encode()
    (ours,) = parse(raw)
    theirs = ControlMessage.from_str(raw).content()
    assert [(str(ours.code), line.text) for line in ours.lines] == [
        (code, content.partition("\n")[0]) for code, _, content in theirs
    ]
    for line, (_, divider, content) in zip(ours.lines, theirs, strict=True):
        assert (line.data is not None) == (divider == "+")
        if line.data is not None:
            assert line.data == content.partition("\n")[2]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"HTTP/1.0 501 Tor is not an HTTP Proxy\r\n", "does not begin as a reply"),
        (b"\r\n", "does not begin"),
        (b"250\r\n", "does not begin"),
        (b"150 x\r\n", "does not begin"),
        (b"250_x\r\n", "does not begin"),
        (b"250-x\r\n650 EVENT\r\n", "in the middle"),
        (b"650-x\r\n250 OK\r\n", "in the middle"),
        (b"x" * (lines.LINE_BYTES_MAX + 1), "line of more than"),
        (b"250 " + b"x" * lines.LINE_BYTES_MAX + b"\r\n", "line of more than"),
        ((b"250-" + b"x" * 8000 + b"\r\n") * 40, "reply of more than"),
        (b"250+x\r\n" + (b"x" * 8000 + b"\r\n") * 40, "reply of more than"),
    ],
)
def test_what_no_tor_sends_is_garbled(data: bytes, words: str) -> None:
    assert words in refusal(data)


def test_many_short_lines_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "REPLY_LINES_MAX", 100)
    assert "100 lines" in refusal(b"250-\r\n" * 101)


def test_who_asks_for_more_gets_it() -> None:
    parser = Parser()
    parser.reply_bytes_max = 1_000_000
    data = b"250+ns/all=\r\n" + (b"x" * 8000 + b"\r\n") * 40 + b".\r\n250 OK\r\n"
    (reply,) = parser.feed(data)
    assert len(reply.lines[0].data or "") > lines.REPLY_BYTES_MAX
    assert parser.feed(b"250 OK\r\n"), "the bound is for each reply"


def test_bytes_that_are_no_text_are_shown_and_not_lost() -> None:
    (reply,) = parse(b"250 \xff\x00\x1b[31m\r\n")
    assert reply.lines[0].text == "\\xff\x00\x1b[31m"
    assert reply.said == "\\xff??[31m"
    assert lines.printable("x" * 300) == "x" * 200 + "..."


# --- fields -----------------------------------------------------------------------------------


def test_fields_are_words_and_pairs() -> None:
    words, pairs = lines.fields(
        r'AUTH  METHODS=COOKIE,SAFECOOKIE COOKIEFILE="/var/\"x\" \\y\303\244\n" A= B=x"y A=2 don"t'
    )
    assert words == ("AUTH", 'don"t')
    assert pairs == {
        "METHODS": "COOKIE,SAFECOOKIE",
        "COOKIEFILE": '/var/"x" \\yä\n',
        "A": "",
        "B": 'x"y',
    }
    assert lines.fields("") == ((), {})


def test_a_file_name_that_is_no_utf8_keeps_its_bytes() -> None:
    _, pairs = lines.fields(r'F="\377\8\t\r"')
    assert pairs["F"].encode("utf-8", "surrogateescape") == b"\xff8\t\r"


@given(TEXT)
def test_values_of_options_may_be_quoted(value: str) -> None:
    assert lines.unquoted(lines.quoted(value)) == value
    assert lines.unquoted(f"x{value}") == f"x{value}"
    for plain in ('"', '"x"y', 'a "b"', '"a\\"', ""):
        assert lines.unquoted(plain) == plain


@pytest.mark.parametrize("text", ['A="x', 'A="x"y', 'A="x\\"', 'B=1 A="'])
def test_quotes_that_do_not_end_are_garbled(text: str) -> None:
    with pytest.raises(Garbled, match="do not end"):
        lines.fields(text)


@given(st.text(max_size=60) | st.text('\\"=A 7x', max_size=30))
def test_any_text_has_fields_or_is_garbled(text: str) -> None:
    try:
        words, pairs = lines.fields(text)
    except Garbled:
        return
    assert all(words) and all(pairs)


@given(st.lists(TEXT, min_size=1, max_size=5))
def test_what_we_quote_is_read_back(values: list[str]) -> None:
    line = lines.command("X", *((f"K{i}", value) for i, value in enumerate(values)))
    words, pairs = lines.fields(line.decode().removesuffix("\r\n"))
    assert words == ("X",)
    assert list(pairs.values()) == values


# --- commands -----------------------------------------------------------------------------------


def test_a_command_is_one_line() -> None:
    assert lines.command("GETINFO", "version", "status/bootstrap-phase") == (
        b"GETINFO version status/bootstrap-phase\r\n"
    )
    assert lines.command("SETCONF", ("Nick", 'a "b" \\c')) == (
        b'SETCONF Nick="a \\"b\\" \\\\c"\r\n'
    )


HOSTILE = [
    "a b",
    "a\r\nSIGNAL HALT",
    "a\nb",
    "a\0b",
    'a"b',
    "a\\b",
    "ä",
    "",
    "\x7f",
    "a\u2028b",
    "\udcff",
]


@pytest.mark.parametrize("word", HOSTILE)
def test_a_plain_word_cannot_break_out(word: str) -> None:
    with pytest.raises(ValueError, match="word 1 of the command") as caught:
        lines.command("ADD_ONION", word)
    assert not word or word not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["a\r\nSIGNAL HALT", "a\nb", "a\rb", "\0", "\x1b", "\x85", "\udcff"]
)
def test_a_value_cannot_break_out(value: str) -> None:
    with pytest.raises(ValueError, match="a value for tor"):
        lines.command("SETCONF", ("Nick", value))


@pytest.mark.parametrize("words", [(), ("getinfo",), ("GET INFO",), ("+LOADCONF",), (("A", "b"),)])
def test_a_command_begins_with_its_name(words: tuple[lines.Word, ...]) -> None:
    with pytest.raises(ValueError, match=r"command"):
        lines.command(*words)


@pytest.mark.parametrize("key", ["", "a b", 'a"', "a=b", "ä", "a\r\n"])
def test_a_key_is_plain(key: str) -> None:
    with pytest.raises(ValueError, match="no good key"):
        lines.command("SETCONF", (key, "x"))


@given(st.lists(st.text(max_size=20) | st.tuples(st.text(max_size=9), st.text(max_size=20))))
def test_whatever_is_asked_is_one_line_or_refused(words: list[lines.Word]) -> None:
    try:
        line = lines.command("X", *words)
    except ValueError:
        return
    assert line.endswith(b"\r\n") and line.count(b"\r") == line.count(b"\n") == 1
    found, pairs = lines.fields(line.decode()[:-2])
    assert len(found) + len(pairs) <= 1 + len(words)
