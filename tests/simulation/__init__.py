# SPDX-License-Identifier: MIT
"""
The real scheduler, master and nodes on one clock, with faults that a seed decides.

``plan`` makes of a seed what the run is like, ``cluster`` joins the real parts, ``programs`` are what their
workers do, ``nemesis`` breaks things, ``checks`` knows what must hold, ``run`` does one seed. What is not
real are sockets, processes, disks and time.

``python -m tests.simulation --help`` runs seeds and planted bugs.
"""
