"""The door for those who are no members: their passes as links bring and show them.

Knows the words for a pass and for one who has one, and when each counts.  Refuses to judge a pass
itself (`peers.observers`), and to know channels.

    a pass: 03 and the envelope that a member signed, for whoever shows it or is given it
    one who has a pass: 04 and its node record with that pass

Who calls shows its pass with the first frame, before it is anything here.  Over the link come the
next one for it, from who gave the last, and those whom it may follow as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Mapping, Sequence

from aegis_edge.net.channel import Goodbye, LinkError
from aegis_edge.net.introductions import OBSERVER, PASS
from aegis_edge.peers.book import Book
from aegis_edge.peers.identity import open_record, short
from aegis_edge.peers.observers import Observers
from aegis_edge.wire import codec
from aegis_edge.wire.codec import WireError
from aegis_edge.wire.envelope import Opener
from aegis_edge.wire.messages import NodeRecord, Pass, Verified
from aegis_edge.wire.session import First

#: Few of them are looked at again.
_MEMO = 256
#: Of records, which belong to no cluster.
_RECORDS = Opener(b"", memo_size=_MEMO)

log = logging.getLogger(__name__)

Record = Verified[NodeRecord]
Word = Verified[Pass]


class Door:
    """Of the links of one node, with their `book`.

    `agreed_ms`: the agreed time by now; `granted`: called with each new pass of this node's own, to
    keep it; `is_host_alone`: nobody but its host is found from here; `is_of_member`: this node is a
    member.
    """

    def __init__(self, book: Book, cluster_id: bytes) -> None:
        self._book = book
        self._opener = Opener(cluster_id, memo_size=_MEMO)
        self.observers = Observers(book.own)
        self.agreed_ms: Callable[[], int] = lambda: 0
        self.granted: Callable[[Word], None] = lambda _: None
        self.is_host_alone = False
        self._given: Mapping[bytes, Word] = {}
        self.is_of_member = True

    # --- for the node -----------------------------------------------------------------------

    def meet(self, members: Sequence[bytes]) -> None:
        """These are the members from now on, this node included if it is one."""
        self.is_of_member = self._book.own in members
        self.observers.meet(members)

    def follow(self, host: Record, word: bytes, now_ticks: int) -> None:
        """This node was invited by `host`, which gave it this pass last; b"" for none yet."""
        self.observers.host = host.signer
        if not self._book.refusal(host):
            self._book.vouch(host, now_ticks)
        try:
            self.observers.take(self._read(word), host.signer)
        except WireError:
            log.debug("there is no pass that is good for anything")

    def vouch(self, given: Mapping[bytes, Word]) -> list[bytes]:
        """This node vouches for these, by these passes, and for nobody else.

        Gives those who have another pass than before.
        """
        before, self._given = self._given, dict(given)
        self.observers.guests = frozenset(given)
        return [key for key, word in given.items() if before.get(key) != word]

    # --- for links --------------------------------------------------------------------------

    def first(self) -> First | None:
        """What to say with the first frame of a link: this node's pass, if it needs one."""
        word = self.observers.word
        if self.is_of_member or word is None:
            return None
        return lambda _: PASS + word.raw

    def enter(self, record: Record, said: Sequence[bytes], linked: Container[bytes]) -> None:
        """Somebody who is no member has proven who it is: it may link, or LinkError.

        `said`: with its first frame; `linked`: whose passes are in use.
        """
        peer, problem = record.signer, ""
        if said and said[0][:1] == PASS:
            problem = self._shown(said[0][1:], peer, linked)
        if not self.refusal(peer):
            return
        problem = problem or "is no member; do both have the same genesis?"
        raise LinkError(f"{short(peer)} {problem}", Goodbye.NOT_A_MEMBER)

    def refusal(self, peer: bytes) -> str:
        """Why `peer`, who is no member, may not be linked to, for people; "" if it may."""
        return self.observers.refusal(peer, self.agreed_ms())

    def knows(self, peer: bytes) -> bool:
        """Whether `peer`, who is no member, is a guest or the host of this node for long."""
        return peer in self._given or peer == self.observers.host

    def role(self, peer: bytes) -> str:
        """What `peer` is, who is no member as far as is known here."""
        return "host" if peer == self.observers.host else "observer"

    def pass_of(self, peer: bytes) -> bytes:
        """What to say to `peer` if this node vouches for it: its pass; else nothing."""
        word = self._given.get(peer)
        return b"" if word is None else PASS + word.raw

    def own_pass(self) -> bytes:
        """What to say to others when this node has a new pass."""
        assert self.observers.word is not None
        return PASS + self.observers.word.raw

    def introduction(self, key: bytes) -> bytes:
        """What to say of the observer `key`, for others to follow it; nothing of anybody else."""
        word = self._given.get(key)
        if word is None and key in self.observers:
            word = self.observers[key]
        if word is None or key not in self._book or self._book.is_member(key):
            return b""
        return OBSERVER + codec.encode((self._book[key].record.raw, word.raw))

    def hears(self, kind: bytes, body: bytes, peer: bytes, linked: Container[bytes]) -> bool:
        """What `peer` says of passes; True if this node has a new one of its own.

        Raises `LinkError` if that means nothing.
        """
        try:
            if kind == PASS:
                return self._hears_pass(self._read(body), peer, linked)
            record, word = _introduced(body, self._read)
        except WireError as error:
            raise LinkError(f"it shows what is no pass: {error}", Goodbye.BAD_MESSAGE) from None
        if not self.is_of_member:  # a member follows nobody
            self._learn(record, word, linked)
        return False

    def _hears_pass(self, word: Word, peer: bytes, linked: Container[bytes]) -> bool:
        if word.message.observer != self._book.own:
            self.observers.show(word, peer, self.agreed_ms(), linked)
            return False
        is_new = not self.is_of_member and self.observers.take(word, peer)
        if is_new:
            self.granted(word)
        return is_new

    def _learn(self, record: Record, word: Word, linked: Container[bytes]) -> None:
        """Another observer, whom this node may follow."""
        is_its = word.message.observer == record.signer
        if not is_its or self._book.refusal(record):
            return
        if not self.observers.learn(word, self.agreed_ms(), linked):
            self._book.vouch(record, 0)
            self._book.introduced(record, 0)

    def _shown(self, raw: bytes, peer: bytes, linked: Container[bytes]) -> str:
        try:
            return self.observers.show(self._read(raw), peer, self.agreed_ms(), linked)
        except WireError as error:
            return f"shows what is no pass: {error}"

    def _read(self, raw: bytes) -> Word:
        """The pass in `raw`, its signature checked; raises `WireError`."""
        found: Verified[Pass] = self._opener.open(raw)
        if type(found.message) is not Pass:
            raise WireError("a signed message of another kind")
        return found

    # --- the plan ---------------------------------------------------------------------------

    def wanted(self, wants: frozenset[bytes] | None) -> frozenset[bytes] | None:
        """Whom to dial where links to those in `wants` would help, if that is known; None: all
        members.

        An observer calls on its host for the next pass, and when it knows of nobody better.  Who
        was never invited waits for the members to let it in: any of them may be the first.
        """
        host = self.observers.host
        if self.is_of_member or not host:
            return None
        if self.is_host_alone:
            return frozenset((host,))
        if not wants or self.observers.is_late(self.agreed_ms()):
            return (wants or frozenset()) | {host}
        return wants

    def sweep(self, linked: Container[bytes]) -> list[bytes]:
        """Forget those for whom nobody vouches any more; gives those of whom nothing is left."""
        for peer in self._book.observers:
            if peer not in linked and self.refusal(peer):
                self._book.disown(peer)
        gone = self._book.sweep()
        for peer in gone:
            self.observers.forget(peer)
        return gone


def _introduced(body: bytes, read: Callable[[bytes], Word]) -> tuple[Record, Word]:
    """One who has a pass, and the pass; raises `WireError`."""
    fields = codec.decode(body)
    if type(fields) is not tuple or len(fields) != 2 or not all(type(f) is bytes for f in fields):
        raise WireError("not a record with a pass")
    return open_record(fields[0], _RECORDS.open), read(fields[1])
