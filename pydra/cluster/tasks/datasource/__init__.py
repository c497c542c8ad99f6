# SPDX-License-Identifier: MIT
"""
Where a parallel task takes its items from.

What an author may write: nothing (one item, None), any iterable (its items; those of a text are its
characters), a callable (what it returns), or a tuple of a callable and its arguments, which may be such
tuples themselves: ``(range, 10)``, ``(map, str.upper, (open, "/etc/hosts"))``. What a callable returns is
iterated if it can be; anything else is a single item. Nothing is read before it is wanted.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def validated(datasource: object) -> tuple[object, ...]:
    """The datasource as a tuple whose first is callable and the others its arguments."""
    if isinstance(datasource, tuple) and _is_opened_by_call(datasource):
        return datasource
    if callable(datasource) and not _is_iterable(datasource):
        return (datasource,)
    return (each, datasource)


def each(items: object) -> Iterable[object]:
    """The items of an iterable; of anything else, itself as the only one."""
    return items if _is_iterable(items) else (items,)  # type: ignore[return-value]  # it has looked


def unpack(datasource: object) -> tuple[Iterator[object], int | None]:
    """The items, to be drawn one by one, and how many they are if that is known."""
    items = each(_called(validated(datasource)))
    return iter(items), _length(items)


def _called(datasource: tuple[object, ...]) -> object:
    selector: Callable[..., object] = datasource[0]  # type: ignore[assignment]  # validated
    arguments = (
        _called(one) if isinstance(one, tuple) and _is_opened_by_call(one) else one for one in datasource[1:]
    )
    return selector(*arguments)


def _is_opened_by_call(datasource: tuple[object, ...]) -> bool:
    return bool(datasource) and callable(datasource[0])


def _is_iterable(value: object) -> bool:
    """True if it says so by its class; one whose iteration then fails is a failing datasource."""
    kind = type(value)
    return hasattr(kind, "__iter__") or hasattr(kind, "__getitem__")


def _length(items: object) -> int | None:
    try:
        return len(items)  # type: ignore[arg-type]  # most have no length
    except (TypeError, OverflowError):
        return None
