"""Who exists: node ids, signed node records, the genesis of a cluster, the dial plan.

Knows keys, records, addresses as text, and when to try which member again.
Refuses to know sockets, clocks and dice: ticks and randomness are arguments.
"""
