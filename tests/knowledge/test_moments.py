"""The last checkpoints: what is unchanged since is shown, and what is asked for is caught."""

from __future__ import annotations

import pytest

from aegis_edge.knowledge import merkle, moments
from aegis_edge.knowledge.inclusion import Unprovable
from aegis_edge.knowledge.moments import Moments
from aegis_edge.knowledge.operations import Delete, Operation, Put
from aegis_edge.knowledge.state import Rotten
from aegis_edge.peers import genesis
from tests.knowledge.founders import machine_of
from tests.knowledge.histories import bundle
from tests.knowledge.memory_state import MemoryState


class Node:
    """A machine with a batch for each call, and checkpoints where a test wants them."""

    def __init__(self) -> None:
        self.state = MemoryState()
        self.machine = machine_of(self.state, 1)
        self.moments = Moments(self.state.retained, self.state.versions.__getitem__)
        self.roots: dict[int, bytes] = {}

    def write(self, *operations: Operation) -> None:
        number = self.machine.executed + 1
        self.machine.apply(number, 1000 * number, (bundle(0, number, *operations),))

    def checkpoint(self) -> int:
        sequence = self.machine.executed
        self.moments.took(sequence, self.machine.moment())
        self.roots[sequence] = self.machine.root()
        return sequence

    def show(self, key: str, sequence: int, revision: int | None = None) -> bytes | None:
        """The value that is shown, b"" for none; None if nothing is."""
        if revision is None:
            revision = self.moments.newest(key)
        shown = self.moments.show(key, sequence, revision)
        if shown is None:
            return None
        shown.check(self.roots[sequence])
        assert shown.key == key
        return b"" if shown.version is None else shown.version.value


@pytest.fixture
def node() -> Node:
    return Node()


def test_what_did_not_change_since_is_shown_at_once(node: Node) -> None:
    node.write(Put("a", b"1"), Put("b", b"2"), Delete("b"))
    at = node.checkpoint()
    node.write(Put("c", b"3"))
    assert node.show("a", at) == b"1"
    assert node.show("b", at) == b""
    assert node.show("never", at) == b""
    assert node.show("c", at) is None


def test_what_changed_is_shown_at_the_next_checkpoint_however_often_it_changes(node: Node) -> None:
    node.write(Put("a", b"1"))
    first = node.checkpoint()
    node.write(Put("a", b"2"))
    revision = node.moments.newest("a")
    assert node.show("a", first, revision) is None
    node.write(Put("a", b"3"))
    second = node.checkpoint()
    node.write(Put("a", b"4"))
    assert node.show("a", second, revision) == b"3"
    assert node.show("a", second) is None, "older than what whoever asks now can read"
    node.write(Put("b", b""))
    third = node.checkpoint()
    node.write(Put("a", b"5"))
    assert node.show("a", third, 4) == b"4"


def test_what_nobody_asked_for_is_not_caught(node: Node) -> None:
    node.write(Put("a", b"1"))
    at = node.checkpoint()
    node.write(Put("a", b"2"))
    assert node.show("a", at, 0) is None
    node.checkpoint()
    node.write(Put("b", b"3"))
    at = node.checkpoint()
    node.write(Put("a", b"4"))
    assert node.show("a", at, 0) is None, "it was wanted for one checkpoint"


def test_a_checkpoint_that_is_not_known_shows_nothing_until_the_next(node: Node) -> None:
    assert node.show("a", 0) is None
    node.write(Put("b", b"1"))
    at = node.checkpoint()
    node.write(Put("a", b"2"))
    assert node.show("a", at, 0) == b"", "it was absent then, and that had been asked for"


def test_old_checkpoints_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "MOMENTS_MAX", 3)
    taken = []
    for number in range(5):
        node.write(Put("b", b"%d" % number))
        taken.append(node.checkpoint())
    assert [node.show("a", at) for at in taken] == [None, None, b"", b"", b""]
    node.moments.forget_before(taken[3])
    assert [node.show("a", at) for at in taken[2:]] == [None, b"", b""]


def test_what_is_kept_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "WANTED_MAX", 3)
    monkeypatch.setattr(moments, "CAUGHT_BYTES_MAX", 150)
    for key in "abcd":
        node.write(Put(key, bytes(20)))
        assert node.show(key, 0) is None
    at = node.checkpoint()
    node.write(*(Put(key, b"later") for key in "abcd"))
    assert [node.show(key, at, 1) for key in "abcd"] == [bytes(20), bytes(20), None, None]


def test_a_key_that_cannot_be_denied_is_said_to_be(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merkle, "label", lambda key: b"samelabl")
    node.write(Put("a", b"1"))
    assert node.show("b", 0) is None
    assert node.show("a", 0) is None
    at = node.checkpoint()
    with pytest.raises(Unprovable):
        node.show("b", at)
    assert node.show("a", at) == b"1"


def test_what_the_disk_spoilt_is_not_shown(node: Node) -> None:
    node.write(Put("a", b"1"), Put("b", b"2"))
    at = node.checkpoint()
    right = node.state.versions[1]
    for wrong in (right._replace(value=b"0"), None):
        node.state.versions[1] = wrong  # type: ignore[assignment]
        with pytest.raises(Rotten) as caught:
            node.show("a", at)
        assert caught.value.labels == (merkle.label(b"a"),)
        assert node.show("b", at) == b"2"
    assert node.show("a", 0) is None
    second = node.checkpoint()
    node.state.versions[1] = right
    assert node.show("a", second) == b"1", "nothing of it was caught"


def test_all_that_a_window_holds_are_kept() -> None:
    assert moments.MOMENTS_MAX >= genesis.INTERVALS_TOR + 2
