"""Floor 1, wire: bytes to meaning and back; bad input raises `WireError` and nothing else.

Knows what stands on a link and in a signature.  Refuses to know what a message is for, who is a
member, what time it is, and where bytes come from.  Every bound is checked before it allocates.
Modules: `codec` (deterministic CBOR), `messages` (the vocabulary), `envelope` (COSE_Sign1),
`records` (how messages lie in frames), `session` (a peer link: handshake, ratchet, padding).
"""
