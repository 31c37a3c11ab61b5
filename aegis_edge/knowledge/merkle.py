"""The hash tree over the applied state: 4096 partitions by hash of key, digests kept incrementally.

Knows keys by their hash and rows by their digest.  Refuses to know what a row means.
Follows: RFC 9162 section 2.1 in that leaves and inner nodes hash in domains of their own, and
Castro's thesis, chapter 5, in that only what changed is hashed again at a checkpoint.

A partition is its entries, sorted and joined: an 8-byte label (the head of the key's hash, whose
first 12 bits name the partition), then the digest of key and row.  Equal sets of rows give equal
bytes whatever order they came in; a label that is missing proves that a key is absent.
"""

from __future__ import annotations

from functools import cache

from aegis_edge.crypto import sodium

PARTITIONS = 4096
LEVELS = 12
#: Nodes half-way up: what differs between two trees is found in two steps of 64.
GROUPS = 64
DIGEST_BYTES = sodium.DIGEST_BYTES
LABEL_BYTES = 8
ENTRY_BYTES = LABEL_BYTES + DIGEST_BYTES

_KEY_DOMAIN = b"aegis-edge key"
_ROW_DOMAIN = b"aegis-edge row"
_LEAF_DOMAIN = b"aegis-edge leaf"
_INNER_DOMAIN = b"aegis-edge inner"


def label(key: bytes) -> bytes:
    """The 8 bytes that order a key's entry; see `partition`."""
    return sodium.digest(_KEY_DOMAIN, key)[:LABEL_BYTES]


def partition(key_label: bytes) -> int:
    """The number of the partition, from 0 to 4095, to which a label belongs."""
    return key_label[0] << 4 | key_label[1] >> 4


def row_digest(key: bytes, row: bytes) -> bytes:
    """What stands for a key with this row (`knowledge.state`) in its partition, after its label."""
    return sodium.digest(_ROW_DOMAIN, b"%c%c%b%b" % (len(key) >> 8, len(key) & 0xFF, key, row))


def leaf_digest(entries: bytes) -> bytes:
    """The digest of a partition with these sorted, joined entries."""
    return sodium.digest(_LEAF_DOMAIN, entries)


def inner_digest(left: bytes, right: bytes) -> bytes:
    """The digest of the node above two others."""
    return sodium.digest(_INNER_DOMAIN, left + right)


def digest_above(digests: bytes) -> bytes:
    """The digest of the node above these joined ones, whose count is a power of two."""
    while len(digests) > DIGEST_BYTES:
        pairs = range(0, len(digests), 2 * DIGEST_BYTES)
        digests = b"".join(
            [sodium.digest(_INNER_DOMAIN, digests[at : at + 2 * DIGEST_BYTES]) for at in pairs]
        )
    return digests


class Tree:
    """The partitions and the digests above them.

    Memory: 40 bytes a key, and 256 KiB.  Node 1 is the top, node i has the children 2i and 2i+1,
    and the partitions are the nodes from 4096 on.
    """

    def __init__(self) -> None:
        self._entries: list[bytes] = [b""] * PARTITIONS
        self._nodes = bytearray(_empty_nodes())
        self._dirty: set[int] = set()

    def agrees(self, key: bytes, row: bytes | None) -> bool:
        """Whether `row` is that of `key`, so far as the tree can tell; None: that it has none."""
        head = label(key)
        return not self.has_label(head) if row is None else self.has(head + row_digest(key, row))

    def has_label(self, head: bytes) -> bool:
        """Whether there is a key with this label."""
        return _find(self._entries[partition(head)], head) >= 0

    def has(self, entry: bytes) -> bool:
        """Whether there is this entry: a label, and the digest of its key and row."""
        return _find(self._entries[partition(entry)], entry) >= 0

    def size(self) -> int:
        """How many keys there are."""
        return sum(map(len, self._entries)) // ENTRY_BYTES

    def replace(self, key: bytes, old_row: bytes | None, new_row: bytes) -> None:
        """The row of `key` was `old_row` (None: there was none) and is `new_row` now."""
        head = label(key)
        old = None if old_row is None else head + row_digest(key, old_row)
        self.exchange(old, head + row_digest(key, new_row))

    def exchange(self, old: bytes | None, new: bytes) -> None:
        """The entry `new` takes the place of `old`, which has its label; None: of none."""
        number = partition(new)
        entries = self._entries[number]
        if old is not None:
            at = _find(entries, old)
            assert at >= 0, "the tree knows the entry that changes"
            entries = entries[:at] + entries[at + ENTRY_BYTES :]
        at = _position(entries, new)
        self._entries[number] = entries[:at] + new + entries[at:]
        self._dirty.add(number)

    def partitions(self) -> tuple[bytes, ...]:
        """The entries of every partition as they are now."""
        return tuple(self._entries)

    def adopt(self, number: int, entries: bytes) -> None:
        """The partition holds these sorted, joined entries from now on."""
        self._entries[number] = entries
        self._dirty.add(number)

    def top(self) -> bytes:
        """The digest over all partitions; hashes what changed since the last call, no more."""
        nodes = self._nodes
        above: set[int] = set()
        for number in self._dirty:
            node = PARTITIONS + number
            at = node * DIGEST_BYTES
            nodes[at : at + DIGEST_BYTES] = leaf_digest(self._entries[number])
            above.add(node >> 1)
        self._dirty.clear()
        while above:
            level, above = above, set()
            for node in level:
                at = node * DIGEST_BYTES
                children = bytes(nodes[2 * at : 2 * at + 2 * DIGEST_BYTES])
                nodes[at : at + DIGEST_BYTES] = sodium.digest(_INNER_DOMAIN, children)
                above.add(node >> 1)
            above.discard(0)
        return bytes(nodes[DIGEST_BYTES : 2 * DIGEST_BYTES])

    def entries(self, number: int) -> bytes:
        """The entries of a partition now."""
        return self._entries[number]

    def snapshot(self) -> Snapshot:
        """The digests now, for paths that are asked for later."""
        self.top()
        return Snapshot(bytes(self._nodes))


class Snapshot:
    """The digests of a tree at one moment: 256 KiB, and none of the entries under them."""

    def __init__(self, nodes: bytes) -> None:
        self._nodes = nodes

    def leaf(self, number: int) -> bytes:
        """The digest of a partition then."""
        return self._digest(PARTITIONS + number)

    def path(self, number: int) -> bytes:
        """The digests beside the way from a partition to the top, joined, from the bottom up."""
        node, found = PARTITIONS + number, []
        while node > 1:
            found.append(self._digest(node ^ 1))
            node >>= 1
        return b"".join(found)

    def _digest(self, node: int) -> bytes:
        return self._nodes[node * DIGEST_BYTES : (node + 1) * DIGEST_BYTES]


def top_by_path(number: int, entries: bytes, beside: bytes) -> bytes:
    """The top over partition `number` with these entries, where `beside` is its path."""
    found = leaf_digest(entries)
    for level in range(LEVELS):
        other = beside[level * DIGEST_BYTES : (level + 1) * DIGEST_BYTES]
        found = inner_digest(other, found) if number >> level & 1 else inner_digest(found, other)
    return found


def _find(entries: bytes, head: bytes) -> int:
    """Where the first entry begins that starts with `head`; -1 if none does."""
    at = entries.find(head)
    while at >= 0 and at % ENTRY_BYTES:  # by chance, within an entry
        at = entries.find(head, at + 1)
    return at


def _position(entries: bytes, entry: bytes) -> int:
    """Where `entry` belongs among the sorted entries: a multiple of `ENTRY_BYTES`."""
    low, high = 0, len(entries) // ENTRY_BYTES
    while low < high:
        middle = (low + high) // 2
        at = middle * ENTRY_BYTES
        if entries[at : at + ENTRY_BYTES] < entry:
            low = middle + 1
        else:
            high = middle
    return low * ENTRY_BYTES


@cache
def _empty_nodes() -> bytes:
    """All nodes of a tree without keys: one digest per level, computed once per process."""
    level = leaf_digest(b"")
    levels = [level * PARTITIONS]
    width = PARTITIONS
    while width > 1:
        width //= 2
        level = inner_digest(level, level)
        levels.append(level * width)
    return bytes(DIGEST_BYTES) + b"".join(reversed(levels))
