"""Many operations at once, as the API's pipeline submits them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import trio

from aegis_edge.knowledge.operations import Outcome
from aegis_edge.replication import Busy, Replication, ReplicationError, Ticket


async def submit_many(
    node: Replication, operations: Sequence[bytes], *, timeout_s: float = math.inf
) -> list[Outcome]:
    """The outcomes of `operations`, in their order; raises what `Replication.submit` raises."""
    answers: dict[int, Outcome | ReplicationError] = {}
    news = trio.Event()

    def done(answer: Outcome | ReplicationError, index: int) -> None:
        answers[index] = answer
        news.set()

    tickets: list[Ticket] = []
    with trio.move_on_after(timeout_s):
        for index, operation in enumerate(operations):
            while len(tickets) == index:
                try:
                    tickets.append(node.enqueue(operation, partial(done, index=index)))
                except Busy:
                    await node.room()
        while len(answers) < len(operations):
            news = trio.Event()
            await news.wait()
    untouched = [ticket.withdraw() for ticket in tickets]
    outcomes = [answer for _, answer in sorted(answers.items())]
    for answer in outcomes:
        if isinstance(answer, ReplicationError):
            raise answer
    if len(outcomes) < len(operations):
        raise node.late(timeout_s, taken=not all(untouched))
    return [answer for answer in outcomes if not isinstance(answer, ReplicationError)]
