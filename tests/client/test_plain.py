"""The blocking client against the API over a real socket, and against what is none."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aegis_edge.client import (
    Client,
    ClientError,
    Conflict,
    Disconnected,
    Garbled,
    Invalid,
    NoQuorum,
    NotFound,
    NotRunning,
    TimedOut,
    TooLarge,
    protocol,
)
from aegis_edge.client.plain import GRACE_S
from aegis_edge.peers.identity import node_id
from tests.api.node import FOUNDERS, Failure, Replication, serving
from tests.proofs import cluster


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api.sock"


@pytest.fixture
def node(path: Path) -> Iterator[Replication]:
    with serving(path) as replication:
        yield replication


@pytest.fixture
def kb(path: Path, node: Replication) -> Iterator[Client]:
    with Client(path) as client:
        yield client


def test_values_come_back_as_they_went(kb: Client) -> None:
    for key, value in (("a", b"\x00\xff"), ("kürbis/1 2%", {"x": [1, "ä"]}), ("b", ""), ("c", b"")):
        written = kb.put(key, value)
        entry = kb.get(key)
        assert (entry.value, entry.revision) == (value, written.revision)
    assert kb.get("c", linearizable=True).raw == b""
    assert kb.prove("c") == kb.prove("c", linearizable=True) == cluster().proof("c")


def test_invitations_are_made_listed_and_cancelled(kb: Client, node: Replication) -> None:
    member = node_id(FOUNDERS.members[1])
    made = kb.invite(60, member)
    assert made["code"] == node.desk.code
    (listed,) = kb.invitations()["invitations"]
    assert listed["instead_of"] == "n1"
    assert kb.cancel_invitation(listed["invitation"]) == {"invitation": listed["invitation"]}
    with pytest.raises(NotFound):
        kb.cancel_invitation("none")


def test_errors_have_their_types(kb: Client, node: Replication) -> None:
    with pytest.raises(NotFound):
        kb.get("a")
    kb.put("a", 1)
    with pytest.raises(Conflict) as caught:
        kb.put("a", 2, expected=0)
    assert caught.value.revision == 1
    with pytest.raises(Conflict):
        kb.delete("a", expected=5)
    with pytest.raises(TooLarge):
        kb.put("a", b"x" * 300_000)
    with pytest.raises(TooLarge):
        kb.put("a", b"x" * 5_000_000)
    with pytest.raises(Invalid):
        kb.put("a//b", 1)
    node.failing = Failure("no_quorum")
    with pytest.raises(NoQuorum) as late:
        kb.put("a", 1)
    assert late.value.advice == "do what the test says"


def test_listing_history_and_deletion(kb: Client) -> None:
    for number in range(5):
        kb.put(f"b/{number}", number)
    kb.put("c", 1)
    assert [entry.key for entry in kb.ls("b/")] == [f"b/{number}" for number in range(5)]
    kb.delete("c")
    assert [entry.key for entry in kb.ls("c")] == []
    assert [entry.key for entry in kb.ls("b/", after="b/22", page=1)] == ["b/3", "b/4"]
    assert [version.deleted for version in kb.history("c")] == [True, False]


def test_listing_asks_for_all_pages(kb: Client) -> None:
    for number in range(5):
        kb.put(f"k{number}", number)
    assert [entry.key for entry in kb.ls(page=2)] == [f"k{number}" for number in range(5)]


def test_a_watch_follows(kb: Client) -> None:
    kb.put("a", {"x": 1})
    kb.put("b", b"\xff")
    changes = kb.watch(after=0)
    assert next(changes).value == {"x": 1}
    assert next(changes).value == b"\xff"
    kb.delete("a")
    change = next(changes)
    assert (change.version.deleted, change.value) == (True, None)
    changes.close()  # type: ignore[attr-defined]


def test_the_pipeline_carries_thousands(kb: Client) -> None:
    with kb.pipeline() as pipeline:
        for number in range(3000):
            assert pipeline.put(f"k/{number}", b"x") == number
        assert len(pipeline.flush()) == 3000
        pipeline.put("k/1", b"y", expected=0)
        pipeline.delete("k/2")
        conflict, deleted = pipeline.settle()
        assert isinstance(conflict, Conflict)
        assert not isinstance(deleted, ClientError)
    assert len(list(kb.ls())) == 2999


def test_leaving_the_pipeline_raises_what_failed(kb: Client) -> None:
    with pytest.raises(Conflict), kb.pipeline() as pipeline:
        pipeline.put("a", 1, expected=9)


def test_the_node_says_how_long_to_wait_for_its_cluster(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replication, "timeout_ticks", 79_260)
    with serving(path) as node:
        for given_s, waits_s in ((None, 159), (7, 7)):
            with Client(path, timeout_s=given_s) as kb:
                kb.put("a", 1)
                assert kb._wire is not None
                assert kb._wire._socket.gettimeout() == waits_s + GRACE_S
                kb.get("a")
                assert kb._wire._socket.gettimeout() == (given_s or 30) + GRACE_S
                kb.get("a", linearizable=True)
                kb.delete("a")
                with kb.pipeline() as pipeline:
                    assert pipeline._wire._socket.gettimeout() == waits_s
            assert node.timeouts_s == [waits_s] * 3
            node.timeouts_s.clear()


def test_a_node_that_does_not_say_is_waited_for_half_a_minute() -> None:
    assert protocol.patience_s({}) == 30


def test_the_node_describes_itself(kb: Client) -> None:
    assert kb.status()["nodes"] == 1
    assert kb.peers() == {"peers": []}
    assert kb.dial("tcp:there:1") == {"peer": bytes(32).hex()}
    with pytest.raises(NotFound):
        kb.dial("tcp:elsewhere:1")
    member = node_id(FOUNDERS.members[1])
    assert kb.ban(member) == {"id": member, "for_s": None, "warning": ""}
    assert kb.unban(member) == {"id": member}
    assert kb.config() == {"settings": [], "agreed": [], "overruled": []}
    assert kb.version() == {"version": "0.1.0"}
    assert "aegis_edge_nodes 1" in kb.metrics()


def test_a_node_that_came_back_is_found_again(path: Path) -> None:
    with Client(path) as kb:
        with serving(path):
            kb.put("a", 1)
        with pytest.raises(NotRunning, match=f"no node answers at {path}; start it"):
            kb.put("a", 1)
        with serving(path):
            kb.put("a", 1)


def answering(path: Path, said: bytes) -> threading.Thread:
    """Somebody at `path` who says `said` to one connection and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer() -> None:
        connection, _ = listener.accept()
        with listener, connection:
            connection.recv(4096)
            connection.sendall(said)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", Disconnected),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", Disconnected),
        (b"220 mail.example ESMTP\r\n", Garbled),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", Garbled),
    ],
)
def test_who_is_no_node_is_a_client_error(path: Path, said: bytes, kind: type) -> None:
    for ask in (Client.status, Client.pipeline, lambda kb: next(kb.watch())):
        thread = answering(path, said)
        with pytest.raises(ClientError) as caught, Client(path, timeout_s=30) as kb:
            ask(kb)
        thread.join()
        path.unlink()
        if ask is Client.status:
            assert type(caught.value) is kind


def test_who_never_answers_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aegis_edge.client.plain.GRACE_S", 0.0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(TimedOut), Client(path, timeout_s=0.01) as kb:
            kb.status()


def test_places_without_a_node_are_explained(tmp_path: Path) -> None:
    with pytest.raises(NotRunning) as caught:
        Client(tmp_path / "none").status()
    assert str(caught.value) == f"no node answers at {tmp_path}/none; start it with: aegis-edge run"
    assert caught.value.message == f"no node answers at {tmp_path}/none"
    assert str(NotRunning("nobody")) == "nobody"
    assert caught.value.advice == "start it with: aegis-edge run"
    with pytest.raises(NotRunning, match="cannot reach"):
        Client(tmp_path / ("x" * 200)).status()


def test_plain_code_pays_for_nothing_else() -> None:
    code = (
        "import sys, aegis_edge.client;"
        "sys.exit(','.join({'trio','h11','cbor2','click','http'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).stderr == b"\n"
