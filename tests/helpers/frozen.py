"""Garbage collection: what a server has imported lives on, and its forks need not look through it.

A collection would also write into every page that the forks share.
"""

import gc

gc.collect()
gc.freeze()
