# SPDX-License-Identifier: MIT
"""
What the master remembers: a Django app (label ``pydra_store``) behind ``interfaces.Store``.

The reactor asks, threads answer. ``store`` is what the master holds; ``writer`` is the one thread that
commits whatever is pending as one transaction, ``reader`` the two that query, each with a connection of its
own (``database``); their answers return through ``callFromThread`` (``threads``). ``changes`` is the SQL of
what may be committed, ``queries`` of what may be asked, ``rows`` the form of values in the database,
``unit_changes`` and ``unit_queries`` the same of work units,
``models`` and ``migrations`` the schema, ``settings`` Django's settings; ``lock`` keeps a second master out.
``blobs`` keeps payloads that are too large for a row, as files.
"""
