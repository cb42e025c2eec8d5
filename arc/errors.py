"""What can go wrong, sorted by what the caller can do about it.

Five families, nothing else: fix the request, try again later, find out whether it happened, ask for rights,
stop and repair. An assertion failure is none of these: it means our own code is wrong, and the node stops.
Every error carries a stable ``code`` for programs and a sentence for people that names the place and the rule.

Below the families stand the names of what can go wrong in a cluster, each a member of its family: several floors
raise them, so they live where all can see them.
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


# -------------------------------------------------------------------------------------------------- a cluster: licence


class LicenseRequired(Forbidden):
    """Clustering was asked for without a licence that is in force."""

    code = "license_required"


class ClusteringFeatureRequired(Forbidden):
    """The licence is in force and does not include what was asked for."""

    code = "clustering_feature_required"


class CoreLimitExceeded(Forbidden):
    """With this node the cluster would have more cores than the licence allows."""

    code = "core_limit_exceeded"


# ---------------------------------------------------------------------------------------------------- a cluster: nodes


class InvalidRole(InvalidRequest):
    """There is no such role."""

    code = "invalid_role"


class AlreadyRunning(Conflict):
    """It runs already; a second start would be two of it."""

    code = "already_running"


class NotRunning(Unavailable):
    """It has not started yet, or has stopped."""

    code = "not_running"


class ClusterNotEnabled(Conflict):
    """Only a node with ``cluster.enabled`` can do that."""

    code = "cluster_disabled"


class NodeNotFound(NotFound):
    """There is no node of this name in the cluster."""

    code = "node_not_found"


class NodeAlreadyExists(Conflict):
    """The name belongs to another incarnation, or another address, of a node."""

    code = "node_already_exists"


class TooManyNodes(TooLarge):
    """There is no place for another node."""

    code = "too_many"


class IngestNotAllowed(Unavailable):
    """The role of this node does not take writes; another node does."""

    code = "ingest_not_allowed"


class QueryNotAllowed(Unavailable):
    """The role of this node does not answer queries; another node does."""

    code = "query_not_allowed"


class CompactionNotAllowed(Unavailable):
    """This node may not compact: it does not hold the compactor lease."""

    code = "compaction_not_allowed"


# --------------------------------------------------------------------------------------------------- a cluster: leaders


class NotCoordinator(Unavailable):
    """Only the leader does that, and this node is not it."""

    code = "not_leader"


class NoLeaderKnown(NotCoordinator):
    """Nobody is known to lead: an election, or a start before the first heartbeat. Nothing happened."""


class LeaderUnreachable(NotCoordinator):
    """The leader is known and could not be asked. Nothing happened."""

    code = "leader_unreachable"
