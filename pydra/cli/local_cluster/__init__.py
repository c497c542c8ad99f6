# SPDX-License-Identifier: MIT
"""
A whole cluster on this machine: one master and some nodes, as processes, in one directory.

``layout`` names what is in the directory, ``record`` remembers the daemons in it, ``daemon`` starts, watches
and ends one process, ``settings_text`` writes their settings, ``start`` and ``stop`` do it all in order.
Nothing of a daemon is imported: it is started like any other program and says in a file that it listens.
"""
