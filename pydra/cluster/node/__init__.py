# SPDX-License-Identifier: MIT
"""
The node daemon: a machine's part in the cluster.

``main`` is the command line and ``service`` makes everything. The master says (through ``master_link``) what
to run; ``units`` holds the roots that run, one ``unit_run`` an attempt, and ``hired_workers`` those that run
units, one ``hired_worker`` each; both get what they need from their ``surroundings``. ``askers`` keep what
workers asked for until they have the results. ``package_cache`` brings the code.

``outbox`` keeps outcomes and results until the master says that they are recorded, in a ``journal`` that
``journal_writer`` writes in a thread; ``delivery`` sends in order, large parts first. ``attempt_log`` and
``task_log`` limit what tasks write, ``log_delivery`` brings it to the master. ``told`` reads what workers say
of failures; ``information`` describes the machine. Long results wait for ``room``, are kept in a ``spool``
and go ``ahead`` of their end; ``exclusive`` knows until when what is exclusive may live.
"""
