"""Did the callers see one register per key that changes at one instant per operation?

Two judges of the same question.  `check` uses the revisions that the answers carry: it is linear
in the length of the history, and exact.  `search` believes values only and tries every order (Wing
and Gong, with Lowe's memory of what was tried): exact too, but only for short histories.  A test
lets them judge the same histories.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: What a read of an absent key sees.
ABSENT = None


@dataclass(slots=True)
class Call:
    """One operation as its caller saw it.  Moments only order: whatever has the lower came first.

    `kind`: "put", "delete" or "get".  `returned` is None if no answer ever came.  `status`: "done",
    "conflict" or "absent".  `revision`: the one written, seen by a get, or current at a conflict.
    `expected`: a revision for compare-and-set.  `seen`: the value that a get saw.
    """

    kind: str
    key: str
    invoked: int
    value: bytes | None = None
    expected: int | None = None
    returned: int | None = None
    status: str = ""
    revision: int = 0
    seen: bytes | None = None

    def __str__(self) -> str:
        asked = f"{self.kind} {self.key}"
        if self.kind == "put":
            asked += f" = {self.value!r}"
        if self.expected is not None:
            asked += f" if at {self.expected}"
        said = "no answer"
        if self.returned is not None:
            said = f"{self.status} at {self.revision}"
            if self.kind == "get":
                said = f"{self.seen!r} of {self.revision}"
        return f"[{self.invoked}..{self.returned or ''}] {asked}: {said}"

    @property
    def wrote(self) -> bool:
        return self.kind != "get" and self.status == "done"

    @property
    def placed(self) -> bool:
        """Its answer names the revision after which it happened."""
        return self.wrote or self.kind == "get" or (self.status == "conflict" and self.revision > 0)


def check(history: Iterable[Call], foreign: frozenset[bytes] = frozenset()) -> list[str]:
    """What is wrong with a history, by revisions; `foreign` are values that others may write."""
    wrong: list[str] = []
    by_key: dict[str, list[Call]] = {}
    for call in history:
        by_key.setdefault(call.key, []).append(call)
    for key in sorted(by_key):
        _check_key(by_key[key], foreign, wrong)
    _check_order([c for calls in by_key.values() for c in calls if c.wrote], wrong)
    return wrong


def _check_key(calls: list[Call], foreign: frozenset[bytes], wrong: list[str]) -> None:
    answered = [c for c in calls if c.returned is not None]
    writers: dict[int, Call] = {}
    wrong += [
        f"one revision, two writes: {call} and {writers[call.revision]}"
        for call in answered
        if call.wrote and writers.setdefault(call.revision, call) is not call
    ]
    unknown = {c.value: c for c in calls if c.returned is None and c.kind == "put"}
    deletes_unknown = any(c.returned is None and c.kind == "delete" for c in calls)
    for call in answered:
        if call.kind == "get":
            _check_read(call, writers, unknown, deletes_unknown, foreign, wrong)
        elif call.wrote and call.expected:
            between = [
                c for c in answered if c.placed and call.expected < c.revision < call.revision
            ]
            if between:
                wrong.append(f"a compare-and-set overwrote another: {call} after {between[0]}")
            if call.expected >= call.revision:
                wrong.append(f"a compare-and-set before its condition: {call}")
        elif call.status == "conflict" and call.expected == call.revision:
            wrong.append(f"a conflict without one: {call}")
    _check_order([c for c in answered if c.placed], wrong)


def _check_read(
    call: Call,
    writers: dict[int, Call],
    unknown: dict[bytes | None, Call],
    deletes_unknown: bool,
    foreign: frozenset[bytes],
    wrong: list[str],
) -> None:
    if call.seen in foreign:
        return
    writer = writers.get(call.revision)
    if writer is None and call.seen is not ABSENT:
        writer = unknown.get(call.seen)
    if writer is None:
        absent_by_others = call.seen is ABSENT and (
            call.revision == 0 or deletes_unknown or bool(foreign)
        )
        if not absent_by_others:
            wrong.append(f"nobody wrote what was read: {call}")
    elif (writer.value if writer.kind == "put" else ABSENT) != call.seen:
        wrong.append(f"a read of another value: {call} but {writer}")
    elif call.returned is not None and writer.invoked > call.returned:
        wrong.append(f"a read from the future: {call} but {writer}")


def _check_order(calls: list[Call], wrong: list[str]) -> None:
    """Revisions follow real time: nothing starts after an answer and takes effect before it."""
    moments = sorted(
        [(c.invoked, 0, i) for i, c in enumerate(calls)]
        + [(c.returned, 1, i) for i, c in enumerate(calls) if c.returned is not None]
    )
    newest: Call | None = None
    before: dict[int, Call | None] = {}
    for _, returning, index in moments:
        call = calls[index]
        if not returning:
            before[index] = newest
            continue
        last = before[index]
        if last is not None and (
            call.revision < last.revision or (call.wrote and call.revision == last.revision)
        ):
            wrong.append(f"the past: {call} after {last}")
        if newest is None or call.revision > newest.revision:
            newest = call


def search(history: Iterable[Call]) -> bool:
    """True if some order of one key's calls explains all answers, values alone considered.

    Compare-and-set calls are judged by the value that their expected revision names, so give it
    histories of plain puts, deletes and gets, with distinct values.
    """
    calls = tuple(sorted(history, key=lambda c: c.invoked))
    everything = (1 << len(calls)) - 1
    needed = sum(1 << i for i, c in enumerate(calls) if c.returned is not None)
    tried: set[tuple[int, bytes | None]] = set()
    stack: list[tuple[int, bytes | None]] = [(0, ABSENT)]
    while stack:
        state = stack.pop()
        if state in tried:
            continue
        tried.add(state)
        done, value = state
        if done & needed == needed:
            return True
        left = [i for i in range(len(calls)) if not done >> i & 1]
        deadline = min(
            (c.returned for i in left if (c := calls[i]).returned is not None), default=None
        )
        for i in left:
            call = calls[i]
            if deadline is not None and call.invoked > deadline:
                break
            after = _after(call, value)
            if after is not _IMPOSSIBLE:
                stack.append((done | 1 << i, after))  # type: ignore[arg-type]
    assert everything >= needed
    return False


_IMPOSSIBLE = object()


def _after(call: Call, value: bytes | None) -> object:
    """The value after a call that finds `value`, unless its answer says that it did not."""
    if call.kind == "get":
        return value if call.returned is None or call.seen == value else _IMPOSSIBLE
    if call.kind == "put":
        return call.value
    if call.returned is None:
        return ABSENT
    if call.status == "absent":
        return value if value is ABSENT else _IMPOSSIBLE
    return _IMPOSSIBLE if value is ABSENT else ABSENT
