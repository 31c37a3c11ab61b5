"""What a newcomer and the member that invited it say to each other: one question, one answer.

Knows both messages, and how a question shows that its sender was invited.  Refuses to know links,
time, and what the answer should be.
Follows: the house's deterministic CBOR.  The question rides in the first frame of a session (`wire.
session`), and signs the hash of that session's handshake: it is good on that link and on no other,
and a stranger is told as little, and at the same moment, as one who was never invited.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from aegis_edge.crypto import sodium
from aegis_edge.peers.armour import TEXT_CHARACTERS_MAX
from aegis_edge.peers.invitation import Invitation
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.messages import COUNTER_MAX, MEMBERS_MAX

FORMAT = 1
WORDS_CHARACTERS_MAX = 500
RECORD_BYTES_MAX = 2_048
_DOMAIN = b"aegis-edge: invited to the link with this hash, 1\x00"
_ITEMS_MAX = 16 + MEMBERS_MAX


class State(IntEnum):
    """How far a newcomer is, or why it comes no further."""

    #: It was invited; with the genesis and the members' records.
    WELCOME = 0
    #: It is proposed, and the other members have not decided yet.
    WAITING = 1
    ADMITTED = 2
    #: Nothing could be decided just now; ask again.
    LATER = 3
    EXPIRED = 4
    USED = 5
    CANCELLED = 6
    #: The members said no, or nothing for too long.
    REJECTED = 7
    #: The rules do not allow it.
    REFUSED = 8
    #: It is no member and is not to be one: its host vouches for it.
    OBSERVER = 9


class Question(NamedTuple):
    """`public`: of the invitation, whose `signature` covers the link.

    `is_ready`: the newcomer has the genesis, and wants to be what it was invited for.
    """

    public: bytes
    signature: bytes
    is_ready: bool

    def is_proven(self, transcript: bytes) -> bool:
        """Whether who asks on the link whose handshake has this hash knows the secret."""
        return sodium.ed25519_verify(self.public, _DOMAIN + transcript, self.signature)


def question(invitation: Invitation, transcript: bytes, *, is_ready: bool) -> bytes:
    """The question, on the link whose handshake has the hash `transcript`."""
    signature = invitation.sign(_DOMAIN + transcript)
    return codec.encode((FORMAT, invitation.public, signature, is_ready))


def read_question(raw: bytes) -> Question:
    """The question in `raw`; raises `WireError`, and nothing else."""
    public, signature, is_ready = _fields(raw, 3)
    _check(type(public) is bytes and len(public) == sodium.KEY_BYTES)
    _check(type(signature) is bytes and len(signature) == sodium.SIGNATURE_BYTES)
    _check(type(is_ready) is bool)
    return Question(public, signature, is_ready)


@dataclass(frozen=True, slots=True)
class Answer:
    """`words`: for people, where the state does not say it all.

    With WELCOME: the text of the `genesis`, and the members' signed node `records`, which are hints
    and no more.  With WAITING: the `number` of the proposal, and how many of the `needed` said yes.
    """

    state: State
    words: str = ""
    genesis: str = ""
    records: tuple[bytes, ...] = ()
    number: int = 0
    yes: int = 0
    needed: int = 0

    def encode(self) -> bytes:
        """The bytes that `read_answer` reads."""
        return codec.encode((FORMAT, int(self.state), *astuple(self)[1:]))


def read_answer(raw: bytes) -> Answer:
    """The answer in `raw`; raises `WireError`, and nothing else."""
    state, words, genesis, records, *numbers = _fields(raw, 7)
    _check(type(state) is int and state in State.__members__.values())
    _check(type(words) is str and len(words) <= WORDS_CHARACTERS_MAX)
    _check(type(genesis) is str and len(genesis) <= TEXT_CHARACTERS_MAX)
    _check(type(records) is tuple and len(records) <= MEMBERS_MAX)
    _check(all(type(each) is bytes and len(each) <= RECORD_BYTES_MAX for each in records))
    _check(all(type(number) is int and 0 <= number <= COUNTER_MAX for number in numbers))
    return Answer(State(state), words, genesis, records, *numbers)


def _fields(raw: bytes, count: int) -> tuple[Any, ...]:
    value = codec.decode(raw, items_max=_ITEMS_MAX)
    _check(type(value) is tuple and len(value) == count + 1)
    _check(type(value[0]) is int and value[0] == FORMAT)
    return tuple(value[1:])


def _check(is_so: bool) -> None:
    if not is_so:
        raise WireError("no word between a newcomer and its host; do both run the same version?")
