"""How many of n nodes may be faulty, and how many make a quorum; imports nothing of ours.

Knows arithmetic only.  Refuses to know who the nodes are.
Follows: Castro and Liskov (OSDI '99) section 2 for f; Bracha and Toueg for the quorum of any n:
two quorums must share at least one correct node, which 2f+1 gives only where n = 3f+1.
"""


def faults(n: int, ratio_percent: int = 33) -> int:
    """The number of faulty nodes that `n` nodes bear: the floor of (n-1)/3, or less by choice.

    `ratio_percent` caps it at that share of n; a hundredth below a third never lowers the bound of
    a cluster that a person would build (n < 100).
    """
    if n < 1:
        raise ValueError("a cluster has at least one node")
    return min((n - 1) // 3, n * ratio_percent // 100)


def quorum(n: int, f: int) -> int:
    """The smallest count such that two such sets share a correct node: the ceiling of (n+f+1)/2."""
    if not 0 <= 3 * f < n:
        raise ValueError("n nodes bear fewer than n/3 faulty ones")
    return (n + f + 2) // 2


def witnesses(n: int, f: int) -> int:
    """How many others meet every quorum in a correct node, for one who has forgotten its part.

    So many may be all others: then nobody else may be off, or have forgotten too.
    """
    return n - quorum(n, f) + f + 1
