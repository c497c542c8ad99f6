# SPDX-License-Identifier: MIT
"""
The small process that makes and ends sandboxes: standard library only, no network, no threads.

``messages`` is all that it can be asked; ``policy`` decides (pure) what a sandbox looks like; ``host``
finds what it is built on, ``slots`` leases uids, ``scratch`` owns directories, ``filling`` puts packages
in, ``spawning`` starts, ``loop`` does one thing after the other.
"""
