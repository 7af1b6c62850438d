"""Tuning that cannot be abused: what a rule's hits are made of, and exclusions that no attacker can step into.

``fields`` says who chooses each field's value, ``survey`` counts the hits, ``propose`` makes exclusions of what is the
same in many of them, ``twins`` makes hostile events that look as much like a hit as an attacker can make them, and
``tune`` replays each proposal and refuses those that would hide any.
"""
