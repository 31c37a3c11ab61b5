"""One member's parts without the replica that plays them together, and the other members' signers.

A test moves `at`, calls a part, and looks at what the step `said`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aegis_edge.pbft import quorum
from aegis_edge.pbft.catchup import Catchup
from aegis_edge.pbft.checkpoints import Checkpoints
from aegis_edge.pbft.clocks import Readings
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.pbft.events import Effect
from aegis_edge.pbft.execution import Execution
from aegis_edge.pbft.log import Log, Slot
from aegis_edge.pbft.pacing import Pacing
from aegis_edge.pbft.past import Past
from aegis_edge.pbft.pool import Pool
from aegis_edge.pbft.proposals import Proposals
from aegis_edge.pbft.repair import Repair
from aegis_edge.pbft.requests import Requests
from aegis_edge.pbft.route import Route
from aegis_edge.pbft.standing import Standing
from aegis_edge.pbft.suspicion import Suspicion
from aegis_edge.pbft.views import Views
from aegis_edge.pbft.voice import Voice
from aegis_edge.wire.envelope import Opener, Signer
from aegis_edge.wire.messages import (
    Batch,
    Bundle,
    Checkpoint,
    Commit,
    Committed,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Verified,
    ViewChange,
)
from tests.pbft.stage import CLUSTER, PARAMETERS

INCARNATION = 5
ROOT = b"root".ljust(32)

SIGNERS = sorted((Signer(bytes([i]) * 32, CLUSTER) for i in range(1, 8)), key=lambda s: s.public)
KEYS = tuple(signer.public for signer in SIGNERS)
OPEN = Opener(CLUSTER).open


class Parts:
    """Member `own` of `n`; member 0 is the primary of view 0.  Ticks begin at `now`."""

    def __init__(
        self,
        own: int = 1,
        n: int = 4,
        *,
        executed: int = 0,
        now: int = 10_000,
        parameters: Parameters = PARAMETERS,
    ) -> None:
        self.configuration = Configuration(0, KEYS[:n], quorum.faults(n))
        self.key = KEYS[own]
        at = self.at = Standing(self.key, self.configuration, parameters, executed, now_ticks=now)
        voice = self.voice = Voice(SIGNERS[own], self.configuration.others(self.key))
        log = self.log = Log(self.configuration, PARAMETERS)
        self.past = Past(PARAMETERS.window)
        pool = self.pool = Pool({})
        self.readings = Readings()
        self.suspicion = Suspicion(self.key, self.configuration, at.pace)
        self.suspicion.start(now)
        for peer in self.configuration.others(self.key):
            self.suspicion.link(peer, True, now)
        self.catchup = Catchup(at.pace, 2)
        self.pacing = Pacing(at, log, pool, self.suspicion, self.catchup)
        self.pacing.status_said()
        self.requests = Requests(at, voice, pool, self.pacing, self.suspicion, INCARNATION)
        self.proposals = Proposals(at, voice, log, pool, self.readings)
        self.route = Route(None)
        self.execution = Execution(
            at, voice, log, pool, self.past, self.suspicion, self.requests, self.route
        )
        self.checkpoints = Checkpoints(at, voice, log, self.past)
        self.views = Views(at, voice, log, self.past, self.suspicion, self.checkpoints)
        self.repair = Repair(
            at, voice, log, self.views, self.readings, self.suspicion, self.catchup, self.pacing
        )

    def said(self, act: Callable[..., Any], *arguments: Any) -> list[Effect]:
        """What a part says when it does something."""
        effects = self.voice.begin()
        act(*arguments)
        return effects

    def accepted(self, sequence: int, batch: Batch, *, votes: int = 0) -> Slot:
        """The slot of a batch that the primary proposed in the present view, and some voted for."""
        slot = self.log.slot(sequence)
        slot.pre_prepare = pre_prepare(sequence, batch.digest, self.at.view)
        slot.since_ticks, slot.journalled = self.at.now_ticks, True
        self.log.add_body(sequence, batch)
        named = slot.pre_prepare.message
        if slot.pre_prepare.signer != self.key:
            signer = SIGNERS[KEYS.index(self.key)]
            slot.prepares[self.key] = signer.sign(Prepare(*named.fields()))
        for commit in commits(sequence, batch.digest, self.at.view)[:votes]:
            slot.commits[commit.signer] = commit
        return slot


def bundle(origin: int, number: int = 1, incarnation: int = 1) -> Verified[Bundle]:
    return SIGNERS[origin].sign(Bundle(incarnation, number, (b"op",)))


def batch(origin: int = 2, number: int = 1) -> Batch:
    return Batch((), (bundle(origin, number),))


def pre_prepare(sequence: int, digest: bytes, view: int = 0) -> Verified[PrePrepare]:
    return SIGNERS[view % 4].sign(PrePrepare(0, view, sequence, digest))


def prepared(sequence: int, digest: bytes, view: int = 0) -> PreparedCertificate:
    backups = [i for i in range(4) if i != view % 4][:2]
    votes = tuple(SIGNERS[i].sign(Prepare(0, view, sequence, digest)) for i in backups)
    return PreparedCertificate(pre_prepare(sequence, digest, view), votes)


def commits(sequence: int, digest: bytes, view: int = 0) -> tuple[Verified[Commit], ...]:
    """A quorum of four's."""
    return tuple(SIGNERS[i].sign(Commit(0, view, sequence, digest, 7)) for i in range(3))


def committed(sequence: int, content: Batch) -> Committed:
    return Committed(commits(sequence, content.digest), content)


def stable(sequence: int, root: bytes = ROOT) -> tuple[Verified[Checkpoint], ...]:
    return tuple(SIGNERS[i].sign(Checkpoint(0, sequence, root)) for i in range(3))


def change(
    member: int, view: int, start: int = 0, *certificates: PreparedCertificate
) -> Verified[ViewChange]:
    proof = stable(start) if start else ()
    return SIGNERS[member].sign(ViewChange(0, view, start, proof, certificates))
