# SPDX-License-Identifier: MIT
"""
The function protocol: a request becomes the call of a command, and what it returns or raises the answer.

``POST /packages/<name>`` uploads a package, and ``POST /payloads`` packed arguments: the bodies go to files,
not into memory. ``GET /results/<id>`` streams a packed result.
``GET /ws`` becomes a WebSocket.

One guard stands before routing, for every verb and every path but the public ones. Nothing that a caller
sends makes a 500; what passes by itself is a 503, or a 507 for a full disk. No answer holds a traceback of
ours.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from pydra.cluster.controller.functions import FUNCTIONS, Function, bind, checked_request_key
from pydra.cluster.controller.web import health, strict_json
from pydra.cluster.controller.web.authentication import Authentication
from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.controller.web.download import Download
from pydra.cluster.controller.web.request import ControllerRequest, error_body
from pydra.cluster.controller.web.upgrade import PATH, Upgrades
from pydra.cluster.controller.web.upload import Upload
from pydra.cluster.interfaces import Commands, OpenPayload, OpenResult, OpenUpload
from pydra.errors import HTTP_STATUS, InternalError, InvalidParameters, NotFound, PydraError, RequestError

_VERBS: Final = (b"GET", b"HEAD", b"POST")
_ALLOW_ALL: Final = b"Allow: GET, HEAD, POST\r\n"
_ALLOW_READ: Final = b"Allow: GET, HEAD\r\n"
_ALLOW_POST: Final = b"Allow: POST\r\n"
_ALLOW_GET: Final = b"Allow: GET\r\n"
_UPLOADS: Final = b"/packages/"
_PAYLOADS: Final = b"/payloads"
_RESULTS: Final = b"/results/"
_NAME_LIMIT: Final = 200
_DIGITS: Final = 18
_LOGIN: Final = b'WWW-Authenticate: Bearer realm="pydra"\r\n'
_UNAUTHORIZED: Final = error_body("unauthorized", "Log in first.")
_FUNCTION_NOT_FOUND: Final = error_body("function_not_found", "There is no function of that name.")
_RESULT_NOT_FOUND: Final = error_body(NotFound.code, "There is no such result.")
_NOT_ALLOWED: Final = error_body("method_not_allowed", "This verb is not allowed here.")
_STOPPING: Final = error_body("cluster", "The master is stopping; ask again later.")
_MEDIA_TYPE: Final = error_body(
    "media_type", "Send application/json or application/x-www-form-urlencoded, in UTF-8."
)


class _Route(msgspec.Struct, frozen=True):
    function: Function
    command: Callable[..., Awaitable[Any]] | None
    """None for the login functions, which need to know who asks."""


class FunctionCalls:
    """
    Answers the requests of all connections.

    Functions that ``commands`` lacks are unknown; a command that the table lacks is a ValueError.
    """

    _log = Logger()

    def __init__(
        self,
        commands: Commands,
        authentication: Authentication,
        limits: Limits,
        random_bytes: Callable[[int], bytes] = os.urandom,
        open_upload: OpenUpload | None = None,
        upgrades: Upgrades | None = None,
        open_payload: OpenPayload | None = None,
        open_result: OpenResult | None = None,
    ) -> None:
        unknown = sorted(set(commands) - set(FUNCTIONS))
        if unknown:
            raise ValueError(f"These commands are not in the table of functions: {', '.join(unknown)}.")
        self._authentication = authentication
        self._limits = limits
        self._random_bytes = random_bytes
        self._open_upload = open_upload
        self._upgrades = upgrades
        self._open_payload = open_payload
        self._open_result = open_result
        self._is_stopping = False
        self._waits: set[Deferred[None]] = set()
        self._routes = {
            f"/{name}".encode("ascii"): _Route(function, commands.get(name))
            for name, function in FUNCTIONS.items()
            if function.public or name in commands
        }
        self._names = msgspec.json.encode(sorted(route.function.name for route in self._routes.values()))

    def body_limit(self, request: ControllerRequest) -> int:
        """Bytes of body that this caller may send."""
        if not self._is_known(request):
            return self._limits.body_before_login
        if self._open_payload is not None and request.caller.target() == _PAYLOADS:
            return self._limits.payload
        return self._limits.upload if self._uploaded(request) else self._limits.body

    def open_upload(self, request: ControllerRequest) -> Upload | None:
        """Where the body of the request goes; None if it is no upload of a known caller."""
        if self._open_payload is not None and request.caller.target() == _PAYLOADS:
            return Upload(self._open_payload, request.caller.read) if self._is_known(request) else None
        package = self._uploaded(request)
        open_upload = self._open_upload
        if not package or open_upload is None or not self._is_known(request):
            return None
        return Upload(lambda: open_upload(package), request.caller.read)

    def _uploaded(self, request: ControllerRequest) -> str:
        """The name of the package that the body of the request holds; empty if it is none."""
        target = request.caller.target()
        if self._open_upload is None or not target.startswith(_UPLOADS):
            return ""
        return target[len(_UPLOADS) :][:_NAME_LIMIT].decode("ascii", "replace")

    def process(self, request: ControllerRequest) -> None:
        """Answer the request, now or when the command has its result."""
        try:
            self._route(request)
        except Exception:  # noqa: BLE001 - the edge of the daemon: a fault costs one answer only
            self._fault(request, Failure())
        if request.upload is not None and not request.upload.is_whole:
            request.upload.abort()  # it was answered otherwise

    def _is_known(self, request: ControllerRequest) -> bool:
        return self._authentication.admits(request.header(b"Authorization"))

    def _route(self, request: ControllerRequest) -> None:
        path, verb = request.path, request.method
        page = health.PAGES.get(path)
        route = self._routes.get(path)
        is_public = page is not None or (route is not None and route.function.public)
        if not is_public and not self._is_known(request):
            request.answer(401, _UNAUTHORIZED, _LOGIN)
        elif verb not in _VERBS:
            request.answer(405, _NOT_ALLOWED, _ALLOW_ALL)
        elif page is not None or path == b"/":
            if verb == b"POST":
                request.answer(405, _NOT_ALLOWED, _ALLOW_READ)
            else:
                request.answer(200, page or self._names)
        elif request.upload is not None:
            if verb == b"POST":
                self._take(request, request.upload)
            else:
                request.answer(405, _NOT_ALLOWED, _ALLOW_POST)
        elif path == PATH and self._upgrades is not None:
            self._upgrade(request, self._upgrades)
        elif path.startswith(_RESULTS) and self._open_result is not None:
            self._download(request, self._open_result)
        elif route is None:
            request.answer(404, _FUNCTION_NOT_FOUND)
        elif verb != b"POST":
            request.answer(405, _NOT_ALLOWED, _ALLOW_POST)
        else:
            self._call(request, route)

    def _upgrade(self, request: ControllerRequest, upgrades: Upgrades) -> None:
        """Answer a request for a WebSocket; whether the caller may is asked again as long as it lasts."""
        if request.method != b"GET":
            request.answer(405, _NOT_ALLOWED, _ALLOW_GET)
        elif self._is_stopping:
            request.answer(503, _STOPPING)
        else:
            upgrades.begin(request, lambda: self._is_known(request))

    def _take(self, request: ControllerRequest, upload: Upload) -> None:
        """Answer an upload whose body was received."""
        if self._is_stopping:
            request.answer(503, _STOPPING)
            return
        done = Deferred.fromCoroutine(self._carry_out(request, upload.finish, {}))
        done.addErrback(lambda failure: self._fault(request, failure))

    def _download(self, request: ControllerRequest, open_result: OpenResult) -> None:
        """Answer with the packed result of an instance."""
        number = request.path[len(_RESULTS) :]
        if request.method == b"POST":
            request.answer(405, _NOT_ALLOWED, _ALLOW_READ)
        elif self._is_stopping:
            request.answer(503, _STOPPING)
        elif not number.isdigit() or len(number) > _DIGITS:
            request.answer(404, _RESULT_NOT_FOUND)
        else:
            done = Deferred.fromCoroutine(self._send_result(request, open_result, int(number)))
            request.waiting = done
            done.addErrback(lambda failure: self._fault(request, failure))

    async def _send_result(self, request: ControllerRequest, open_result: OpenResult, number: int) -> None:
        try:
            size, chunks = await open_result(number)
        except CancelledError:
            return
        except PydraError as fault:
            self._refusal(request, fault)
            return
        try:
            await Download(request, size, chunks).send()
        except (CancelledError, TimeoutError):
            return  # the caller went away, or reads no more
        except PydraError as fault:
            self._log.warn("Result {number} was not sent: {fault}", number=number, fault=str(fault))

    def _call(self, request: ControllerRequest, route: _Route) -> None:
        function = route.function
        try:
            arguments = _arguments(request)
            if arguments is None:
                request.answer(415, _MEDIA_TYPE)
                return
            bound = bind(function, *arguments)
            if function.keyed:
                bound["request_key"] = _request_key(request, bound["request_key"])
            if route.command is None:
                caller = request.caller
                answer = self._authentication.call(function.name, caller.number, caller.address, bound)
                request.answer(200, strict_json.dumps(answer))
                return
        except PydraError as fault:
            self._refusal(request, fault)
            return
        if self._is_stopping:
            request.answer(503, _STOPPING)
            return
        done = Deferred.fromCoroutine(self._carry_out(request, route.command, bound))
        if function.waits and not done.called:
            request.waiting = done
            self._waits.add(done)
            done.addBoth(self._end_wait, done)
        done.addErrback(lambda failure: self._fault(request, failure))

    def stop(self) -> None:
        """Waiting calls are answered that the master stops, and so is every new one."""
        self._is_stopping = True
        for wait in list(self._waits):
            wait.cancel()

    def _end_wait(self, outcome: object, wait: Deferred[None]) -> object:
        self._waits.discard(wait)
        return outcome

    async def _carry_out(
        self,
        request: ControllerRequest,
        command: Callable[..., Awaitable[Any]],
        bound: dict[str, object],
    ) -> None:
        try:
            body = strict_json.dumps(await command(**bound))
        except CancelledError:
            # The caller went away, or the service stops; the former does not hear this.
            request.answer(503, _STOPPING)
            return
        except PydraError as fault:
            if isinstance(fault, InternalError):
                raise
            self._refusal(request, fault)
            return
        request.answer(200, body)

    def _refusal(self, request: ControllerRequest, fault: PydraError) -> None:
        status = _status(fault)
        if status >= 500:
            self._log.warn(
                "{function} was answered {status}: {fault}",
                function=_name(request),
                status=status,
                fault=str(fault),
            )
        errors = fault.errors if isinstance(fault, InvalidParameters) else None
        request.answer(status, error_body(fault.code, str(fault), errors))

    def _fault(self, request: ControllerRequest, failure: Failure) -> None:
        reference = self._random_bytes(4).hex().upper()
        self._log.failure(
            "A request for {function} met an internal error (reference {reference})",
            failure,
            function=_name(request),
            reference=reference,
        )
        text = f"Internal error; see the master's log (reference {reference})."
        request.answer(500, error_body(InternalError.code, text))


def _status(fault: PydraError) -> int:
    """The status of the nearest class of the fault that has one."""
    for ancestor in type(fault).__mro__:
        status = HTTP_STATUS.get(getattr(ancestor, "code", ""))
        if status is not None:
            return status
    return 500


def _name(request: ControllerRequest) -> str:
    return request.path[:100].decode("ascii", "backslashreplace")


def _request_key(request: ControllerRequest, argument: object) -> object:
    """The key that the argument or, without one, the header has; None if neither is there."""
    if argument is None and not request.requestHeaders.hasHeader(b"Idempotency-Key"):
        return None
    key = str(argument) if argument is not None else request.header(b"Idempotency-Key") or ""
    return checked_request_key(key)


def _arguments(request: ControllerRequest) -> tuple[list[object], dict[str, object]] | None:
    """The positional and named arguments; None if the body is in a format that is not spoken here."""
    body: bytes = request.content.read()
    if not body:
        return [], {}
    kind, _, parameters = (request.header(b"Content-Type") or "").lower().partition(";")
    charset = parameters.strip().removeprefix("charset=").strip('"')
    if charset not in ("", "utf-8"):
        return None
    match kind.strip():
        case "application/json":
            fields = strict_json.loads(body)
            if not isinstance(fields, dict):
                raise RequestError("The body is no JSON object with args and kwargs.")
        case "application/x-www-form-urlencoded":
            fields = _form(body)
        case _:
            return None
    if not fields.keys() <= {"args", "kwargs"}:
        raise RequestError("The body has other fields than args and kwargs.")
    args, kwargs = fields.get("args"), fields.get("kwargs")
    if args is not None and not isinstance(args, list):
        raise RequestError("args is no JSON list.")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise RequestError("kwargs is no JSON object.")
    return args or [], kwargs or {}


def _form(body: bytes) -> dict[str, object]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=2,
        )
    except ValueError:
        raise RequestError("The form cannot be read; it has the fields args and kwargs, in UTF-8.") from None
    fields = {name: strict_json.loads(text.encode("utf-8")) if text else None for name, text in pairs}
    if len(fields) != len(pairs):
        raise RequestError("The form has a field twice.")
    return fields
