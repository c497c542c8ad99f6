# SPDX-License-Identifier: MIT
"""
The master daemon: it queues, schedules and remembers.

``main`` is the command line and ``service`` makes everything. ``dispatcher`` feeds the scheduler and carries
out its instructions in ``rounds``: persist, then send, then publish. ``roster`` knows the nodes and
``node_link`` speaks with one. ``event_log`` numbers what happened and wakes who waits for it. ``commands`` is
what a controller may ask.

Rooms of their own have ``units`` (what nodes and main workers ask and tell of work units), ``sessions`` (a
``speaker`` for each socket, a ``held_session`` with its ``units`` for each instance), ``packages`` (the
``library`` looks after ``TASKS_DIR``, the ``describer`` asks the sandbox what is in a package and whether
arguments are good), ``payloads`` (what is too large to travel inline) and ``logs`` (what tasks wrote).
"""
