"""Floor 0, crypto: bytes in, bytes out.

Knows how to sign, to seal, to shake hands and to ratchet; entropy is always an argument.
Refuses to know a clock, a socket, a file, a source of randomness, or what the bytes mean.
Modules: `sodium` (the primitives), `handshake` (Noise rev 34), `ratchet` (Signal Double Ratchet).
"""
