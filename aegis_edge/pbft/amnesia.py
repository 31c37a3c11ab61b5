"""When a member that lost its memory of votes may vote again.

Knows what the others said of themselves since it woke up, and what that implies about its past.
Refuses to know how it follows meanwhile, and believes no single member.
Follows: s8_14 (tests/pbft/test_checklist.py); in kind the recovery point of Castro and Liskov,
"Practical Byzantine Fault Tolerance and Proactive Recovery" (TOCS 2002).

Its forgotten votes are bounded by what others remember.  It voted for no sequence above a window
over a checkpoint that a quorum had executed; and it left for no view but the one after a view that
a quorum had reached.  n - quorum + f + 1 others meet each such quorum in a correct member, however
f of the others lie.  So once it has a stable checkpoint a window above what so many had executed
when they first spoke, and is in no lower view than any of them was, then
- whatever it voted for lies under its checkpoint, and its word about it is not needed any more;
- in the view after its own it never said anything.
It asks for that view, and votes from there on.  Whoever else claims impossible things is not
needed: so many correct others there are, and what they say comes true.

Where a batch ended the configuration, so many others know it, and lead it there.  Of two, the other
one alone was needed for all that was committed, so it remembers that, and is not waited for longer:
but whether it led over into another configuration is known only once it is executed (`views`).
"""

from __future__ import annotations

from aegis_edge.pbft import quorum
from aegis_edge.pbft.configuration import Configuration, Parameters
from aegis_edge.wire.messages import Status


class Amnesia:
    """What a member without memory waits for."""

    def __init__(self, configuration: Configuration, parameters: Parameters) -> None:
        self._parameters = parameters
        self._start = configuration.start
        self._others = len(configuration.members) - 1
        self.needed = quorum.witnesses(len(configuration.members), configuration.f)
        #: Two members commit nothing without each other, so the other one remembers everything
        #: that was said in this configuration.
        self.is_pair = self._others < configuration.quorum
        self._first: dict[bytes, tuple[int, int]] = {}

    def note(self, peer: bytes, said: Status) -> None:
        """The first status of each peer counts: what it remembers from before it remembers there.

        A checkpoint that this member had seen become stable was executed by whoever signed it.
        """
        interval = self._parameters.checkpoint_interval
        last_checkpoint = max(said.executed_sequence // interval * interval, self._start)
        self._first.setdefault(peer, (said.view, last_checkpoint + self._parameters.window))

    def target(self) -> int | None:
        """The sequence after which it may vote, if enough speak the truth; None: not yet known."""
        bounds = sorted(bound for _, bound in self._first.values())
        return bounds[self.needed - 1] if len(bounds) >= self.needed else None

    def next_view(self, view: int, stable: int) -> int | None:
        """The view to ask for, from `view` and with the checkpoint at `stable`; None: not yet."""
        if self.is_pair and self._first:
            return max(view, *(said for said, _ in self._first.values())) + 1
        behind = sum(said <= view and bound <= stable for said, bound in self._first.values())
        return view + 1 if behind >= self.needed else None
