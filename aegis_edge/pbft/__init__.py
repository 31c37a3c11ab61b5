"""Agreement, as a pure state machine: PBFT with signatures (Castro and Liskov, OSDI '99).

Start reading at `events` (what goes in and out), then `replica`.
"""
