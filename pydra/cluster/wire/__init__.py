# SPDX-License-Identifier: MIT
"""
What travels, and nothing about why.

Master and node: ``messages`` are typed and travel in batches, one a reactor turn, over ``link``
(Perspective Broker, guarded by ``broker``); bytes travel over ``streams`` (the bulk connection). Either side
may send at any time after both said hello; the master dials (``dial``) and the node accepts (``listen``). A
``connection`` of the pinned peer, for control and for bulk, makes a ``pair``, which is up or down as one.

Node and worker: ``frames`` over one inherited socketpair. ``payload`` is the MessagePack of arguments and
results.
"""
