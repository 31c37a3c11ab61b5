"""Each route: what it answers, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aegis_edge.api import routes
from aegis_edge.api.messages import Refusal, Reply, Request, parse_query
from aegis_edge.api.messages import refused as refused_reply
from aegis_edge.api.room import Room
from aegis_edge.api.routes import WATCH_BYTES
from aegis_edge.knowledge.inclusion import Unprovable
from tests.api.node import AUTHOR, Failure, Replication, node_of
from tests.proofs import cluster


async def answer(
    replication: Replication, method: str, target: str, body: bytes = b"", is_json: bool = False
) -> Reply:
    path, _, query = target.partition("?")
    request = Request(method, path, parse_query(query), is_json, body)
    return await routes.answer(node_of(replication), request)


async def said(replication: Replication, method: str, target: str, body: bytes = b"") -> Any:
    return json.loads((await answer(replication, method, target, body)).body)


async def refused(replication: Replication, method: str, target: str, body: bytes = b"") -> Refusal:
    with pytest.raises(Refusal) as caught:
        await answer(replication, method, target, body)
    return caught.value


async def test_put_get_delete_and_their_revisions() -> None:
    node = Replication()
    assert (await said(node, "PUT", "/v1/kb/a", b"1"))["revision"] == 1
    reply = await answer(node, "GET", "/v1/kb/a")
    assert reply.body == b"1"
    assert reply.content_type == "application/octet-stream"
    assert dict(reply.headers)["X-Aegis-Author"] == AUTHOR.hex()
    await answer(node, "PUT", "/v1/kb/a", b"{}", True)
    assert (await answer(node, "GET", "/v1/kb/a")).content_type == "application/json"
    assert (await answer(node, "GET", "/v1/kb/a?revision=1")).body == b"1"
    assert (await said(node, "DELETE", "/v1/kb/a"))["revision"] == 3
    assert (await refused(node, "GET", "/v1/kb/a")).status == 404
    assert (await refused(node, "DELETE", "/v1/kb/a")).status == 404


async def test_a_write_may_demand_a_revision() -> None:
    node = Replication()
    await said(node, "PUT", "/v1/kb/a?expected=0", b"1")
    refusal = await refused(node, "PUT", "/v1/kb/a?expected=0", b"2")
    assert refusal.status == 409
    assert refusal.body["revision"] == 1
    assert (await refused(node, "DELETE", "/v1/kb/b?expected=9")).body["revision"] == 0
    await said(node, "PUT", "/v1/kb/a?expected=1", b"2")


async def test_a_linearizable_read_orders_a_barrier_first() -> None:
    node = Replication()
    await said(node, "PUT", "/v1/kb/a", b"1")
    await answer(node, "GET", "/v1/kb/a")
    assert node.barriers == 0
    await answer(node, "GET", "/v1/kb/a?linearizable=1")
    assert node.barriers == 1


async def test_a_proof_is_what_the_node_gives_after_a_barrier_if_one_is_wanted() -> None:
    node = Replication()
    reply = await answer(node, "GET", "/v1/proof/no%20door?timeout=7")
    assert reply.body == cluster().proof("no door")
    assert reply.content_type == "application/octet-stream"
    assert (node.barriers, node.proven[0][0]) == (0, "no door")
    assert 6 < node.proven[0][1] <= 7
    await answer(node, "GET", "/v1/proof/door?linearizable=1&timeout=7")
    assert node.barriers == 1
    for wrong in ("?revision=1", "?timeout=-1", "?linearizable=perhaps"):
        assert (await refused(node, "GET", "/v1/proof/door" + wrong)).status == 400
    assert (await refused(node, "GET", "/v1/proof/")).status == 400
    refusal = await refused(node, "PUT", "/v1/proof/door", b"x")
    assert refusal.status == 405
    assert dict(refusal.headers)["Allow"] == "GET, HEAD"


async def test_a_proof_that_cannot_be_had_says_why() -> None:
    node = Replication()
    node.failing = Failure("no_quorum")
    refusal = await refused(node, "GET", "/v1/proof/door")
    assert refusal.status == 503
    assert "taken" not in refusal.body, "nothing was to be written"
    node.failing = Unprovable("it is absent, but another key has the same label")
    refusal = await refused(node, "GET", "/v1/proof/door")
    assert refusal.status == 500
    assert "same label" in refusal.body["message"]
    node.failing = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await answer(node, "GET", "/v1/proof/door")


def test_who_wants_a_proof_waits_for_the_cluster() -> None:
    for target, waits in (("kb/a", False), ("proof/a", True), ("history/a", False)):
        assert routes.waits(Request("GET", f"/v1/{target}", {}, False, b"")) == waits


async def test_failures_of_the_node_are_raised_on() -> None:
    node = Replication()
    node.failing = Failure("no_quorum")
    with pytest.raises(Failure):
        await answer(node, "PUT", "/v1/kb/a", b"1")


@pytest.mark.parametrize("code", ["no_quorum", "timeout", "stopping", "busy", "halted"])
async def test_a_read_that_fails_speaks_of_no_write(code: str) -> None:
    node = Replication()
    node.failing = Failure(code)
    node.failing.taken = False  # type: ignore[attr-defined]
    node.failing.advice = "it may still happen: read the key" if code == "timeout" else "x"
    refusal = await refused(node, "GET", "/v1/kb/a?linearizable=1")
    assert refusal.code == code
    advice = str(refusal.body["advice"])
    assert "written" not in advice
    assert "happen" not in advice
    assert "taken" not in refusal.body
    assert "can be read without linearizable" in advice


@pytest.mark.parametrize(
    ("timeout_ticks", "patience_s"), [(1, 30), (30_000, 60), (79_260, 159), (3_600_000, 3600)]
)
async def test_who_does_not_say_for_how_long_waits_as_long_as_the_cluster_may_need(
    timeout_ticks: int, patience_s: float
) -> None:
    node = Replication()
    node.timeout_ticks = timeout_ticks
    await said(node, "PUT", "/v1/kb/a", b"1")
    await answer(node, "GET", "/v1/kb/a?linearizable=1")
    await said(node, "DELETE", "/v1/kb/a")
    assert node.timeouts_s == [patience_s] * 3
    assert (await said(node, "GET", "/v1/status"))["patience_s"] == patience_s
    await said(node, "PUT", "/v1/kb/a?timeout=7.5", b"1")
    assert node.timeouts_s[3:] == [7.5]


async def test_a_revision_that_is_still_to_come_is_not_found() -> None:
    node = Replication()
    await said(node, "PUT", "/v1/kb/a", b"1")
    await said(node, "PUT", "/v1/kb/b", b"2")
    assert (await answer(node, "GET", "/v1/kb/a?revision=2")).body == b"1"
    refusal = await refused(node, "GET", "/v1/kb/a?revision=3")
    assert refusal.status == 404
    assert "there is no revision 3 yet: the newest here is 2" in str(refusal)


async def test_a_pruned_revision_is_not_found() -> None:
    node = Replication()
    for _ in range(5):
        await said(node, "PUT", "/v1/kb/a", b"1")
    node.database.oldest = 5
    refusal = await refused(node, "GET", "/v1/kb/a?revision=3")
    assert refusal.status == 404
    assert "begins at revision 5" in str(refusal)


async def test_listing_goes_page_by_page() -> None:
    node = Replication()
    for key in ("b/2", "a/1", "b/1", "b/3"):
        await said(node, "PUT", f"/v1/kb/{key}", b"xyz")
    page = await said(node, "GET", "/v1/kb?prefix=b/&limit=2")
    assert [entry["key"] for entry in page["entries"]] == ["b/1", "b/2"]
    assert page["entries"][0]["size_bytes"] == 3
    page = await said(node, "GET", f"/v1/kb?prefix=b/&limit=2&after={page['more']}")
    assert [entry["key"] for entry in page["entries"]] == ["b/3"]
    assert page["more"] is None


async def test_history_shows_deletions_too() -> None:
    node = Replication()
    await said(node, "PUT", "/v1/kb/a", b"1")
    await said(node, "DELETE", "/v1/kb/a")
    entries = (await said(node, "GET", "/v1/history/a"))["entries"]
    assert [(e["revision"], e["deleted"]) for e in entries] == [(2, True), (1, False)]
    assert (await refused(node, "GET", "/v1/history/b")).status == 404


async def test_a_watch_shows_what_others_call_json_as_bytes() -> None:
    node = Replication()
    node.write("a", b"{not json", 1, False)
    node.write("a", b"NaN", 1, False)
    node.write("a", b"", 0, True)
    made = (await answer(node, "GET", "/v1/watch?after=0")).stream
    assert made is not None
    stream = made(Room(WATCH_BYTES))
    lines = [json.loads(await stream.__anext__()) for _ in range(3)]
    await stream.aclose()  # type: ignore[attr-defined]
    assert lines[0]["value_base64"] == "e25vdCBqc29u"
    assert lines[1]["value_base64"] == "TmFO"
    assert lines[2]["deleted"]


def test_whoever_has_a_member_dialled_waits_for_nobody() -> None:
    assert not routes.waits(Request("POST", "/v1/dial", {"address": "tcp:there:1"}, {}, b""))


async def test_a_member_is_dialled_where_it_says_that_it_is() -> None:
    answer = await said(Replication(), "POST", "/v1/dial?address=tcp:there:1")
    assert answer == {"peer": bytes(32).hex()}


@pytest.mark.parametrize("name", ["status", "peers", "config", "version"])
async def test_the_node_describes_itself(name: str) -> None:
    assert isinstance(await said(Replication(), "GET", f"/v1/{name}"), dict)


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/v2", 404),
        ("POST", "/", 405),
        ("GET", "/v1/kbx", 404),
        ("POST", "/v1/kb/a", 405),
        ("DELETE", "/v1/kb", 405),
        ("PUT", "/v1/history/a", 405),
        ("POST", "/v1/pipeline", 400),
        ("GET", "/v1/pipeline", 405),
        ("GET", "/v1/kb/", 400),
        ("GET", "/v1/kb/a//b", 400),
        ("GET", "/v1/kb/a%00", 400),
        ("GET", "/v1/kb/a%ff", 400),
        ("GET", "/v1/kb/" + "a" * 600, 400),
        ("GET", "/v1/kb/a?linearisable=1", 400),
        ("GET", "/v1/kb?limit=0", 400),
        ("GET", "/v1/kb?limit=1001", 400),
        ("GET", "/v1/watch?after=-1", 400),
        ("PUT", "/v1/kb/a?expected=x", 400),
        ("PUT", "/v1/kb/a?timeout=0", 400),
        ("GET", "/v1/status?x=1", 400),
        ("POST", "/v1/dial", 404),
        ("POST", "/v1/dial?address=tcp:nowhere:1", 404),
        ("GET", "/v1/dial?address=tcp:there:1", 405),
    ],
)
async def test_what_makes_no_sense_is_refused(method: str, target: str, status: int) -> None:
    assert (await refused(Replication(), method, target)).status == status


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("POST", "/v1/kb/a", {"GET", "HEAD", "PUT", "DELETE"}),
        ("POST", "/v1/kb", {"GET", "HEAD"}),
        ("GET", "/v1/pipeline", {"POST"}),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    method: str, target: str, allowed: set[str]
) -> None:
    refusal = await refused(Replication(), method, target)
    assert refusal.code == "method_not_allowed"
    assert {name.strip() for name in dict(refusal.headers)["Allow"].split(",")} == allowed


@pytest.mark.parametrize("target", ["/", "/v1"])
async def test_the_index_lists_the_routes_and_no_others(target: str) -> None:
    listed = (await said(Replication(), "GET", target))["routes"]
    assert all(listed.values())
    paths: dict[str, set[str]] = {}
    for route in listed:
        method, _, rest = route.partition(" ")
        paths.setdefault(rest.partition("?")[0], set()).add(method)
    served = {path: set(methods) for path, methods in routes._FIXED.items()}
    served |= {"/v1/kb/KEY": set(routes._KEY), "/v1/history/KEY": set(routes._HISTORY)}
    served["/v1/proof/KEY"] = set(routes._PROOF)
    assert paths == {path: methods for path, methods in served.items() if path not in ("/", "/v1")}


async def test_the_index_lists_every_query_item() -> None:
    for route in routes.INDEX:
        method, _, target = route.partition(" ")
        path, _, query = target.partition("?")
        names = [item.partition("=")[0] for item in query.split("&") if item]
        strange = f"{path.replace('KEY', 'a')}?zzz=1"
        if method != "POST":
            refusal = await refused(Replication(), method, strange)
            assert refusal.body["advice"] == f"known here: {', '.join(names) or 'none'}"


@pytest.mark.parametrize(
    "target",
    ["/", "/v1/status", "/v1/peers", "/v1/config", "/v1/version", "/v1/kb", "/v1/history/a"],
)
async def test_whatever_is_json_ends_its_line(target: str) -> None:
    node = Replication()
    node.write("a", b"1", 1, False)
    assert (await answer(node, "GET", target)).body.endswith(b"}\n")
    assert refused_reply(await refused(node, "GET", "/v2")).body.endswith(b"}\n")


async def test_the_metrics_are_of_the_status_that_the_api_shows() -> None:
    replication = Replication()
    node = replace(node_of(replication), status=lambda: {"revision": 41})
    reply = await routes.answer(node, Request("GET", "/metrics", {}, False, b""))
    assert b"aegis_edge_revision 41\n" in reply.body


async def test_bad_json_is_not_written() -> None:
    node = Replication()
    with pytest.raises(Refusal):
        await answer(node, "PUT", "/v1/kb/a", b"{", True)
    assert node.revision == 0
