# SPDX-License-Identifier: MIT
"""
What runs where and when, decided without touching anything.

    inputs -> tables -> instructions

The master says what happened (``inputs``: an instance was submitted, a node is ready, a heartbeat came, an
attempt ended, somebody cancels, time passed), all of one reactor turn in one ``Scheduler.feed(now, inputs)``.
The scheduler answers what is to be done (``instructions``: dispatch, stop, kill, requeue, finish, discard),
in the order in which it is to be done; the master stores it, sends it and publishes it.
``Scheduler.wake_at()`` says when to come back with ``TimePassed``. Time is an argument: seconds of any clock
that does not go backwards.

``lifecycle`` is the table of status changes, ``state`` holds the tables, ``nodes`` one node and its slots,
``queue`` what waits, ``placement`` where it may go, ``deadlines`` what happens if nobody says anything,
``machine`` takes the inputs, ``roots`` decides about instances, ``node_rules`` about nodes, ``filling`` about
free slots, ``views`` is what may be looked at, ``invariants`` what holds after every feed.

An instance is here as long as it is not final. Its root task is one unit; further units of an instance will
be further inputs (in batches), further tables keyed by attempt, and the same instructions.
"""
