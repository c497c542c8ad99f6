# SPDX-License-Identifier: MIT
"""The form of StatisticsTask, in a file of its own: so the worker of the task need not load Django."""

from __future__ import annotations

from django import forms


class StatisticsInput(forms.Form):
    """What StatisticsTask asks for."""

    limit = forms.IntegerField(
        required=False, min_value=1, label="Files", help_text="How many files to read at most; all if empty"
    )
    pattern = forms.CharField(
        required=False,
        max_length=100,
        initial="*.py",
        label="Pattern",
        help_text="Names of files to read, with * and ?",
    )
