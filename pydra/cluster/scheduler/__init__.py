# SPDX-License-Identifier: MIT
"""
What runs where and when, decided without touching anything.

    inputs -> tables -> instructions

The master says what happened (``inputs``: an instance was submitted, a node is ready, a heartbeat came, an
attempt ended, somebody cancels, time passed), all of one reactor turn in one ``Scheduler.feed(now, inputs)``.
The scheduler answers what is to be done (``instructions``: dispatch, stop, kill, requeue, finish, discard,
and the words for units), in the order in which it is to be done; the master stores, sends and publishes it.
``Scheduler.wake_at()`` says when to come back with ``TimePassed``. Time is an argument: seconds of any clock
that does not go backwards.

``lifecycle`` is the table of status changes, ``state`` holds the tables, ``nodes`` one node and its slots,
``queue`` what waits, ``placement`` where it may go, ``deadlines`` what happens if nobody says anything,
``machine`` takes the inputs, ``roots`` decides about instances, ``node_rules`` about nodes, ``filling`` about
free slots, ``views`` is what may be looked at, ``invariants`` what holds after every feed.

An instance is here as long as it is not final. Its root task is one unit, with an attempt of its own.
Whatever units that asks for (``unit_values``) are a *branch* of its *crew* (``crews``, ``branches``), and run
in batches in hired workers, which are named by attempts too. An *asker*, who waits for units, lends its slot
to a further worker, so one slot is enough for any depth: the workers of a slot are a chain, and only the last
one that does not wait works. ``hiring`` is how workers come, go and are lost, ``serving`` feeds them batches,
``unit_rules`` takes asks and results, ``adoption`` what a node still has after a restart of the master,
``pausing`` stops an instance, ``hungry`` orders those that want more slots, and ``unit_invariants`` says what
holds of all this. Nothing is kept or done for each unit but slices of lists and one set of numbers.
"""
