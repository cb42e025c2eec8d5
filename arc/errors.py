"""What can go wrong, sorted by what the caller can do about it.

Five families, nothing else: fix the request, try again later, find out whether it happened, ask for rights,
stop and repair. An assertion failure is none of these: it means our own code is wrong, and the node stops.
Every error carries a stable ``code`` for programs and a sentence for people that names the place and the rule.
"""

from __future__ import annotations


class ArcError(Exception):
    """Base of every error a caller may meet. ``code`` is stable and machine readable; ``status`` is the HTTP answer."""

    code = "internal"
    status = 500

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class InvalidRequest(ArcError):
    """The caller must change the request; repeating it as it is can never work."""

    code = "invalid"
    status = 400


class NotFound(InvalidRequest):
    """The thing that was named does not exist."""

    code = "not_found"
    status = 404


class Conflict(InvalidRequest):
    """The request contradicts what already stands."""

    code = "conflict"
    status = 409


class TooLarge(InvalidRequest):
    """The request passes a size limit; smaller pieces would be accepted."""

    code = "too_large"
    status = 413


class Unavailable(ArcError):
    """Nothing happened; the same request may work after ``retry_after_seconds``."""

    code = "unavailable"
    status = 503

    def __init__(self, message: str, *, code: str | None = None, retry_after_seconds: int = 1) -> None:
        super().__init__(message, code=code)
        self.retry_after_seconds = retry_after_seconds


class Overloaded(Unavailable):
    """A memory, disk or concurrency budget is spent; nothing was stored."""

    code = "overloaded"


class TimedOut(Unavailable):
    """A read did not finish in its time; nothing was changed by it."""

    code = "timeout"
    status = 504


class OutcomeUnknown(ArcError):
    """It may have happened. Only a retry that carries the same idempotency key is safe."""

    code = "outcome_unknown"
    status = 503


class Forbidden(ArcError):
    """The caller is known and lacks the right."""

    code = "forbidden"
    status = 403


class Unauthenticated(Forbidden):
    """The caller is not known: no token, or one that is wrong, expired or revoked."""

    code = "unauthorized"
    status = 401


class Corrupt(ArcError):
    """Stored bytes are not what was written. The node must not go on; ``path`` and ``offset`` say where to look."""

    code = "corrupt"

    def __init__(self, message: str, *, path: str, offset: int) -> None:
        super().__init__(f"{path} at offset {offset}: {message}")
        self.path = path
        self.offset = offset


class DiskFailed(ArcError):
    """A write or fsync failed. What the kernel kept of it is unknown, so it is never retried: the node stops."""

    code = "disk_failed"
