"""What a seed means: the size of the cluster, its weather, its faults and its liars.

A plan is plain data.  Everything that happens by chance later draws from a stream of its own,
named after the seed and its purpose, so that taking one fault away leaves the chances of all others
alone: that is what makes shrinking work.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

#: More batches than any cluster makes.
KEPT_ALL = 1 << 30
#: The sizes that seeds take in turn: mostly the two that bear faults, the small ones as well.
SIZES = (4, 7, 4, 4, 7, 3, 4, 7, 2, 4, 7, 4, 1, 4, 7, 3, 4, 7, 4, 4)

#: One seed in so many is turbulent: see `turbulent`.
TURBULENT = 16

#: One seed in so many has callers that leave nobody in peace: see `busy`.
BUSY = 16

#: One seed in so many has lines that carry so little that it counts; in so many, nodes differ.
SLOW_LINES, MIXED = 5, 4

#: Faults of the environment; the weight says how often a plan draws each.
FAULT_WEIGHTS = {
    "crash": 4,
    "crash_writing": 6,
    "crash_primary": 3,
    "power_loss": 2,
    "power_loss_writing": 2,
    "partition": 4,
    "isolate": 2,
    "isolate_primary": 3,
    "deaf": 3,
    "dumb": 2,
    "flap": 3,
    "slow_link": 2,
    "slow_disk": 2,
    "disk_lost": 2,
    "clock": 3,
    "storm": 3,
}

#: What liars do; see `byzantine`.  A liar draws one to four of these.
VICES = (
    "equivocate",
    "withhold",
    "replay",
    "old_news",
    "forge",
    "flood",
    "lie_in_view_change",
    "lie_in_new_view",
    "hasty",
    "lie_at_checkpoint",
    "two_faces",
    "censor",
    "disorder",
    "odd_clock",
    "mismatch",
    "mute",
    "mute_primary",
    "slow_primary",
    "double_bundle",
    "lie_in_status",
    "false_answers",
    "garble",
    "usurp",
    "twins",
    "amnesia",
    "old_backup",
    "stuff",
)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: at tick `at`, for `lasts` ticks, to `node` (and `peer`)."""

    index: int
    kind: str
    at: int
    lasts: int
    node: int
    peer: int
    value: int

    def __str__(self) -> str:
        return (
            f"#{self.index} {self.kind} at {self.at} ms for {self.lasts} ms,"
            f" node {self.node}, peer {self.peer}, value {self.value}"
        )


@dataclass(frozen=True)
class Weather:
    """How the network behaves between faults; probabilities per message, times in ticks."""

    ordered: bool
    delay: int
    jitter: int
    loss: float = 0.0
    doubled: float = 0.0
    #: One message in many takes this much longer.
    straggle: float = 0.0
    straggle_ticks: int = 0


@dataclass(frozen=True)
class Plan:
    """A seed, spelled out."""

    seed: int
    n: int
    heal_at: int
    weather: Weather
    sync_ticks: int
    timeout_ticks: int
    status_ticks: int
    checkpoint_interval: int
    window: int
    pipeline: int
    clients: int
    operations: int
    keys: int
    liars: tuple[int, ...]
    faults: tuple[Fault, ...]
    vices: tuple[Fault, ...]
    #: When the shell tells the time: "always" before every message, "asked" when the replica wants
    #: to be woken, "coarse" every `COARSE_TICKS` while there is traffic, asking at ticks only.
    ticking: str
    #: The shell holds messages behind records only, not behind deliveries, roots and prunings.
    eager: bool
    #: The shell drops late votes before their signature is checked.
    skim: bool
    #: What each line carries in a tick; 0: as much as there is.
    bytes_a_tick: int
    #: Nodes have time-outs, pipelines and bundles in flight of their own.
    mixed: bool
    #: Batches under the stable checkpoint that a node keeps for others.
    kept: int
    #: Who is a member from the beginning; the others may become one.
    founders: tuple[int, ...]
    #: When somebody wants to change who the members are.
    moves: tuple[int, ...] = ()
    #: The command-line flags that make this plan from its seed again.
    flags: tuple[str, ...] = field(default=())

    def random(self, purpose: str) -> random.Random:
        """The stream of chances for one purpose."""
        return random.Random(f"{self.seed} {purpose}")

    @property
    def parts(self) -> tuple[int, ...]:
        """The indexes of everything that shrinking may take away."""
        return tuple(fault.index for fault in self.faults + self.vices)

    @property
    def value_bytes(self) -> int:
        """What a large value measures: most of what a line carries in the shortest time-out."""
        shortest_ticks = self.timeout_ticks * 4 // 5 if self.mixed else self.timeout_ticks
        return self.bytes_a_tick * shortest_ticks * 6 // 10

    def without(self, indexes: frozenset[int]) -> Plan:
        """The plan less some of its faults and vices."""
        return self.keeping(frozenset(self.parts) - indexes)

    def keeping(self, indexes: frozenset[int]) -> Plan:
        """The plan with no more than these of its faults and vices."""
        flags = ("--keep", ",".join(map(str, sorted(indexes))) or "none")
        return replace(
            self,
            faults=tuple(x for x in self.faults if x.index in indexes),
            vices=tuple(x for x in self.vices if x.index in indexes),
            flags=_with_flags(self.flags, flags),
        )

    def with_operations(self, operations: int) -> Plan:
        flags = ("--operations", str(operations))
        return replace(self, operations=operations, flags=_with_flags(self.flags, flags))

    def healing_at(self, heal_at: int) -> Plan:
        """The plan with its troubles over at `heal_at` already."""
        flags = ("--heal-at", str(heal_at))
        return replace(
            self,
            heal_at=heal_at,
            faults=tuple(x for x in self.faults if x.at < heal_at),
            flags=_with_flags(self.flags, flags),
        )

    @property
    def is_calm(self) -> bool:
        return "--calm" in self.flags

    def calm(self) -> Plan:
        """The plan with a network that neither loses, doubles nor reorders."""
        weather = Weather(ordered=True, delay=self.weather.delay, jitter=0)
        return replace(self, weather=weather, flags=_with_flags(self.flags, ("--calm",)))


def _with_flags(flags: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
    """`flags`, with one of them (and its value, if it has one) given anew."""
    if new[0] in flags:
        at = flags.index(new[0])
        flags = flags[:at] + flags[at + len(new) :]
    return (*flags, *new)


def make(seed: int, sizes: tuple[int, ...] = ()) -> Plan:
    """The plan of `seed`; `sizes` limits the cluster sizes to choose from."""
    plan = _make(seed, sizes)
    if seed % TURBULENT == TURBULENT - 1:
        return turbulent(plan)
    return busy(plan) if seed % BUSY == BUSY // 2 else plan


def _make(seed: int, sizes: tuple[int, ...]) -> Plan:
    flags = ("--n", ",".join(map(str, sizes))) if sizes else ()
    sizes = tuple(n for n in SIZES if n in sizes) or sizes or SIZES
    n = sizes[seed % len(sizes)]
    chance, lines = random.Random(f"{seed} plan"), random.Random(f"{seed} lines")
    f = (n - 1) // 3
    heal_at = chance.choice((2_000, 4_000, 6_000, 10_000))
    # A third of all seeds have a full count of liars, a third some, a third none.
    liars = tuple(sorted(chance.sample(range(n), chance.choice((0, chance.randint(0, f), f, f)))))
    weather = _weather(chance)
    timeout_ticks = chance.choice((400, 800, 1_500)) + 8 * (weather.delay + weather.jitter)
    interval = chance.choice((2, 4, 4, 8, 16))
    vices = _vices(chance, n, liars, heal_at)
    # Those who lie about new views get some to lie about.
    troubled = chance.random() < 0.2 or any(
        vice.kind in ("lie_in_new_view", "hasty") for vice in vices
    )
    return Plan(
        seed=seed,
        n=n,
        heal_at=heal_at,
        weather=weather,
        sync_ticks=chance.choice((0, 1, 4, 12, 40)),
        timeout_ticks=timeout_ticks,
        status_ticks=timeout_ticks // chance.choice((1, 2, 4)),
        checkpoint_interval=interval,
        window=interval * chance.choice((2, 2, 3)),
        pipeline=chance.choice((1, 2, 4)),
        clients=chance.choice((1, 2, 3, 4)),
        operations=chance.choice((10, 20, 40)),
        keys=chance.choice((1, 2, 3)),
        liars=liars,
        faults=_faults(chance, n, heal_at, troubled),
        vices=vices,
        ticking=chance.choice(("always", "asked", "coarse", "coarse")),
        eager=chance.random() < 0.6,
        skim=chance.random() < 0.5,
        bytes_a_tick=lines.choice((20, 40, 100)) if lines.random() < 1 / SLOW_LINES else 0,
        mixed=lines.random() < 1 / MIXED,
        kept=random.Random(f"{seed} kept").choice((KEPT_ALL, KEPT_ALL, 0, interval)),
        founders=tuple(range(n)),
        flags=flags,
    )


def turbulent(plan: Plan) -> Plan:
    """The plan with a bad network and a new view for everybody all the time."""
    chance = plan.random("turbulence")
    faults = tuple(
        Fault(
            index=index,
            kind=chance.choice(("isolate", "isolate_primary", "partition", "crash_primary")),
            at=index * plan.timeout_ticks // 2,
            lasts=chance.randrange(plan.timeout_ticks // 4, 2 * plan.timeout_ticks),
            node=chance.randrange(plan.n),
            peer=chance.randrange(plan.n),
            value=chance.randrange(1 << 30),
        )
        for index in range(40)
    )
    return replace(
        plan,
        heal_at=20 * plan.timeout_ticks,
        weather=Weather(False, 2, 40, loss=0.3),
        faults=faults,
        clients=4,
        operations=120,
        pipeline=4,
    )


def busy(plan: Plan) -> Plan:
    """The plan with many callers of one key who hardly think, and messages that spread wide."""
    return replace(
        plan,
        weather=Weather(False, 1, 4, straggle=0.2, straggle_ticks=60),
        clients=8,
        operations=plan.heal_at // 10,
        keys=1,
        sync_ticks=1,
        bytes_a_tick=0,
    )


def forgetful(plan: Plan) -> Plan:
    """The plan where nobody keeps a batch under a stable checkpoint, and one has false states.

    Who missed a batch fetches the state; see `node.FalseSource`.  Of fewer than four nobody lies.
    """
    return replace(plan, kept=0, liars=(0,) if plan.n > 3 else (), vices=())


#: What liars do where members come and go, beside all else.
SIEGE_VICES = (*VICES, "coup", "coup", "coup")


def besieged(plan: Plan) -> Plan:
    """The plan with members who come and go; a cluster may begin as one board.

    The liars are some of all boards, and no more of the founders than those bear.
    """
    chance = plan.random("siege")
    n = max(plan.n, chance.choice((2, 4, 5, 6, 7)))
    count = chance.choice((1, 1, 2, 3, 4, 4, 5, 6, 7))
    liars = tuple(sorted(chance.sample(range(n), chance.randint(0, (n - 1) // 3))))
    honest = [index for index in range(n) if index not in liars]
    f = (min(count, n) - 1) // 3
    lying = chance.sample(liars, min(f, len(liars)))
    founders = (lying + chance.sample(honest, len(honest)))[: min(count, n)]
    return replace(
        plan,
        n=n,
        founders=tuple(sorted(founders)),
        liars=liars,
        vices=_vices(plan.random("vices"), n, liars, plan.heal_at, SIEGE_VICES),
        moves=tuple(chance.randrange(50, plan.heal_at) for _ in range(10)),
        flags=_with_flags(plan.flags, ("--siege",)),
    )


def _weather(chance: random.Random) -> Weather:
    kind = chance.random()
    delay, jitter = chance.choice(((1, 1), (2, 6), (10, 10), (40, 80)))
    if kind < 0.45:  # links as TCP makes them
        return Weather(True, delay, jitter, straggle=0.01, straggle_ticks=4 * (delay + jitter))
    if kind < 0.6:
        return Weather(True, delay, jitter, loss=chance.choice((0.01, 0.05)))
    return Weather(
        False,
        delay,
        jitter,
        loss=chance.choice((0.0, 0.02, 0.1)),
        doubled=chance.choice((0.0, 0.02, 0.1)),
        straggle=chance.choice((0.0, 0.02)),
        straggle_ticks=chance.choice((100, 1_000)),
    )


def _faults(chance: random.Random, n: int, heal_at: int, troubled: bool) -> tuple[Fault, ...]:
    kinds = list(FAULT_WEIGHTS)
    weights = list(FAULT_WEIGHTS.values())
    if troubled:  # nothing but trouble for whoever leads
        kinds = ["isolate_primary", "crash_primary", "deaf_primary", "dumb_primary", "storm"]
        weights = [3, 2, 2, 2, 2]
    return tuple(
        Fault(
            index=index,
            kind=chance.choices(kinds, weights)[0],
            at=chance.randrange(50, heal_at),
            lasts=int(20 * (heal_at / 40) ** chance.random()),
            node=chance.randrange(n),
            peer=chance.randrange(n),
            value=chance.randrange(1 << 30),
        )
        for index in range(chance.choice((0, 2, 4, 6, 9, 12)))
    )


def _vices(
    chance: random.Random,
    n: int,
    liars: tuple[int, ...],
    heal_at: int,
    kinds: tuple[str, ...] = VICES,
) -> tuple[Fault, ...]:
    vices = []
    for liar in liars:
        for kind in chance.sample(kinds, chance.choice((1, 2, 2, 3, 4))):
            at = chance.choice((0, 0, chance.randrange(heal_at)))
            vices.append(
                Fault(
                    index=100 + len(vices),
                    kind=kind,
                    at=at,
                    lasts=chance.choice((heal_at // 2, heal_at, 1 << 30)),
                    node=liar,
                    peer=chance.randrange(n),
                    value=chance.randrange(1 << 30),
                )
            )
    return tuple(vices)
