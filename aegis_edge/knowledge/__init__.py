"""The replicated state machine: what agreed operations do to the knowledge base.

Floor 2.  Pure: the same batches give the same outcomes and the same state root on every node, on
every version of Python, SQLite and cbor2.  Where the state lies is behind a small port.
"""
