"""The crowd behind four voters, small: it feeds itself, and whoever lies to it is found out."""

from __future__ import annotations

from tests.sim import crowd
from tests.sim.crowd import VOTERS, Crowd


def test_a_crowd_costs_the_voters_what_a_few_do_and_nobody_is_left_behind() -> None:
    said: list[str] = []
    figures = crowd.measure(60, said.append)
    assert figures["violations"] == []
    calm = figures["rows"][-2]
    assert (calm["observers"], calm["troubled"]) == (60, False)
    assert set(calm["depths"]) == {1, 2}, "voters feed as many as they do, and those the others"
    assert 0 < calm["lag_p50_ms"] <= calm["lag_p99_ms"] < 1_000
    assert said[-1].split()[0] == "60"


def test_a_source_that_lies_is_caught_by_who_checks_and_else_by_the_judge() -> None:
    assert any("executed another" in violation for violation in crowd.canary())


def test_the_judge_sees_who_is_left_behind_and_who_costs_too_much() -> None:
    few = Crowd(1)
    few.at(1, few.write, None)
    few.run(3_000)
    few.grow(1)
    assert few.violations == []
    observer = few.boards[VOTERS]
    few.link = lambda a, b: None  # type: ignore[method-assign]
    for peer in list(observer.links):
        few.unlink(observer.index, peer)
    few.run(5_000)
    assert few.behind() == [observer.index]
    few._until_level(few.now)
    assert few.violations == [f"1 boards are left behind, such as {observer.index}"]
    row = dict.fromkeys(("bytes_in_s", "bytes_out_s", "messages_in_s", "messages_out_s"), 10.0)
    rows = [{**row, "observers": n, "troubled": False} for n in (10, 100, 1_000)]
    assert crowd._unbounded(rows) == []
    rows[2]["bytes_in_s"] = 13.0
    assert crowd._unbounded(rows) == ["1000 observers cost a voter 13 of bytes_in_s"]
