"""The pure heart of orderheal: values and decisions, standard library only.

Nothing here reads a clock, the network or the environment. Every datetime is aware and is *rule time* (law 12)
unless its name ends in ``_db``; ``now`` is always handed in.
"""
