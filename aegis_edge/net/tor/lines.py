"""The grammar of tor's control protocol: bytes <-> commands and replies.

Knows lines, data blocks, quoting, and bounds on all that comes in.
Refuses to know what commands mean, and sockets.  Any bytes give replies or `Garbled`.
Follows: control-spec sections 2.1 (commands), 2.1.1 (quoted strings), 2.3 (replies).

An own parser, and not stem's.  Measured (Python 3.11, on top of a node with links): this room's
control client takes 0.1 to 0.3 MB, all of the room 0.6 to 0.7 MB; `stem.response` takes 2.0 to
3.4 MB when it is imported and 11.8 to 13.4 MB once it has read a reply; `stem.control` 11.5 to
13.1 MB at once, and two threads.  stem has no bound on what it reads, and is no longer maintained.
The tests compare this parser to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

#: Tor's own longest line is an event with a log message, of up to 10,024 bytes.
LINE_BYTES_MAX = 16_384
#: Of one reply with all its lines.  Who asks for more says so.
REPLY_BYTES_MAX = 262_144
REPLY_LINES_MAX = 65_536


class Garbled(ValueError):
    """Bytes that no tor sends; the message says which rule they break."""


class Line(NamedTuple):
    """One line of a reply, without its code; `data`: the block that follows it, if one does."""

    text: str
    data: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """All lines of one reply, or of one event.  `code`: that of the last line."""

    code: int
    lines: tuple[Line, ...]

    @property
    def is_event(self) -> bool:
        """Whether nobody asked for it."""
        return 600 <= self.code <= 699

    @property
    def is_good(self) -> bool:
        """Whether tor did what it was asked."""
        return 200 <= self.code <= 299

    @property
    def said(self) -> str:
        """The text of its last line, for people: printable, and not too long."""
        return printable(self.lines[-1].text)

    def values(self) -> dict[str, tuple[str, ...]]:
        """The values of ``KEY=value`` lines (GETINFO, GETCONF), in order; none for a bare key.

        A bare ``OK`` is no key.  Options of tor can have several values; data blocks count whole.
        Values of GETCONF are then to be `unquoted`.
        """
        found: dict[str, tuple[str, ...]] = {}
        for line in self.lines:
            key, equals, value = line.text.partition("=")
            if line.data is not None:
                value = line.data
            if equals:
                found[key] = (*found.get(key, ()), value)
            elif line.text != "OK":
                found.setdefault(key, ())
        return found


def printable(text: str, characters: int = 200) -> str:
    """`text` for a message to people: one line without control characters, cut to a length."""
    clean = "".join(c if c.isprintable() else "?" for c in text[:characters])
    return clean + ("..." if len(text) > characters else "")


# --- what tor says ----------------------------------------------------------------------------


class Parser:
    """Bytes in, whole replies out.  Raise `reply_bytes_max` to read more, then put it back."""

    def __init__(self) -> None:
        self.reply_bytes_max = REPLY_BYTES_MAX
        self._buffer = bytearray()
        self._searched = 0
        self._lines: list[Line] = []
        self._size = 0
        self._kind = ""
        self._text = ""
        self._data: list[str] | None = None

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes; raises `Garbled`, and is then of no more use."""
        buffer = self._buffer
        buffer += data
        replies = []
        start = 0
        while (end := buffer.find(b"\r\n", max(start, self._searched))) >= 0:
            reply = self._line(bytes(buffer[start:end]))
            if reply is not None:
                replies.append(reply)
            start = self._searched = end + 2
        del buffer[:start]
        if len(buffer) > LINE_BYTES_MAX:
            raise Garbled(f"a line of more than {LINE_BYTES_MAX} bytes")
        self._searched = max(0, len(buffer) - 1)  # a CR at the end may be half of a line's end
        return replies

    def _line(self, raw: bytes) -> Reply | None:
        if len(raw) > LINE_BYTES_MAX:
            raise Garbled(f"a line of more than {LINE_BYTES_MAX} bytes")
        self._size += len(raw) + 2
        if self._size > self.reply_bytes_max:
            raise Garbled(f"a reply of more than {self.reply_bytes_max} bytes")
        line = raw.decode("utf-8", "backslashreplace")
        if self._data is not None:
            self._data_line(line, self._data)
            return None
        if not _REPLY_LINE.match(raw):
            raise Garbled(f"{printable(line, 40)!r} does not begin as a reply does")
        code, kind, text = line[:3], line[3], line[4:]
        if self._kind and (self._kind == "6") != (code[0] == "6"):
            raise Garbled("an event in the middle of a reply")
        self._kind = code[0]
        if kind == "+":
            self._text, self._data = text, []
            return None
        self._add(Line(text))
        if kind == "-":
            return None
        reply = Reply(int(code), tuple(self._lines))
        self._lines, self._size, self._kind = [], 0, ""
        return reply

    def _data_line(self, line: str, data: list[str]) -> None:
        if line != ".":
            data.append(line.removeprefix("."))
            return
        self._add(Line(self._text, "\n".join(data)))
        self._data = None

    def _add(self, line: Line) -> None:
        self._lines.append(line)
        if len(self._lines) > REPLY_LINES_MAX:
            raise Garbled(f"a reply of more than {REPLY_LINES_MAX} lines")


_REPLY_LINE = re.compile(rb"[2456][0-9]{2}[-+ ]")


def fields(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The words of a line, and its ``KEY=value`` and ``KEY="quoted"`` pairs; raises `Garbled`.

    The first of two equal keys counts.
    """
    words: list[str] = []
    pairs: dict[str, str] = {}
    at, end = 0, len(text)
    while at < end:
        if text[at] == " ":
            at += 1
            continue
        found = _FIELD.match(text, at)
        if found is None:
            raise Garbled(f"quotes that do not end in {printable(text, 60)!r}")
        key, quoted, plain, word = found.group("key", "quoted", "plain", "word")
        if key is None:
            words.append(word)
        elif quoted is None:
            pairs.setdefault(key, plain)
        else:
            pairs.setdefault(key, _unescaped(quoted))
        at = found.end()
    return tuple(words), pairs


#: Quotes count at the beginning of a value alone; elsewhere they are characters like others.
_FIELD = re.compile(
    r'(?P<key>[A-Za-z0-9_]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"(?= |$)|(?P<plain>(?!")[^ ]*))'
    r"|(?P<word>(?![A-Za-z0-9_]+=)[^ ]+)",
    re.DOTALL,
)


def unquoted(value: str) -> str:
    """The value of an option: GETCONF quotes those with #, with a quote in front, or not ASCII."""
    found = _QUOTED.fullmatch(value)
    return _unescaped(found[1]) if found else value


_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _unescaped(inner: str) -> str:
    """What was quoted; bytes that are no UTF-8 (tor writes them in octal) as in file names."""

    def plain(found: re.Match[bytes]) -> bytes:
        octal, mark = found.groups()
        return bytes((int(octal, 8) & 0xFF,)) if octal else _ESCAPED.get(mark, mark)

    data = _ESCAPE.sub(plain, inner.encode("utf-8", "surrogatepass"))
    return data.decode("utf-8", "surrogateescape")


# --- what tor is told -------------------------------------------------------------------------

Word = str | tuple[str, str]


def command(*words: Word) -> bytes:
    """One command line.  A pair becomes ``KEY="value"``, with its value quoted as needed.

    A plain word is sent as it is, so it must be without blanks, quotes, backslashes and control
    characters; no word and no value can end the line, and begin a command of its own.
    Raises `ValueError`, which does not show the word, for it may be secret.
    """
    parts = []
    for number, word in enumerate(words):
        if isinstance(word, tuple):
            key, value = word
            if not _KEY.fullmatch(key):
                raise ValueError(f"word {number} of the command has no good key")
            parts.append(f"{key}={quoted(value)}")
        elif not _PLAIN.fullmatch(word):
            raise ValueError(
                f"word {number} of the command has blanks, quotes, or characters beyond ASCII"
            )
        else:
            parts.append(word)
    if not parts or not _COMMAND.fullmatch(parts[0]):
        raise ValueError("a command begins with its name")
    return (" ".join(parts) + "\r\n").encode("utf-8")


def quoted(value: str) -> str:
    """`value` as a QuotedString; raises `ValueError` for control characters."""
    if _CONTROL.search(value):
        raise ValueError("a value for tor must be without line ends and control characters")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a value for tor must be good Unicode") from None
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


_COMMAND = re.compile(r"[A-Z_]+")
_KEY = re.compile(r"[A-Za-z0-9_]+")
_PLAIN = re.compile(r"[!#-\[\]-~]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
