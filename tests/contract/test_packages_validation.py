# SPDX-License-Identifier: MIT
"""The master's own validation has the outcome of Django's forms, for every plain kind of field."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django import forms
from hypothesis import given
from hypothesis import strategies as st

from pydra.cluster.packages.validation import UNKNOWN, validate
from pydra.cluster.store.settings import configure
from pydra.cluster.worker.forms import describe_field, describe_form
from pydra.errors import InternalError
from pydra.model.package import Form, FormField
from tests.support.plain_form import as_form

configure(Path("unused.sqlite3"))  # as the store's tests do: Django is configured once in a process

FIELDS: dict[str, Callable[[], forms.Field]] = {
    "integer": lambda: forms.IntegerField(),
    "integer_optional": lambda: forms.IntegerField(required=False),
    "integer_bounded": lambda: forms.IntegerField(min_value=-5, max_value=10),
    "integer_worded": lambda: forms.IntegerField(
        max_value=3, error_messages={"max_value": "at most %(limit_value)s", "invalid": "no 100% number"}
    ),
    "float": lambda: forms.FloatField(),
    "float_bounded": lambda: forms.FloatField(required=False, min_value=0, max_value=1.5),
    "decimal": lambda: forms.DecimalField(),
    "decimal_digits": lambda: forms.DecimalField(required=False, max_digits=4, decimal_places=2),
    "decimal_one": lambda: forms.DecimalField(max_digits=1, decimal_places=0),
    "decimal_bounded": lambda: forms.DecimalField(min_value=decimal.Decimal("0.10"), max_value=5),
    "boolean": lambda: forms.BooleanField(),
    "boolean_optional": lambda: forms.BooleanField(required=False),
    "text": lambda: forms.CharField(),
    "text_none": lambda: forms.CharField(required=False, empty_value=None),
    "text_bounded": lambda: forms.CharField(required=False, min_length=2, max_length=3),
    "text_one": lambda: forms.CharField(min_length=1, max_length=1, strip=False),
    "text_worded": lambda: forms.CharField(
        max_length=2, error_messages={"max_length": "%(show_value)d of %(limit_value)d", "required": "say"}
    ),
    "choice": lambda: forms.ChoiceField(choices=[("a", "A"), (1, "one"), ("Group", [("b", "B")])]),
    "choice_optional": lambda: forms.ChoiceField(required=False, choices=[("", "none"), ("a", "A")]),
    "date": lambda: forms.DateField(),
    "date_optional": lambda: forms.DateField(required=False),
}

ODD_TEXTS = (
    *(
        "",
        " ",
        "a",
        "b",
        "1",
        "1.0",
        "1.",
        " 2 ",
        "1e2",
        "1_0",
        "NaN",
        "inf",
        "-0",
        "true",
        "False",
        "0",
        "on",
    ),
    *("0.10", "0.1", "0.099", "99.99", "999.9", "1E+3", "1E-3", "0E5", "sNaN", "x\0", "\u0663", "2020-02-30"),
)

HOSTILE = (10**400, float("nan"), -(10**30), "1" * 5000, "9" * 400, "1e999999999", [[]], {})

numbers = st.one_of(
    st.integers(-20, 20),
    st.integers(),
    st.floats(),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-100, max_value=100),
)
texts = st.one_of(
    st.text(max_size=6),
    numbers.map(str),
    st.dates().map(str),
    st.dates(datetime.date(1000, 1, 1)).flatmap(
        lambda day: st.sampled_from(["%m/%d/%Y", "%b %d, %Y", "%d %B %Y", " %Y-%m-%d "]).map(day.strftime)
    ),
    st.sampled_from(ODD_TEXTS),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    texts,
    st.dates(),
    st.datetimes(),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
)


def outcome(name: str, data: dict[str, object]) -> tuple[object, dict[str, list[str]]]:
    """What ours says: the cleaned value, or messages."""
    cleaned, errors = validate(as_form(describe_form(django_form(name))), data)
    return ({} if errors else cleaned), errors


def django_form(name: str) -> Any:  # Any: a class of forms made here
    return type("Made", (forms.Form,), {"field": FIELDS[name]()})


def django_outcome(name: str, data: dict[str, object]) -> tuple[object, dict[str, list[str]]] | None:
    """What Django says; None where its field raises instead of answering."""
    form = django_form(name)(data)
    try:
        valid = form.is_valid()
    except (AttributeError, OverflowError, TypeError):
        return None
    if valid:
        return form.cleaned_data, {}
    return {}, {field: [str(message) for message in messages] for field, messages in form.errors.items()}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_here_is_plain(name: str) -> None:
    """None of them needs a sandbox, so all are compared."""
    form = as_form(describe_form(django_form(name)))
    assert not form.needs_sandbox


@pytest.mark.parametrize("name", FIELDS)
@given(value=values)
def test_a_value_has_djangos_outcome(name: str, value: object) -> None:
    """The same cleaned value of the same type, or the same messages."""
    expected = django_outcome(name, {"field": value})
    found = outcome(name, {"field": value})
    if expected is None:
        assert found[1].keys() == {"field"}
    else:
        assert repr(expected) == repr(found)


@pytest.mark.parametrize("name", FIELDS)
def test_an_absent_value_has_djangos_outcome(name: str) -> None:
    """Required, empty, or false."""
    assert django_outcome(name, {}) == outcome(name, {})


@given(value=st.sampled_from(HOSTILE))
@pytest.mark.parametrize("name", FIELDS)
def test_hostile_values_are_answered(name: str, value: object) -> None:
    """Nothing is raised, however large or strange."""
    outcome(name, {"field": value})


def test_unknown_arguments_are_refused() -> None:
    """An argument that the form does not declare is not dropped silently."""
    form = as_form(describe_form(django_form("integer")))
    assert validate(form, {"field": "3", "other": 1}) == ({"field": 3}, {"other": [UNKNOWN]})


def test_a_form_that_needs_its_own_code_is_not_guessed() -> None:
    """The caller must ask a sandbox."""
    with pytest.raises(InternalError):
        validate(Form((), needs_sandbox=True), {})
    with pytest.raises(InternalError):
        validate(Form((FormField("a", "other"),), needs_sandbox=False), {"a": 1})


def test_a_description_without_messages_uses_djangos() -> None:
    """The words are there even if the description has none."""
    fields = (
        FormField("n", "integer", minimum=1),
        FormField("s", "text", max_length=1),
        FormField("d", "date"),
    )
    _, errors = validate(Form(fields, needs_sandbox=False), {"n": "x", "s": "ab"})
    assert errors == {
        "n": ["Enter a whole number."],
        "s": ["Ensure this value has at most 1 character (it has 2)."],
        "d": ["This field is required."],
    }


def test_an_integer_bound_reads_as_an_integer() -> None:
    """Also where the description does not word it."""
    _, errors = validate(Form((FormField("n", "integer", minimum=1),), needs_sandbox=False), {"n": 0})
    assert errors == {"n": ["Ensure this value is greater than or equal to 1."]}


def test_a_field_with_its_own_marks_in_the_wording_does_not_fail() -> None:
    """An author's stray per cent sign is shown as it is."""
    field = FormField("n", "integer", maximum=1, messages={"max_value": "100% too much"})
    assert validate(Form((field,), needs_sandbox=False), {"n": 2})[1] == {"n": ["100% too much"]}


def test_fields_are_described_by_plain_values() -> None:
    """A description holds nothing of Django's."""
    told = describe_field("field", FIELDS["choice"](), plain=True)
    assert told["choices"] == [["a", "A"], ["1", "one"], ["b", "B"]]
