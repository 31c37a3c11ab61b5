"""Links to the other members: transports, WebSocket frames, and the tasks that drive sessions.

Knows sockets, deadlines, queues and back-off; Trio begins here.
Refuses to know what a message says: bytes come in, of peers that have proven who they are.
"""
