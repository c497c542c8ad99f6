# SPDX-License-Identifier: MIT
"""
Arguments checked by the description of a form alone, with the outcome that Django's fields have.

It serves the seven plain kinds of field; a form with ``needs_sandbox`` is checked by its own code in a
sandbox.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from decimal import Decimal, DecimalException

from pydra.errors import InternalError
from pydra.model.package import Form, FormField

UNKNOWN = "This task takes no argument of this name."

DATE_FORMATS = (
    "%Y-%m-%d",
    "%m/%d/%Y",
    "%m/%d/%y",
    "%b %d %Y",
    "%b %d, %Y",
    "%d %b %Y",
    "%d %b, %Y",
    "%B %d %Y",
    "%B %d, %Y",
    "%d %B %Y",
    "%d %B, %Y",
)
"""How a date may be written, the first that fits."""

_MESSAGES = {
    "required": "This field is required.",
    "min_value": "Ensure this value is greater than or equal to %(limit_value)s.",
    "max_value": "Ensure this value is less than or equal to %(limit_value)s.",
    "invalid_choice": "Select a valid choice. %(value)s is not one of the available choices.",
    "null_characters_not_allowed": "Null characters are not allowed.",
}

_PLURALS = {
    "min_length": "Ensure this value has at least %(limit_value)d character{s} (it has %(show_value)d).",
    "max_length": "Ensure this value has at most %(limit_value)d character{s} (it has %(show_value)d).",
    "max_digits": "Ensure that there are no more than %(max)s digit{s} in total.",
    "max_decimal_places": "Ensure that there are no more than %(max)s decimal place{s}.",
    "max_whole_digits": "Ensure that there are no more than %(max)s digit{s} before the decimal point.",
}

_INVALID = {"integer": "Enter a whole number.", "date": "Enter a valid date."}

_ZERO_FRACTION = re.compile(r"\.0*\s*$")


class _Invalid(Exception):
    """The messages of one field."""

    def __init__(self, *messages: str) -> None:
        self.messages = list(messages)
        super().__init__(*messages)


def validate(form: Form, data: dict[str, object]) -> tuple[dict[str, object], dict[str, list[str]]]:
    """
    The cleaned arguments, and what is wrong by argument; with any error the arguments are not to be used.

    `InternalError` if the form has what only its own code can check.
    """
    if form.needs_sandbox:
        raise InternalError("This form can be checked by its own code only.")
    names = {field.name for field in form.fields}
    errors: dict[str, list[str]] = {name: [UNKNOWN] for name in data if name not in names}
    cleaned: dict[str, object] = {}
    for field in form.fields:
        try:
            cleaned[field.name] = _CLEAN[field.kind](field, data.get(field.name))
        except _Invalid as fault:
            errors[field.name] = fault.messages
        except KeyError:
            raise InternalError(f"A field of kind {field.kind!r} is checked by its own code only.") from None
    return cleaned, errors


def _is_empty(value: object) -> bool:
    return value is None or value in ("", [], (), {})  # as Django, which compares: 0 and False are values


def _message(field: FormField, code: str, count: int | None = None, **params: object) -> str:
    """The message of a code: the form's own wording, or Django's."""
    wording = field.messages.get(code)
    if wording is None:
        if code == "invalid":
            wording = _INVALID.get(field.kind, "Enter a number.")
        elif code in _PLURALS:
            wording = _PLURALS[code].replace("{s}", "" if count == 1 else "s")
        else:
            wording = _MESSAGES[code]
    if not params:
        return wording
    try:
        return wording % params
    except (KeyError, TypeError, ValueError):
        return wording  # the author's wording has marks that mean nothing


def _required(field: FormField) -> None:
    if field.required:
        raise _Invalid(_message(field, "required"))


def _number(field: FormField, value: object, convert: Callable[[object], object]) -> object:
    """A number, or None for nothing."""
    if _is_empty(value):
        _required(field)
        return None
    try:
        return convert(value)
    except (ValueError, TypeError, OverflowError, DecimalException):
        raise _Invalid(_message(field, "invalid", value=value)) from None


def _bounds(field: FormField, value: int | float | Decimal) -> list[str]:
    """What the bounds say; Django asks for the upper one first."""
    messages = []
    exact = (lambda bound: Decimal(repr(bound))) if isinstance(value, Decimal) else (lambda bound: bound)
    if field.maximum is not None and value > exact(field.maximum):
        messages.append(
            _message(field, "max_value", limit_value=field.maximum, show_value=value, value=value)
        )
    if field.minimum is not None and value < exact(field.minimum):
        messages.append(
            _message(field, "min_value", limit_value=field.minimum, show_value=value, value=value)
        )
    return messages


def _integer(field: FormField, given: object) -> object:
    value = _number(field, given, lambda one: int(_ZERO_FRACTION.sub("", str(one))))
    return _within(value, _bounds(field, value) if isinstance(value, int) else [])


def _float(field: FormField, given: object) -> object:
    value = _number(field, given, lambda one: float(one))  # type: ignore[arg-type]  # TypeError is an answer
    if isinstance(value, float) and not math.isfinite(value):
        raise _Invalid(_message(field, "invalid"))
    return _within(value, _bounds(field, value) if isinstance(value, float) else [])


def _decimal(field: FormField, given: object) -> object:
    value = _number(field, given, lambda one: Decimal(str(one)))
    if not isinstance(value, Decimal):
        return value
    if not value.is_finite():
        raise _Invalid(_message(field, "invalid", value=value))
    return _within(value, [*_bounds(field, value), *_digits(field, value)])


def _digits(field: FormField, value: Decimal) -> list[str]:
    """What Django's DecimalValidator says: the first of its three limits that is broken."""
    _, digit_tuple, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    decimals = max(0, -exponent)
    digits = max(len(digit_tuple), decimals)
    if exponent > 0 and digit_tuple != (0,):
        digits += exponent
    limits: list[tuple[str, int, int | None]] = [
        ("max_digits", digits, field.max_digits),
        ("max_decimal_places", decimals, field.decimal_places),
    ]
    if field.max_digits is not None and field.decimal_places is not None:
        limits.append(("max_whole_digits", digits - decimals, field.max_digits - field.decimal_places))
    for code, count, limit in limits:
        if limit is not None and count > limit:
            return [_message(field, code, limit, max=limit, value=value)]
    return []


def _within(value: object, messages: list[str]) -> object:
    if messages:
        raise _Invalid(*messages)
    return value


def _boolean(field: FormField, given: object) -> object:
    if isinstance(given, str):
        given = {"true": True, "false": False}.get(given.lower(), given)
    value = bool(given)
    if not value:
        _required(field)
    return value


def _text(field: FormField, given: object) -> object:
    value: object = given
    if not _is_empty(given):
        value = str(given)
        if field.strip:
            value = str(value).strip()
    if _is_empty(value):
        _required(field)
        return field.empty_value
    text = str(value)
    messages = []
    if field.min_length is not None and len(text) < field.min_length:
        messages.append(_length(field, "min_length", field.min_length, text))
    if field.max_length is not None and len(text) > field.max_length:
        messages.append(_length(field, "max_length", field.max_length, text))
    if "\x00" in text:
        messages.append(_message(field, "null_characters_not_allowed", value=text))
    return _within(text, messages)


def _length(field: FormField, code: str, limit: int, text: str) -> str:
    return _message(field, code, limit, limit_value=limit, show_value=len(text), value=text)


def _choice(field: FormField, given: object) -> object:
    if _is_empty(given):
        _required(field)
        return ""
    value = str(given)
    if all(value != key for key, _ in field.choices):
        raise _Invalid(_message(field, "invalid_choice", value=value))
    return value


def _date(field: FormField, given: object) -> object:
    if _is_empty(given):
        _required(field)
        return None
    if isinstance(given, datetime.datetime):
        return given.date()
    if isinstance(given, datetime.date):
        return given
    text = given.strip() if isinstance(given, str) else ""
    for form in DATE_FORMATS:
        try:
            return datetime.datetime.strptime(text, form).date()  # noqa: DTZ007 - a date has no zone
        except (ValueError, TypeError):
            continue
    raise _Invalid(_message(field, "invalid"))


_CLEAN: dict[str, Callable[[FormField, object], object]] = {
    "integer": _integer,
    "float": _float,
    "decimal": _decimal,
    "boolean": _boolean,
    "text": _text,
    "choice": _choice,
    "date": _date,
}
