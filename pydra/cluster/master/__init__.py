# SPDX-License-Identifier: MIT
"""
The master daemon: it queues, schedules and remembers.

``main`` is the command line and ``service`` makes everything. ``dispatcher`` feeds the scheduler and carries
out its instructions: persist, then send, then publish. ``roster`` knows the nodes, ``node_link`` speaks with
one. ``package_library`` looks after ``TASKS_DIR``, ``describe`` asks the sandbox what is in a package and
whether arguments are good. ``sessions`` has the instances whose units come from clients: a
``session_speaker`` for each socket, a ``held_session`` with its ``session_units`` for each instance.
``event_log`` numbers what happened and wakes who waits for it; ``task_logs`` keeps what tasks wrote.
``commands`` is what a controller may ask.
"""
