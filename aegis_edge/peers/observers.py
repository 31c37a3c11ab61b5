"""Who may link without being a member: whom a member vouches for, and how many of them at a time.

Knows passes (`wire.messages.Pass`): whose word counts and until when, and which of too many has to
go.  Refuses to know links and clocks: agreed time is an argument, so a board whose own clock starts
in 1970 keeps nobody in, and one in 2100 nobody out.
A pass is short, and is renewed by who gave it for as long as it likes: so nobody has to be told
that one was taken back.  It names a key, so whoever else shows it has gained nothing.

A member may vouch for whomever it likes, as it may hand on what it reads: so no member's guests
push out those of another.  Where one is too many, the member with the most guests there loses the
one that came last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence

from aegis_edge.wire.messages import Pass, Verified

#: How long a pass lasts, and how long before its end there is a new one: who gave it may be off
#: for as long as that.
PASS_MS = 24 * 3_600_000
RENEWAL_MS = PASS_MS // 2
#: Beyond what a pass lasts, for those who have executed less than who gave it.
SLACK_MS = 3_600_000
#: Links with those who are no members, of one node; it feeds fewer of them (`pbft.followers`).
PLACES = 24
#: Passes that are known of others, and what to forget first: those without a link.
KNOWN_MAX = 64


class Observers:
    """Of one node, with the key `own`.

    `guests`: for whom this node vouches itself, who need no pass here.  Of one that is no member:
    `word` is the pass that it shows, `host` the member that gives it, each if there is one.
    """

    def __init__(self, own: bytes) -> None:
        self.own = own
        self.host = b""
        self.word: Verified[Pass] | None = None
        self._members: frozenset[bytes] = frozenset()
        self._passes: dict[bytes, Verified[Pass]] = {}
        self.guests: frozenset[bytes] = frozenset()

    def meet(self, members: Iterable[bytes]) -> None:
        """These are the members from now on, this node included if it is one."""
        self._members = frozenset(members)
        for key in self._members:
            self._passes.pop(key, None)

    def __contains__(self, key: bytes) -> bool:
        """Whether a pass of `key` is known, good or not."""
        return key in self._passes

    def __getitem__(self, key: bytes) -> Verified[Pass]:
        return self._passes[key]

    def issuer(self, key: bytes) -> bytes:
        """Who vouches for `key`: this node, or the signer of the pass that is known; else b""."""
        if key in self.guests:
            return self.own
        known = self._passes.get(key)
        return b"" if known is None else known.signer

    def refusal(self, key: bytes, now_ms: int) -> str:
        """Why `key`, which is no member, may not be linked to, for people; "" if it may."""
        if key in self.guests or key == self.host:
            return ""
        known = self._passes.get(key)
        if known is None:
            return "is no member, and no member vouches for it"
        return self._problem(known, now_ms)

    def _problem(self, shown: Verified[Pass], now_ms: int) -> str:
        if shown.signer == self.own:  # of its guests it asks for none
            return "has a pass that was taken back"
        if shown.signer not in self._members:
            return "has a pass of somebody who is no member"
        if shown.message.until_ms <= now_ms:
            return "has a pass that has ended"
        return ""

    def show(
        self, shown: Verified[Pass], key: bytes, now_ms: int, linked: Container[bytes] = ()
    ) -> str:
        """`key` comes with this pass: what is wrong with it, for people; "" if there is nothing."""
        said = shown.message
        if said.observer != key:
            return "shows a pass of another board"
        if said.until_ms > now_ms + PASS_MS + SLACK_MS:
            return "has a pass that lasts longer than any does"
        return self.learn(shown, now_ms, linked)

    def learn(self, told: Verified[Pass], now_ms: int, linked: Container[bytes] = ()) -> str:
        """Somebody hands on this pass of another, with whom it risks nothing: else as `show`.

        So it may last for long, as it seems to whoever is far behind.
        """
        key = told.message.observer
        problem = self._problem(told, now_ms)
        if problem or key in self._members or key == self.own:
            return problem
        known = self._passes.pop(key, None)
        better = (
            known is not None
            and not self._problem(known, now_ms)
            and known.message.until_ms >= told.message.until_ms
        )
        self._passes[key] = known if better and known is not None else told
        others = [k for k in self._passes if k != key and k not in linked]
        for oldest in others[: max(0, len(self._passes) - KNOWN_MAX)]:
            del self._passes[oldest]
        return ""

    def take(self, given: Verified[Pass], giver: bytes) -> bool:
        """Whether this pass, which `giver` gave this node, is its `word` from now on.

        It is of its host, if that is known, and lasts longer than what there was.
        """
        word, host = self.word, self.host or giver
        is_ours = given.message.observer == self.own and given.signer == giver == host
        if not is_ours or (word is not None and word.message.until_ms >= given.message.until_ms):
            return False
        self.host, self.word = host, given
        return True

    def is_late(self, now_ms: int) -> bool:
        """Whether this node has a host, and needs a new word of it."""
        word = self.word
        return bool(self.host) and (word is None or word.message.until_ms - RENEWAL_MS <= now_ms)

    def forget(self, key: bytes) -> None:
        """It is gone, and nothing is kept of it."""
        self._passes.pop(key, None)

    def who_goes(self, key: bytes, linked: Sequence[bytes]) -> bytes | None:
        """Who has to make room for `key` among those that are linked, the oldest link first.

        None where there is room, `key` where it is itself one too many.
        """
        if key in linked or len(linked) < PLACES:
            return None
        here = [*linked, key]
        shares = Counter(map(self.issuer, here))
        most = max(shares.values())
        return next(k for k in reversed(here) if shares[self.issuer(k)] == most)
