# SPDX-License-Identifier: MIT
"""Tasks with forms of every kind."""

import decimal

from django import forms
from wording import HELP

from pydra.cluster.tasks import Task


class PlainForm(forms.Form):
    """All the kinds that the master checks by itself."""

    count = forms.IntegerField(min_value=1, max_value=10, label="How many", help_text=HELP, initial=3)
    ratio = forms.FloatField(required=False)
    price = forms.DecimalField(
        required=False, max_digits=5, decimal_places=2, min_value=decimal.Decimal("0.10")
    )
    loud = forms.BooleanField(required=False)
    foo = forms.CharField(required=False, max_length=10, error_messages={"max_length": "too long"})
    colour = forms.ChoiceField(
        required=False, choices=[("r", "red"), ("Others", [("g", "green"), ("b", "blue")])]
    )
    day = forms.DateField(required=False)


class CleaningForm(forms.Form):
    """A form that only its own code can check."""

    start = forms.IntegerField()
    end = forms.IntegerField()

    def clean(self):
        found = super().clean()
        if found.get("end", 0) < found.get("start", 0):
            raise forms.ValidationError("The end is before the start.")
        return found


class PatternForm(forms.Form):
    """A form with a field of another kind."""

    address = forms.EmailField()


class CrashingForm(forms.Form):
    """A form whose own code fails."""

    name = forms.CharField()

    def clean_name(self):
        raise ZeroDivisionError("oh")


class FormLike:
    """No form of Django, but like one."""

    def __init__(self, data=None):
        self.data = data or {}
        self.errors = {} if "good" in self.data else {"good": ["Be good."]}
        self.cleaned_data = dict(self.data)

    def is_valid(self):
        return not self.errors


class Answering(Task):
    """Answers its arguments."""

    description = "answers its arguments"
    form = PlainForm

    def work(self, **kwargs):
        return {name: repr(value) for name, value in kwargs.items()}


class Cleaning(Answering):
    """Has a form with clean()."""

    form = CleaningForm


class Addressed(Answering):
    """Has a form with a field of another kind."""

    form = PatternForm


class Crashing(Answering):
    """Has a form that fails."""

    form = CrashingForm


class Liking(Answering):
    """Has a form that is not Django's."""

    form = FormLike


class Named(Answering):
    """Names its form."""

    form = "formed_tasks.PlainForm"


class Misnamed(Answering):
    """Names a form that is not there."""

    form = "formed_tasks.NoForm"
