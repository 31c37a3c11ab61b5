"""Hostile bytes by the million for every decoder: `python -m tests.fuzz`, or scripts/fuzz.

Each input must end in a value or in the decoder's typed error, and leave no memory behind.
Everything follows from one seed; a finding prints the command that replays it.
"""
