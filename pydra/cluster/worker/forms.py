# SPDX-License-Identifier: MIT
"""
What a form declares, in plain words.

A field is told exactly or not at all: one that may behave otherwise than Django's own field of its kind
is ``other``, and a form with anything that only its own code can check ``needs_sandbox``. Django is
loaded by name, and only in workers that describe or validate: where ``work()`` runs, Django's one
configuration of a process is the author's.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from typing import Any

TEXT_LIMIT = 4096
"""Characters of a label, a help text, a message or an initial value."""

CHOICES_LIMIT = 1000
"""Choices of one field; a field with more is checked by its own code."""

HTML_LIMIT = 64 * 1024
"""Characters of a rendered form; a longer one is left out."""

_KINDS = {
    "IntegerField": "integer",
    "FloatField": "float",
    "DecimalField": "decimal",
    "BooleanField": "boolean",
    "CharField": "text",
    "ChoiceField": "choice",
    "DateField": "date",
}

_FORM_PARTS = (
    "__init__",
    "clean",
    "full_clean",
    "is_valid",
    "errors",
    "add_error",
    "add_prefix",
    "changed_data",
    "has_changed",
    "prefix",
    "_clean_fields",
    "_clean_form",
    "_post_clean",
    "_bound_items",
    "__getitem__",
)
"""What decides about arguments in a form; with any of them changed, only the form knows."""


def prepare_django() -> None:
    """Configure Django plainly if the author's code loaded it and did not configure it."""
    if "django" not in sys.modules:
        return
    settings = import_module("django.conf").settings
    if not settings.configured and not os.environ.get("DJANGO_SETTINGS_MODULE"):
        settings.configure(USE_I18N=False, LOGGING_CONFIG=None, INSTALLED_APPS=[])
    if not import_module("django.apps").apps.ready:
        import_module("django").setup()


def describe_form(form_class: Any) -> dict[str, object]:  # Any: Django's class, or something like it
    """A ``pydra.model.package.Form`` as a dict; what the form's own code raises is raised."""
    prepare_django()
    form = form_class()
    fields = getattr(form, "fields", None)
    if not isinstance(fields, dict):
        return {"fields": [], "needs_sandbox": True, "html": _html(form)}
    django = _django_form_class()
    plain = django is not None and isinstance(form, django)
    told = [describe_field(str(name), field, plain=plain) for name, field in fields.items()]
    needs_sandbox = (
        not plain
        or any(field["kind"] == "other" for field in told)
        or any(hasattr(form, f"clean_{name}") for name in fields)
        or any(_has_own_validators(field) for field in fields.values())
        or any(getattr(form_class, part, None) is not getattr(django, part, None) for part in _FORM_PARTS)
    )
    return {"fields": told, "needs_sandbox": needs_sandbox, "html": _html(form)}


def describe_field(name: str, field: Any, *, plain: bool) -> dict[str, object]:  # Any: as above
    """A ``pydra.model.package.FormField`` as a dict."""
    kind = _kind(field) if plain else "other"
    initial = getattr(field, "initial", None)
    if callable(initial):
        initial = initial()
    label = getattr(field, "label", None)
    told: dict[str, object] = {
        "name": name,
        "kind": kind,
        "label": text(label) if label else name.replace("_", " ").capitalize(),
        "help": text(getattr(field, "help_text", "")),
        "required": bool(getattr(field, "required", True)),
        "initial": None if initial is None else text(initial),
        "messages": {str(code): text(message) for code, message in _messages(field).items()},
    }
    if kind in ("integer", "float", "decimal"):
        told["minimum"], told["maximum"] = _number(field.min_value), _number(field.max_value)
        _tell_limits(told, field)
    if kind == "decimal":
        told["max_digits"], told["decimal_places"] = field.max_digits, field.decimal_places
    if kind == "text":
        told["min_length"], told["max_length"] = field.min_length, field.max_length
        told["strip"], told["empty_value"] = bool(field.strip), field.empty_value
    if kind == "choice":
        told["choices"] = _choices(field)
    return told


def text(value: object) -> str:
    """What is told to people: plain text of a bounded length."""
    return str(value)[:TEXT_LIMIT].encode("utf-8", "backslashreplace").decode()


def _kind(field: Any) -> str:  # Any: Django's field
    """The kind of a field that behaves exactly as Django's own; else ``other``."""
    fields = import_module("django.forms.fields")
    widgets = import_module("django.forms.widgets")
    kind = _KINDS.get(type(field).__name__, "other")
    if kind == "other" or type(field) is not getattr(fields, type(field).__name__):
        return "other"
    taking = type(field.widget).value_from_datadict
    expected = {"boolean": widgets.CheckboxInput, "choice": widgets.ChoiceWidget}.get(kind, widgets.Widget)
    if (
        taking is not expected.value_from_datadict
        or getattr(field.widget, "allow_multiple_selected", False)
        or vars(field).keys() & {"clean", "to_python", "validate", "run_validators"}
        or field.disabled
        or field.localize
        or list(field.empty_values) != list(fields.Field.empty_values)
    ):
        return "other"
    return kind if _is_plain(kind, field, fields) else "other"


def _is_plain(kind: str, field: Any, fields: Any) -> bool:  # Any: Django's field and module
    """True if the options of a field are all among those that we tell."""
    if kind in ("integer", "float", "decimal"):
        return field.step_size is None and all(_is_exact(one) for one in (field.min_value, field.max_value))
    if kind == "text":
        lengths = (field.min_length, field.max_length)
        return all(n is None or type(n) is int for n in lengths) and field.empty_value in ("", None)
    if kind == "choice":
        if not isinstance(field.choices, list):
            return False  # made anew at each look
        return len(_choices(field)) <= CHOICES_LIMIT and all(
            len(key) <= TEXT_LIMIT for key, _ in _choices(field)
        )
    if kind == "date":
        return list(field.input_formats) == list(fields.DateField.input_formats)
    return True


def _is_exact(bound: object) -> bool:
    """True if a bound survives being told as a float."""
    if bound is None:
        return True
    decimal = import_module("decimal")
    if type(bound) not in (int, float, decimal.Decimal):
        return False
    return bool(decimal.Decimal(repr(float(bound))) == decimal.Decimal(str(bound)))  # type: ignore[arg-type]  # a number, as was seen


def _number(bound: object) -> float | None:
    return None if bound is None else float(bound)  # type: ignore[arg-type]  # _is_exact has looked


def _tell_limits(told: dict[str, object], field: Any) -> None:  # Any: Django's field
    """Write the bounds into the messages as the author wrote them: 3 and 3.0 are one float."""
    messages = told["messages"]
    assert isinstance(messages, dict)
    sentences = (
        ("min_value", field.min_value, "Ensure this value is greater than or equal to %(limit_value)s."),
        ("max_value", field.max_value, "Ensure this value is less than or equal to %(limit_value)s."),
    )
    for code, bound, sentence in sentences:
        if bound is not None:
            wording = messages.get(code, sentence)
            messages[code] = wording.replace("%(limit_value)s", str(bound).replace("%", "%%"))


def _choices(field: Any) -> list[list[str]]:  # Any: Django's field
    """The choices, those in groups too."""
    flat: list[list[str]] = []
    for key, label in field.choices:
        if len(flat) > CHOICES_LIMIT:
            break
        if isinstance(label, list | tuple):
            flat += [[str(inner), text(words)] for inner, words in label]
        else:
            flat.append([str(key), text(label)])
    return flat


def _messages(field: Any) -> dict[object, object]:  # Any: Django's field
    messages = getattr(field, "error_messages", None)
    return messages if isinstance(messages, dict) else {}


def _has_own_validators(field: Any) -> bool:  # Any: Django's field
    """True if a field has validators beyond those that its kind and bounds bring."""
    validators = import_module("django.core.validators")
    expected = {
        validators.MinValueValidator: getattr(field, "min_value", None),
        validators.MaxValueValidator: getattr(field, "max_value", None),
        validators.MinLengthValidator: getattr(field, "min_length", None),
        validators.MaxLengthValidator: getattr(field, "max_length", None),
    }
    bringing = {
        "CharField": validators.ProhibitNullCharactersValidator,
        "DecimalField": validators.DecimalValidator,
    }
    seen: set[object] = set()
    for one in field.validators:
        kind = type(one)
        if kind in seen or vars(one).keys() & {"message", "code"}:
            return True
        seen.add(kind)
        if kind is bringing.get(type(field).__name__):
            continue
        limit = expected.get(kind)
        if limit is None or one.limit_value != limit:
            return True
    return False


def _django_form_class() -> Any:  # Any: Django's Form, or None if Django is not loaded
    return import_module("django.forms").Form if "django" in sys.modules else None


def _html(form: object) -> str:
    """The form as it renders itself; nothing if it has no rendering, or a very long one."""
    if type(form).__str__ is object.__str__:
        return ""
    html = str(form).encode("utf-8", "backslashreplace").decode()
    return html if len(html) <= HTML_LIMIT else ""
