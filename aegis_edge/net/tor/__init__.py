"""Tor, from below: its control port, its SOCKS port, its levels, and a tor that the node owns.

Knows one tor at a time, as a program of somebody else's that may hang, lie, restart or be old.
Refuses to know links and members, and any way to the world that does not lead through tor: names
are never looked up, and only onion addresses are dialled.

    errors     what can go wrong, with the fix
    endpoint   where tor listens: on this host          reach      a stream to there
    lines      the grammar of the control protocol      control    one connection that speaks it
    auth       both ends prove who they are             facts      what a running tor says of itself
    socks      a stream to an onion service             service    commands for our own service
    levels     what each security level demands         vanguards  the second and third hops
    bootstrap  how far tor is on its way                skew       is this board's clock right?
    torrc      the settings of a dedicated tor          child      such a tor, owned by the node
    keeper     starts it again                          gateway    the way through any tor, kept up
    pinning    vanguards on a running tor               transport  the links' use of that way
    member     a node's services, and its keys to others
"""
