# SPDX-License-Identifier: MIT
"""
The node daemon: a machine's part in the cluster.

``main`` is the command line and ``service`` makes everything. The master says (through ``master_link``) what
to run; ``units`` holds what runs, one ``unit_run`` an attempt, each in a worker of its own; ``package_cache``
brings the code; ``outbox`` keeps outcomes until the master says that they are recorded; ``task_log`` limits
what tasks write; ``information`` describes the machine.
"""
