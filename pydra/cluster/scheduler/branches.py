# SPDX-License-Identifier: MIT
"""Units in and out of their branches, by slices; nothing here knows slots or time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import attrs
import msgspec

from pydra.cluster.scheduler.crews import Asker, Batch, Branch, Chunk
from pydra.cluster.scheduler.unit_values import UnitsAsked
from pydra.model.instance import Payload
from pydra.model.options import Guarantee
from pydra.model.unit import DIGEST_SIZE, digest_at

PACES = 64
"""Branches without units whose pace is known."""


@attrs.frozen
class Cut:
    """Columns of a batch to be."""

    indexes: list[int]
    args: list[bytes]
    digests: bytes
    blobs: dict[int, Payload]
    time_limit: float
    size: int
    guarantee: Guarantee


def add(asker: Asker, branch: Branch, asked: UnitsAsked, guarantee: Guarantee = Guarantee.NONE) -> None:
    """
    Queue what is not outstanding yet.

    What is in a batch without arguments gets them, so that it can be queued again.
    """
    outstanding, indexes = branch.outstanding, asked.indexes
    before = len(outstanding)
    if outstanding.isdisjoint(indexes):
        outstanding.update(indexes)
        if len(outstanding) == before + len(indexes):
            chunk = Chunk(indexes, asked.args, asked.digests, asked.blobs, asked.time_limit)
            chunk.guarantee = guarantee
            _queue(asker, branch, chunk)
            return
        outstanding.difference_update(indexes)
    fresh = []
    lacking = {
        batch.indexes[place]: (batch, place) for batch in branch.batches.values() for place in batch.lacking
    }
    for place, index in enumerate(indexes):
        if index not in outstanding:
            outstanding.add(index)
            fresh.append(place)
        elif index in lacking:
            batch, at = lacking.pop(index)
            batch.lacking.discard(at)
            batch.args[at] = asked.args[place]
            batch.time_limit = asked.time_limit
            if place in asked.blobs:
                batch.blobs = {**batch.blobs, at: asked.blobs[place]}
    if fresh:
        chunk = _picked(asked, fresh)
        chunk.guarantee = guarantee
        _queue(asker, branch, chunk)


def put_aside(asker: Asker, branch: Branch, asked: UnitsAsked, place: int, guarantee: Guarantee) -> None:
    """One of these units is outstanding, and is not queued before ``call_back``."""
    chunk = _picked(asked, [place])
    chunk.guarantee = guarantee
    index, size = chunk.indexes[0], len(chunk.args[0])
    branch.aside[index] = chunk
    branch.outstanding.add(index)
    branch.size += size
    asker.size += size
    asker.units += 1


def call_back(branch: Branch, index: int) -> bool:
    """A unit that was put aside, if it was, is queued now, first in line."""
    chunk = branch.aside.pop(index, None)
    if chunk is None or branch.asker is None:
        return False
    shrink(branch, len(chunk.args[0]))
    _queue(branch.asker, branch, chunk, is_first=True, is_new=False)
    return True


def drop_aside(branch: Branch, index: int) -> bool:
    """A unit that was put aside, if it was, never runs; nobody waits for it."""
    chunk = branch.aside.pop(index, None)
    if chunk is None:
        return False
    shrink(branch, len(chunk.args[0]))
    settle(branch, [index])
    return True


def retake(asker: Asker, branch: Branch, batch: Batch) -> None:
    """The unit of a batch that runs for nobody is one of this branch, which is asked for again."""
    other, [index] = batch.branch, batch.indexes
    del other.batches[batch.attempt]
    other.outstanding.discard(index)
    other.size -= batch.size
    branch.batches[batch.attempt] = batch
    branch.outstanding.add(index)
    branch.size += batch.size
    asker.size += batch.size
    asker.units += 1
    batch.branch = branch


def cut(branch: Branch, count: int, most: int) -> Cut:
    """
    Take up to ``count`` queued units, and no more than ``most`` bytes of arguments, but at least one.

    All of them have the same time limit; what a worker was lost with comes alone.
    """
    chunks = branch.chunks
    time_limit, guarantee = chunks[0].time_limit, chunks[0].guarantee
    count = 1 if chunks[0].is_solo or guarantee else count
    indexes: list[int] = []
    args: list[bytes] = []
    digests: list[bytes] = []
    blobs: dict[int, Payload] = {}
    size = 0
    while chunks and len(indexes) < count:
        chunk = chunks[0]
        if indexes and (chunk.is_solo or chunk.time_limit != time_limit or chunk.guarantee):
            break
        at, wanted = chunk.at, count - len(indexes)
        some = chunk.args[at : at + wanted]
        some_size = sum(map(len, some))
        is_full = size + some_size > most
        if is_full:
            fitting = bisect_right(list(accumulate(map(len, some))), most - size)
            some = some[: fitting or (0 if indexes else 1)]
            some_size = sum(map(len, some))
        end = at + len(some)
        if chunk.blobs:
            blobs.update(_shifted(chunk.blobs, at, end, len(indexes)))
        indexes += chunk.indexes[at:end]
        args += some
        digests.append(chunk.digests[at * DIGEST_SIZE : end * DIGEST_SIZE])
        size += some_size
        chunk.at = end
        if end == len(chunk.indexes):
            chunks.popleft()
        if is_full:
            break
    branch.queued -= len(indexes)
    branch.crew.queued -= len(indexes)
    if not branch.queued:
        branch.crew.ready.discard(branch)
    return Cut(indexes, args, b"".join(digests), blobs, time_limit, size, guarantee)


def settle(branch: Branch, indexes: Sequence[int]) -> None:
    """These have results, or never will have: nobody waits for them any more."""
    before = len(branch.outstanding)
    branch.outstanding.difference_update(indexes)
    if branch.asker is not None:
        branch.asker.units -= before - len(branch.outstanding)
    if branch.losses:
        for index in indexes:
            branch.losses.pop(index, None)


def shrink(branch: Branch, size: int) -> None:
    """So many bytes of arguments are kept no more."""
    branch.size -= size
    if branch.asker is not None:
        branch.asker.size -= size


def put_back(branch: Branch, batch: Batch, is_solo: bool, is_aside: bool = False) -> None:
    """
    What has no result is queued again, first in line, if somebody waits for it and it has arguments.

    With ``is_aside`` its one unit is put aside instead.
    """
    del branch.batches[batch.attempt]
    shrink(branch, batch.size)
    left = range(batch.done, len(batch.indexes))
    if branch.asker is None:
        settle(branch, batch.indexes[batch.done :])
        return
    if batch.lacking:
        settle(branch, [batch.indexes[place] for place in left if place in batch.lacking])
    kept = [place for place in left if batch.indexes[place] in branch.outstanding]
    if not kept:
        return
    chunk = Chunk(
        [batch.indexes[place] for place in kept],
        [batch.args[place] for place in kept],
        _digests(batch.digests, kept),
        {new: batch.blobs[place] for new, place in enumerate(kept) if place in batch.blobs},
        batch.time_limit,
        is_solo,
        guarantee=batch.guarantee,
    )
    if is_aside:
        branch.aside[chunk.indexes[0]] = chunk
        shrink(branch, -len(chunk.args[0]))
    else:
        _queue(branch.asker, branch, chunk, is_first=True, is_new=False)


def drop_queued(branch: Branch) -> None:
    """What is queued, or put aside, never runs."""
    for index in list(branch.aside):
        drop_aside(branch, index)
    for chunk in branch.chunks:
        shrink(branch, sum(map(len, chunk.args[chunk.at :])))
        settle(branch, chunk.indexes[chunk.at :])
    branch.chunks.clear()
    branch.crew.queued -= branch.queued
    branch.queued = 0
    branch.crew.ready.discard(branch)


def part(branch: Branch) -> None:
    """Its asker waits no more; what is in batches goes on, and what is queued never runs."""
    drop_queued(branch)
    asker = branch.asker
    if asker is not None:
        asker.units -= len(branch.outstanding)
        asker.size -= branch.size
        del asker.branches[branch.name]
        branch.asker = None
    clear(branch)


def join(branch: Branch, asker: Asker) -> None:
    """The asker waits for what is outstanding of it."""
    branch.asker = asker
    asker.branches[branch.name] = branch
    asker.units += len(branch.outstanding)
    asker.size += branch.size


def clear(branch: Branch) -> None:
    """Forget a branch of which nothing is outstanding, but for its pace."""
    crew = branch.crew
    if branch.outstanding or branch.batches:
        return
    if crew.branches.get(branch.name) is branch:
        del crew.branches[branch.name]
        if branch.unit_s is not None:
            crew.paces.pop(branch.name, None)
            crew.paces[branch.name] = branch.unit_s
            if len(crew.paces) > PACES:
                del crew.paces[next(iter(crew.paces))]
    if branch.asker is not None:
        branch.asker.branches.pop(branch.name, None)


def part_with_others(branch: Branch, asked: UnitsAsked) -> None:
    """
    Batches from before stay, unless they have other arguments than these: those run for nobody.

    Their results are stale then, or they could take the place of those that are asked for now.
    """
    wanted = {index: digest_at(asked.digests, place) for place, index in enumerate(asked.indexes)}
    for batch in list(branch.batches.values()):
        places = range(batch.done, len(batch.indexes))
        if all(
            wanted.get(batch.indexes[place], digest) == digest
            for place in places
            for digest in [digest_at(batch.digests, place)]
        ):
            continue
        other = Branch(branch.crew, branch.name, is_stale=True)
        left = batch.indexes[batch.done :]
        branch.outstanding.difference_update(left)
        other.outstanding.update(left)
        other.batches[batch.attempt] = branch.batches.pop(batch.attempt)
        other.size = batch.size
        branch.size -= batch.size
        batch.branch = other


def take_out(branch: Branch, batch: Batch) -> bool:
    """
    Units of a batch that another master gave out are not queued any more; their arguments are the batch's.

    False, and nothing changed, if one of them is in another batch, or was asked for with other arguments.
    """
    places = {batch.indexes[place]: place for place in range(batch.done, len(batch.indexes))}
    queued = branch.outstanding.intersection(places).difference(branch.aside)
    found: list[tuple[Chunk, list[int]]] = []
    for chunk in branch.chunks:
        # They were given out in their order, and so stand first in line, in most cases.
        if not queued:
            break
        here = []
        for at in range(chunk.at, len(chunk.indexes)):
            if chunk.indexes[at] in queued:
                here.append(at)
                queued.remove(chunk.indexes[at])
                if not queued:
                    break
        for at in here:
            place = places[chunk.indexes[at]]
            if _digests(chunk.digests, [at]) != _digests(batch.digests, [place]):
                return False
        if here:
            found.append((chunk, here))
    if queued:
        return False
    for chunk, here in found:
        for at in here:
            place = places[chunk.indexes[at]]
            batch.args[place] = chunk.args[at]
            batch.size += len(chunk.args[at])
            batch.lacking.discard(place)
            batch.time_limit = chunk.time_limit
            if at in chunk.blobs:
                batch.blobs = {**batch.blobs, place: chunk.blobs[at]}
        _remove(branch, chunk, set(here))
    before = len(branch.outstanding)
    branch.outstanding.update(places)
    if branch.asker is not None:
        branch.asker.units += len(branch.outstanding) - before
    return True


def _remove(branch: Branch, chunk: Chunk, gone: set[int]) -> None:
    """These positions of a chunk are not queued any more."""
    branch.queued -= len(gone)
    branch.crew.queued -= len(gone)
    end = chunk.at + len(gone)
    if max(gone) < end < len(chunk.indexes):
        chunk.at = end
        return
    kept = [at for at in range(chunk.at, len(chunk.indexes)) if at not in gone]
    place = branch.chunks.index(chunk)
    del branch.chunks[place]
    if kept:
        asked = UnitsAsked(
            branch.crew.instance, None, branch.name, chunk.indexes, chunk.args, chunk.digests, chunk.blobs
        )
        rest = _picked(asked, kept)
        rest.time_limit, rest.is_solo, rest.guarantee = chunk.time_limit, chunk.is_solo, chunk.guarantee
        branch.chunks.insert(place, rest)
    if not branch.queued:
        branch.crew.ready.discard(branch)


def _queue(asker: Asker, branch: Branch, chunk: Chunk, is_first: bool = False, is_new: bool = True) -> None:
    count, size = len(chunk.indexes), sum(map(len, chunk.args))
    if is_first:
        branch.chunks.appendleft(chunk)
    else:
        branch.chunks.append(chunk)
    branch.queued += count
    branch.crew.queued += count
    branch.size += size
    asker.size += size
    if is_new:
        asker.units += count
    branch.crew.ready.add(branch.depth, branch)


def part_of(asked: UnitsAsked, places: Sequence[int]) -> UnitsAsked:
    """The units at these positions."""
    chunk = _picked(asked, places)
    return msgspec.structs.replace(
        asked, indexes=chunk.indexes, args=chunk.args, digests=chunk.digests, blobs=chunk.blobs
    )


def _picked(asked: UnitsAsked, places: Sequence[int]) -> Chunk:
    return Chunk(
        [asked.indexes[place] for place in places],
        [asked.args[place] for place in places],
        _digests(asked.digests, places),
        {new: asked.blobs[place] for new, place in enumerate(places) if place in asked.blobs}
        if asked.blobs
        else {},
        asked.time_limit,
    )


def _digests(digests: bytes, places: Sequence[int]) -> bytes:
    return b"".join([digest_at(digests, place) for place in places])


def _shifted(blobs: Mapping[int, Payload], at: int, end: int, by: int) -> dict[int, Payload]:
    """The blobs of positions from ``at`` to before ``end``, which come after ``by`` others."""
    return {place - at + by: blob for place, blob in blobs.items() if at <= place < end}
