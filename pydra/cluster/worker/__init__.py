# SPDX-License-Identifier: MIT
"""
What runs inside the sandbox: small, few imports, no reactor.

``main`` says READY and takes what it is sent; ``channel`` carries frames; ``loader`` is the one file that
imports user code; ``runner`` runs a task, with ``reporter`` for its progress and ``output`` for what it
writes; ``failure`` puts an exception into words. ``describe`` tells what is in a package, ``forms`` what
a form declares, and ``validate`` puts arguments through it.
"""
