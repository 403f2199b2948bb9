"""Keys that cannot be lost: passphrase, escrow, kit, show, rotate.

The order of every change is such that a kill strands nothing: what opens the newest snapshot is there before and after.
"""
