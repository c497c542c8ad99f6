# SPDX-License-Identifier: MIT
"""
The command ``pydra``: one file per noun.

``main`` finds commands by name and loads them when they run, ``command`` gives each its options,
``connection`` finds the master, ``output`` decides between table and JSON, ``failures`` turns what went wrong
into an exit code. ``run`` submits, ``instances`` and ``status`` ask about task instances, ``logs`` reads
their lines, ``follow`` and ``progress`` show one while it runs, ``cluster`` and ``local_cluster`` start and
end a cluster on this machine.
"""
