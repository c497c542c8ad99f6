# SPDX-License-Identifier: MIT
"""Arguments are put through the form of a task, by the form's own code."""

from __future__ import annotations

from pydra.cluster.tasks.failure import words_of
from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import ANSWER_LIMIT, VALIDATED
from pydra.cluster.worker.forms import prepare_django, text
from pydra.cluster.worker.loader import CodeFault, form_of, load_class, open_package
from pydra.cluster.worker.runner import send_answer

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from typing import Any

    from pydra.cluster.worker.channel import Channel

WHOLE_FORM = "__all__"
"""The field of messages that belong to no single argument, as Django names it."""

UNKNOWN = "This task takes no argument of this name."


class Validations:
    """Answers VALIDATE frames, one after another."""

    def __init__(self, channel: Channel, packages: str) -> None:
        self._channel = channel
        self._packages = packages
        self._opened = ""

    def validate(self, frame: list[object], more: bytes) -> None:
        """Carry out a VALIDATE whose arguments began with ``more``, and answer it."""
        _, request, package, task_key, args, *rest = frame
        try:
            data = payload.unpack(more + bytes(args))  # type: ignore[call-overload]  # the daemon's own frame
            if not isinstance(data, dict):
                raise CodeFault("The arguments are not a map of names to values.")
            if self._opened != package:
                open_package(self._packages, str(package), rest[0] if rest else ())  # type: ignore[arg-type]  # the daemon's own frame
                self._opened = str(package)
            form_class = form_of(load_class(str(package), str(task_key)), str(package))
            cleaned, errors = (data, {}) if form_class is None else validated(form_class, data)
            answer = payload.pack(errors or cleaned)
            if len(answer) > ANSWER_LIMIT:
                raise CodeFault("The cleaned arguments are too large.")
        except BaseException as fault:  # noqa: BLE001 - the form is user code and may raise anything
            words = str(fault) if isinstance(fault, CodeFault) else f"The form failed: {words_of(fault)}"
            errors = {WHOLE_FORM: [words]}
            answer = payload.pack(errors)
        send_answer(self._channel, [VALIDATED, request, not errors], answer)


def validated(form_class: Any, data: dict[object, object]) -> tuple[dict[str, object], dict[str, list[str]]]:
    """The cleaned arguments and the messages by field; with any message the arguments are not valid."""
    prepare_django()
    form = form_class(data)
    fields = getattr(form, "fields", None)
    errors: dict[str, list[str]] = {}
    if isinstance(fields, dict):
        errors = {str(name): [UNKNOWN] for name in data if name not in fields}
    if not form.is_valid():
        for name, messages in dict(form.errors).items():
            errors[str(name)] = [text(message) for message in _listed(messages)]
        if not errors:
            errors[WHOLE_FORM] = ["The arguments are not valid."]
    cleaned = {} if errors else {str(name): value for name, value in dict(form.cleaned_data).items()}
    for name, value in cleaned.items():
        try:
            payload.pack(value, name)
        except (TypeError, ValueError) as fault:
            errors[name] = [f"The value cannot be sent to a worker: {text(fault)}"]
    return cleaned, errors


def _listed(messages: object) -> list[object]:
    """The messages of a field: Django's own kind of list, one text, or any list."""
    return [messages] if isinstance(messages, str) else list(messages)  # type: ignore[call-overload]  # else it is the form's fault
