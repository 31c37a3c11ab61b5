"""The simulator: the same cores as in production, with seeded time, network, disks and enemies.

No Trio and no threads: one heap of (tick, serial, action) and one seed, so that a run can be
repeated to the last byte.  `scripts/sim --help` runs it; the parts, from the bottom:

- `plan`       what a seed means: the cluster, its faults, its liars; what shrinking takes away
- `signing`    signatures that cost a keyed hash, and that nobody can forge
- `network`    links that lose, delay, double, reorder, partition, and come and go
- `disk`       what survives a crash: whatever was synced, and a part of the write in flight
- `node`       performs effects in order, as the shell does: group commit, persist before send
- `byzantine`  vices: each bends what a real replica sends, or says things of its own
- `clients`    callers that write, read and compare-and-set, and remember when
- `linearizability`, `checkers`   the judges, none of which imports the code that it judges
- `world`      puts it together and runs it
- `canaries`   replicas broken on purpose, one per mistake, that the judges must catch
- `shrink`     the smallest part of a failing plan that still fails
"""
