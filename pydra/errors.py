# SPDX-License-Identifier: MIT
"""
The whole error tree.

    PydraError
    ├── ConfigError
    ├── RequestError
    │   ├── NotFound
    │   ├── InvalidParameters
    │   ├── Unauthorized
    │   ├── Forbidden
    │   ├── TooManyRequests
    │   └── Conflict
    ├── ClusterError
    │   ├── LinkLost
    │   ├── RemoteFault
    │   └── WireError
    ├── TaskError
    │   ├── TaskFailed
    │   ├── TaskCancelled
    │   ├── TaskTerminated
    │   ├── TaskNotFoundException
    │   ├── WorkerDied
    │   ├── TaskLost
    │   ├── LimitExceeded
    │   ├── DependencyFailed
    │   └── LoadError
    │       └── PackageRefused
    │           └── PackageChanging
    ├── SandboxError
    │   ├── SandboxToolMissing
    │   ├── NamespacesRefused
    │   └── WorkersUnavailable
    ├── StoreError
    │   ├── StoreFull
    │   └── Unstorable
    └── InternalError

The docstring of a class is its default message: what happened, and what to do. ``code`` is stable and may
cross any boundary; ``HTTP_STATUS`` is the only place where codes meet HTTP.
"""

from __future__ import annotations


class PydraError(Exception):
    """Something went wrong in Pydra."""

    code = "error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else " ".join((type(self).__doc__ or "").split()))


class ConfigError(PydraError):
    """The settings cannot be used; correct the named value and start again."""

    code = "config"


class RequestError(PydraError):
    """The request cannot be carried out as it was made."""

    code = "request"


class NotFound(RequestError):
    """There is no such thing."""

    code = "not_found"


class InvalidParameters(RequestError):
    """The arguments are not valid; ``errors`` says what is wrong, field by field."""

    code = "invalid_parameters"

    def __init__(self, message: str | None = None, errors: dict[str, list[str]] | None = None) -> None:
        self.errors = errors or {}
        if message is None and self.errors:
            message = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in sorted(self.errors.items()))
        super().__init__(message)


class Unauthorized(RequestError):
    """Log in first."""

    code = "unauthorized"


class Forbidden(RequestError):
    """You may not do this."""

    code = "forbidden"


class TooManyRequests(RequestError):
    """Too many attempts; wait a minute and try again."""

    code = "too_many_requests"


class Conflict(RequestError):
    """This is in conflict with the present state."""

    code = "conflict"


class ClusterError(PydraError):
    """The cluster could not do this now; the same request may succeed later."""

    code = "cluster"


class LinkLost(ClusterError):
    """The connection between the master and a node was lost."""

    code = "link_lost"


class RemoteFault(ClusterError):
    """The other daemon failed; its log has the details."""

    code = "remote_fault"


class WireError(ClusterError):
    """A peer sent something that is not part of the protocol."""

    code = "wire"


class TaskError(PydraError):
    """The task did not end well."""

    code = "task"


class TaskFailed(TaskError):
    """The task raised an exception."""

    code = "failed"


class TaskCancelled(TaskError):
    """The task was cancelled."""

    code = "cancelled"


class TaskTerminated(TaskError):
    """Terminated by user"""

    code = "terminated"


class TaskNotFoundException(TaskError):
    """There is no such task or subtask."""

    code = "task_not_found"


class WorkerDied(TaskError):
    """The worker process ended before the task did."""

    code = "worker_died"

    @classmethod
    def too_often(cls, losses: int, limit: int, reason: str, log: str) -> str:
        """The message after the last loss; ``log`` is what `pydra logs` is given for the lines up to that."""
        times = "1 time" if losses == 1 else f"{losses} times"
        return f"lost its worker {times}; the limit is {limit}: {reason}; see: pydra logs {log}"


class TaskLost(TaskError):
    """The task was lost and is never run again."""

    code = "lost"

    @classmethod
    def because(cls, reason: str) -> str:
        """The message, with the reason."""
        return f"was lost and is never run again: {reason}"


class LimitExceeded(TaskError):
    """The task reached a limit."""

    code = "limit"


class DependencyFailed(TaskError):
    """The task cannot run: what it depends on did not end as it should."""

    code = "dependency"


class LoadError(TaskError):
    """The code of the task cannot be loaded."""

    code = "load"


class PackageRefused(LoadError):
    """The package breaks a rule for its files; rename or remove what is named."""

    code = "package"


class PackageChanging(PackageRefused):
    """The package changed while it was read; it is read again at the next scan."""

    code = "package_changing"


class SandboxError(PydraError):
    """The sandbox does not work on this machine."""

    code = "sandbox"


class SandboxToolMissing(SandboxError):
    """bubblewrap is not installed; run: apt-get install bubblewrap."""

    code = "sandbox_tool_missing"


class NamespacesRefused(SandboxError):
    """This machine refuses new namespaces, so no sandbox can be made."""

    code = "namespaces_refused"


class WorkersUnavailable(SandboxError):
    """No worker can be started here at the moment; what was to run begins somewhere else, or later."""

    code = "workers_unavailable"


class StoreError(PydraError):
    """The store refused; nothing was changed."""

    code = "store"


class StoreFull(StoreError):
    """The disk of the store is full; nothing was changed."""

    code = "store_full"


class Unstorable(StoreError):
    """The store can never take this, whenever it is asked; nothing was changed."""

    code = "unstorable"


class InternalError(PydraError):
    """This is a fault in Pydra; the log of the master has the details."""

    code = "internal"


HTTP_STATUS: dict[str, int] = {
    RequestError.code: 400,
    InvalidParameters.code: 400,
    Unauthorized.code: 401,
    Forbidden.code: 403,
    NotFound.code: 404,
    TaskNotFoundException.code: 404,
    Conflict.code: 409,
    TooManyRequests.code: 429,
    ClusterError.code: 503,
    SandboxError.code: 503,
    StoreError.code: 503,
    StoreFull.code: 507,
}
"""HTTP status of an error code; what is not listed is 500."""
