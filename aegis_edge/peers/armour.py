"""Armour: bytes as text that survives e-mail, chat and a USB stick.

Knows BEGIN and END lines, base64 and line lengths.  Refuses to know what the bytes mean.
Follows the lax form of RFC 7468 section 3: text around a block is explanation and is ignored.
"""

from __future__ import annotations

import base64
import binascii
import re

LINE_CHARACTERS = 64
#: Longest text that is looked at; 64 records with all their addresses fit many times.
TEXT_CHARACTERS_MAX = 1024 * 1024


class ArmourError(ValueError):
    """The text is not what it should be; the message says what to do about it."""


def wrap(label: str, data: bytes) -> str:
    """The armoured block of `data` under `label`, ending with a newline."""
    body = base64.b64encode(data).decode("ascii")
    lines = [body[i : i + LINE_CHARACTERS] for i in range(0, len(body), LINE_CHARACTERS)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def unwrap(label: str, text: str) -> tuple[bytes, ...]:
    """The content of every block with `label` in `text`, in order, at least one.

    Raises `ArmourError` if there is none, or if a block is damaged.
    """
    if len(text) > TEXT_CHARACTERS_MAX:
        raise ArmourError(f"the text is longer than {TEXT_CHARACTERS_MAX} characters")
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    _, *parts = text.replace("\r\n", "\n").split(begin)
    if not parts:
        raise ArmourError(f"no line {begin!r} in it; is it the right file?")
    return tuple(_content(part, end) for part in parts)


def _content(part: str, end: str) -> bytes:
    body, found, _ = part.partition(end)
    if not found:
        raise ArmourError(f"no line {end!r} after its beginning; was the end cut off?")
    try:
        return base64.b64decode(re.sub(r"[ \t\n]", "", body), validate=True)
    except (binascii.Error, ValueError):
        raise ArmourError("damaged between BEGIN and END; copy the whole text again") from None
