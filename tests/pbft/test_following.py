"""A node without a vote follows one source, believes none, and finds another when that fails."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.configuration import Configuration
from aegis_edge.pbft.events import FETCH_BYTES_MAX, Alarm, Effect, HangUp, Send
from aegis_edge.pbft.followers import Followers
from aegis_edge.pbft.following import (
    AUDIT_STATUSES,
    DOUBLINGS_MAX,
    INTRODUCED_MAX,
    KNOWN_MAX,
    LIE_FAILURES,
    LIED,
    REST_STATUSES,
    SPARE_AUDITS,
    Following,
)
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.messages import HOPS_MAX, NULL_BATCH, Committed, Follow, Gone, Reached
from tests.pbft.parts import KEYS, SIGNERS, batch, commits, committed
from tests.pbft.stage import PARAMETERS

OWN = KEYS[6]
OTHERS = [bytes([i]) * 32 for i in range(100, 140)]
A, B, C, D = OTHERS[:4]


class Observer:
    """One that is no member of `n`; the first whom it asks is its `first`, then its `second`."""

    def __init__(self, n: int = 4, executed: int = 5) -> None:
        self.voice = Voice(SIGNERS[6])
        self.at = Standing(OWN, Configuration(0, KEYS[:n], 0), PARAMETERS, executed, now_ticks=100)
        self.catchup = Catchup(self.at.pace, 2)
        self.followers = Followers(self.voice)
        self.following = Following(self.voice, self.followers)
        self.following.begin(self.at, self.catchup)
        own = int.from_bytes(OWN, "big")
        near = sorted(KEYS[:n], key=lambda key: own ^ int.from_bytes(key, "big"))
        self.first, self.second = near[0], near[min(1, n - 1)]

    def says(self, act: object, *arguments: object) -> list[Effect]:
        effects = self.voice.begin()
        act(*arguments)  # type: ignore[operator]
        self.following.go_on()
        return effects

    def links(self, *peers: bytes) -> list[Effect]:
        return [e for peer in peers for e in self.says(self.following.link, peer, True)]

    def waits(self, ticks: int) -> list[Effect]:
        self.at.now_ticks += ticks
        return self.says(lambda: None)

    def hears(
        self,
        peer: bytes,
        executed: int | None = None,
        depth: int = 0,
        takes: bool = True,
        others: Iterable[bytes] = (),
    ) -> list[Effect]:
        said = self.at.executed if executed is None else executed
        reached = Reached(said, depth, takes, tuple(others))
        return self.says(self.following.on_reached, reached, peer)

    def asks(self, peer: bytes, bytes_max: int = FETCH_BYTES_MAX) -> Send:
        return Send((peer,), Follow(self.at.executed, bytes_max).pack())

    def rest(self, failures: int) -> int:
        return (REST_STATUSES << failures) * self.at.pace.status_ticks


def following(n: int = 4) -> Observer:
    """One whose source has just said that it takes it."""
    made = Observer(n)
    assert made.links(made.first) == [made.asks(made.first)]
    assert made.hears(made.first) == [made.asks(made.first)], "where it stands, it says at once"
    assert made.hears(made.first) == []
    return made


@pytest.fixture
def made() -> Observer:
    return following()


# --- a source ---------------------------------------------------------------------------------


def test_it_asks_one_and_then_again_and_says_how_far_it_is_from_the_voters(made: Observer) -> None:
    assert (made.following.source, made.at.depth) == (made.first, 1)
    assert made.links(made.second) == [], "one is enough"
    pause = made.at.pace.resend_ticks
    assert made.following.wake_at() == made.at.now_ticks + pause
    assert made.waits(pause - 1) == [], "there was nothing to come"
    assert made.waits(1) == [made.asks(made.first)]
    made.at.executed = 8
    assert made.hears(made.first, 9) == [made.asks(made.first)], "at once, for something came"
    assert made.following.behind == 1


def test_a_member_follows_nobody() -> None:
    made = Observer(n=7)
    assert made.links(*KEYS[:6]) == []
    assert made.following.wake_at() is None
    assert made.hears(made.first, 99) == []
    assert (made.following.source, made.following.behind, made.at.depth) == (b"", 0, 0)


def test_who_is_admitted_stops_and_who_is_removed_begins(made: Observer) -> None:
    def begin(number: int, members: tuple[bytes, ...]) -> list[Effect]:
        configuration = Configuration(number, tuple(sorted(members)), 0)
        made.at = Standing(OWN, configuration, PARAMETERS, 5, now_ticks=100)
        made.catchup = Catchup(made.at.pace, 2)
        return made.says(made.following.begin, made.at, made.catchup)

    made.hears(made.first, others=(A,))
    assert begin(1, (*KEYS[:4], KEYS[5])) == []
    assert (made.following.source, made.at.depth) == (made.first, 1), "as before"
    assert begin(2, (*KEYS[:4], OWN)) == []
    assert (made.following.source, made.following.wants, made.at.depth) == (b"", frozenset(), 0)
    assert begin(3, (KEYS[5],)) == [made.asks(made.first)], "there is a link"
    assert made.at.depth == HOPS_MAX
    made.hears(made.first, takes=False)
    assert made.following.source == KEYS[5], "the only member is looked for"
    assert KEYS[1] not in made.following._known, "who is none any more is forgotten"


def test_while_the_state_is_on_its_way_nothing_is_asked(made: Observer) -> None:
    made.at.fetching = True
    assert made.waits(100_000) == []
    assert made.following.wake_at() is None
    made.at.fetching = False
    assert made.waits(0) == [made.asks(made.first)]


def test_a_link_that_is_made_anew_is_asked_anew(made: Observer) -> None:
    made.waits(made.at.pace.resend_ticks)
    assert made.links(made.first) == [made.asks(made.first)]


def test_whoever_links_may_be_followed_if_there_is_nobody_better() -> None:
    made = Observer()
    made.says(made.following.link, A, True)
    assert made.following.source == made.first, "a member comes first"
    for member in KEYS[:4]:
        made.waits(made.at.pace.fetch_ticks)
        assert member not in made.following._linked
    assert made.following.source == A
    made.says(made.following.link, A, False)
    assert A not in made.following._known


# --- sources that fail ------------------------------------------------------------------------


def test_who_does_not_answer_is_left_and_rests_ever_longer(made: Observer) -> None:
    made.links(made.second)
    made.waits(made.at.pace.resend_ticks)
    patience = 2 * made.at.pace.status_ticks + made.at.pace.fetch_ticks
    assert made.waits(patience - 1) == []
    assert made.waits(1) == [made.asks(made.second)]
    known = made.following._known[made.first]
    assert known.rests_until == made.at.now_ticks + made.rest(1)
    known.failures = 100
    made.following.source = made.first
    made.following._fail()
    assert known.rests_until == made.at.now_ticks + made.rest(DOUBLINGS_MAX)


def test_who_is_not_linked_in_time_is_left() -> None:
    made = Observer()
    assert made.waits(0) == []
    assert made.first in made.following.wants
    assert made.waits(made.at.pace.fetch_ticks) == []
    assert made.following.source == made.second
    assert made.links(made.second) == [made.asks(made.second)]


def test_who_loses_its_link_is_left_at_once_and_back_when_it_is_back() -> None:
    made = following(n=1)
    for _ in range(2 * LIE_FAILURES):  # members hang up on who is none, again and again
        assert made.says(made.following.link, made.first, False) == []
        assert (made.following.source, made.at.depth) == (b"", HOPS_MAX)
        assert made.links(made.first) == [made.asks(made.first)]
    made.says(made.following.judge, Committed((), NULL_BATCH), made.first)
    made.says(made.following.link, made.first, False)
    assert made.links(made.first) == [], "but for who has lied"


def test_who_says_that_there_is_more_and_brings_nothing_is_left(made: Observer) -> None:
    made.links(made.second)
    made.waits(made.at.pace.resend_ticks)
    assert made.hears(made.first, 1 << 40) == []
    assert made.following.behind == (1 << 40) - 5
    assert made.waits(made.at.pace.fetch_ticks - 1) == []
    assert made.waits(1) == [made.asks(made.second)]
    assert made.following.behind == 0, "what it claimed is forgotten"


def test_a_source_that_brings_something_again_is_as_good_as_before(made: Observer) -> None:
    known = made.following._known[made.first]
    known.failures, known.lied = 3, True
    made.waits(made.at.pace.resend_ticks)
    made.at.executed += 1
    made.hears(made.first)
    assert (known.failures, known.lied) == (0, False)


def test_who_follows_too_far_away_is_left(made: Observer) -> None:
    made.links(made.second)
    made.waits(made.at.pace.resend_ticks)
    assert made.hears(made.first, depth=HOPS_MAX) == [made.asks(made.second)]


def test_who_has_lost_its_way_is_good_for_what_it_has(made: Observer) -> None:
    made.waits(made.at.pace.resend_ticks)
    made.at.executed += 1
    assert made.hears(made.first, depth=HOPS_MAX) == [made.asks(made.first)]
    assert made.at.depth == HOPS_MAX


def test_a_batch_without_proof_ends_it(made: Observer) -> None:
    content = batch()
    good = committed(6, content)
    too_few = Committed(commits(6, content.digest)[:2], content)
    later = Committed(commits(7, content.digest)[:2], content)
    made.links(made.second)
    judge = made.following.judge
    assert made.says(judge, good, made.first) == [], "it was not executed for another reason"
    assert made.says(judge, later, made.first) == [], "that can be judged by who is there"
    assert made.says(judge, too_few, made.second) == [], "nobody asked"
    made.at.settling = True
    assert made.says(judge, too_few, made.first) == []
    made.at.settling, made.at.fetching = False, True
    assert made.says(judge, too_few, made.first) == []
    made.at.fetching = False
    for lie in (too_few, Committed((), NULL_BATCH)):
        made.following.source = made.first
        effects = made.says(judge, lie, made.first)
        assert HangUp(made.first, LIED) in effects
        assert made.following._known[made.first].failures >= LIE_FAILURES
    assert made.following.source == made.second
    once = following()
    assert Alarm(LIED, once.first) in once.says(once.following.judge, too_few, once.first)


def test_answers_that_nobody_asked_for_say_nothing(made: Observer) -> None:
    made.hears(made.second, 1 << 40, others=(A,))
    made.hears(B, 1 << 40, others=(A,))
    made.hears(made.first, 1 << 40, others=(A,))  # the answer to its question was before
    assert made.following.behind == 0
    assert A not in made.following._known


# --- others -----------------------------------------------------------------------------------


def test_who_has_no_room_names_others_who_are_asked_next(made: Observer) -> None:
    made.links(made.second)
    made.waits(made.at.pace.resend_ticks)
    assert made.hears(made.first, takes=False, others=(A, OWN)) == []
    assert made.following.source == A, "a link to it has to be made"
    assert A in made.following.wants
    assert OWN not in made.following._known
    assert made.links(A) == [made.asks(A)]
    made.hears(A, depth=1)
    assert made.at.depth == 2
    assert made.following._known[made.first].rests_until == 100 + 100 + made.rest(0)


def test_nobody_follows_its_own_followers(made: Observer) -> None:
    made.followers.begin(made.at, object())  # type: ignore[arg-type]
    made.followers.on_follow(Follow(0, 1), A)
    made.waits(made.at.pace.resend_ticks)
    made.hears(made.first, takes=False, others=(A, B))
    assert made.following.source == B


def test_who_introduces_many_introduces_the_last_ones_only(made: Observer) -> None:
    for i in range(0, 2 * INTRODUCED_MAX, 4):
        made.following._asked = 5
        made.hears(made.first, others=OTHERS[i : i + 4])
    kept = [key for key in OTHERS if key in made.following._known]
    assert kept == OTHERS[INTRODUCED_MAX : 2 * INTRODUCED_MAX]
    made.following._asked = 5
    made.hears(made.first, others=kept[:1])
    assert made.following._known[kept[0]].hint == made.following._hints


def test_all_together_introduce_a_bounded_number(made: Observer) -> None:
    keys = [bytes([i, j]) * 16 for i in range(20) for j in range(4)]
    for i in range(0, len(keys), 4):
        made.following._introduce(tuple(keys[i : i + 4]), bytes([i]) * 32)
    known = [key for key in keys if key in made.following._known]
    assert known == keys[-KNOWN_MAX:]


# --- the spare --------------------------------------------------------------------------------


def with_spare() -> tuple[Observer, int]:
    """One with a spare, and how long it is between two audits."""
    made = following()
    made.links(made.second)
    made.following._find_spare()
    assert made.following.wants == {made.first, made.second}
    made.waits(made.at.pace.resend_ticks)
    return made, AUDIT_STATUSES * made.at.pace.status_ticks


def audit(made: Observer, pause: int) -> list[Effect]:
    """Wait for it, while the source says that it is there and has nothing."""
    step = made.at.pace.status_ticks
    effects = []
    for _ in range(0, pause, step):
        made.hears(made.first)
        effects += made.waits(step)
    return [e for e in effects if e != made.asks(made.first)]


def test_a_source_that_has_not_brought_what_the_spare_had_is_left() -> None:
    made, pause = with_spare()
    assert audit(made, pause) == [made.asks(made.second, 0)]
    assert made.hears(made.second, 7) == []
    made.at.executed = 7
    assert audit(made, pause) == [made.asks(made.second, 0)], "all is well"
    made.hears(made.second, 9)
    made.at.executed = 8
    assert audit(made, pause)[0] == made.asks(made.second)
    assert made.following.source == made.second


def test_a_spare_without_a_link_is_replaced() -> None:
    made = following()
    first_spare = made.following.spare
    assert first_spare == made.second
    made.waits(made.at.pace.resend_ticks)
    assert audit(made, AUDIT_STATUSES * made.at.pace.status_ticks) == []
    assert made.following.spare not in (first_spare, b"")
    assert made.following._known[first_spare].rests_until > made.at.now_ticks


def test_whom_the_source_feeds_is_the_last_to_compare_with() -> None:
    made = following(n=1)
    made.waits(made.at.pace.resend_ticks)
    made.hears(made.first, takes=False, others=(A, B))
    feeder, uncle = made.following.source, made.following.spare
    made.links(feeder)
    made.hears(feeder, others=(C, D))
    made.following._find_spare()
    assert made.following.spare == uncle
    del made.following._known[uncle]
    made.following._find_spare()
    assert made.following.spare in (C, D), "better than none"


def test_who_follows_a_member_compares_with_another_member(made: Observer) -> None:
    """Who follows somebody may well follow the same one."""
    made.waits(made.at.pace.resend_ticks)
    made.hears(made.first, others=(A,))
    made.links(A, made.second)
    made.following._find_spare()
    assert made.following.spare == made.second


def test_after_a_while_it_is_the_turn_of_another_spare() -> None:
    """The first may starve together with the source."""
    made, pause = with_spare()
    spares = []
    for _ in range(3 * SPARE_AUDITS):
        audit(made, pause)
        spares.append(made.following.spare)
        made.links(made.following.spare)
    assert spares[: SPARE_AUDITS - 1] == [made.second] * (SPARE_AUDITS - 1)
    assert len(set(spares)) > 2
    assert made.first not in spares


def test_a_spare_that_is_forgotten_is_replaced() -> None:
    made, pause = with_spare()
    made.following.spare = A
    audit(made, pause)
    assert made.following.spare == made.second


def test_who_follows_no_member_compares_with_none(made: Observer) -> None:
    """Else all would ask the members where they stand, however many there are."""
    made.waits(made.at.pace.resend_ticks)
    made.hears(made.first, takes=False, others=(A, B))
    assert made.following.wants == {A, B}
    lone = following()
    lone.waits(lone.at.pace.resend_ticks)
    lone.hears(lone.first, takes=False, others=(A,))
    assert lone.following.wants == {A}


# --- what is gone -----------------------------------------------------------------------------


def gone(first: int, signer: int = 0) -> object:
    return SIGNERS[signer].sign(Gone(0, first))


def test_what_a_source_keeps_no_longer_another_is_asked_for(made: Observer) -> None:
    first = KEYS.index(made.first)
    made.links(made.second)
    made.waits(made.at.pace.resend_ticks)
    made.hears(made.first, 9)
    on_gone = made.following.on_gone
    other = KEYS.index(made.second)
    assert made.says(on_gone, gone(6, other), made.second) == [], "it is no source"
    assert made.says(on_gone, gone(6, other), made.first) == [], "it is not its own word"
    assert made.says(on_gone, gone(7, first), made.first) == [], "nobody asked for that"
    assert made.says(on_gone, gone(6, first), made.first) == [made.asks(made.second)]
    assert made.catchup.is_futile(5), "of those who say that they have it, all lack it"


def test_where_nobody_has_it_there_is_time_to_take_the_state_until_all_are_asked_again() -> None:
    made = following(n=1)
    made.waits(made.at.pace.resend_ticks)
    made.hears(made.first, 9)
    made.says(made.following.on_gone, gone(6, KEYS.index(made.first)), made.first)
    assert (made.following.source, made.at.depth) == (b"", HOPS_MAX)
    assert made.catchup.is_futile(5), "there is time to take the state instead"
    pause = made.at.pace.fetch_ticks
    assert made.following.wake_at() == made.at.now_ticks + pause
    assert made.waits(pause - 1) == []
    assert made.waits(1) == []
    assert made.waits(pause) == [made.asks(made.first)]
    made.says(made.following.link, made.first, False)
    assert made.waits(pause) == [], "nobody says so any more"
