"""The build that is judged: the real replica, the real state machine."""

from __future__ import annotations

from aegis_edge.pbft.replica import Replica
from tests.sim.machine import Applied
from tests.sim.world import Build

REAL = Build(replica=Replica, machine=Applied)
