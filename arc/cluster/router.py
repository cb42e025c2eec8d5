"""Which node a request is for: pure choices over what this node sees, and the counts behind them. Nothing is sent here.

A write is for whoever holds the writer lease and for nobody else; a standby never takes it (P-43). A query is for this
node when it can answer it, else for a healthy reader, then the holder, then another writer; those that have seen what
the caller has seen come first. A strong query is for the holder alone: only there are all acknowledged rows.

Candidates come in order, each with its reason, so that whoever sends can go on to the next one (P-41).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from arc.catalog.roles import NodeState, WriterState
from arc.cluster.allowance import Bucket, Budget
from arc.cluster.views import NodeView
from arc.errors import Unavailable
from arc.ids import NodeId, Position
from arc.ports import Clock, Rng

BUDGET_FULL = 100.0
"""Retries that may come at once when none was needed for a while: about what is in flight when a writer dies."""

KEYS_AT_ONCE = 10_000.0


class LoadBalanceStrategy(StrEnum):
    """How one of several equally good nodes is chosen."""

    ROUND_ROBIN = "round_robin"
    LEAST_CONNECTIONS = "least_connections"
    RANDOM = "random"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """Section ``[routing]``: how requests for other nodes are sent to them."""

    strategy: str = LoadBalanceStrategy.ROUND_ROBIN.value
    """Which of several equally good nodes gets a query: round_robin, least_connections or random."""
    retries: int = 3
    """How often a request that may have cost a node work is sent again; 0 is never."""
    retry_share: float = 0.2
    """Retries per request in the long run, so that a sick cluster is not loaded further by those who try again."""
    failover_wait_seconds: float = 3.0
    """How long a request waits for somebody who can take it before the answer is 503."""
    connect_timeout_seconds: float = 2.0
    """How long opening a connection may take."""
    write_timeout_seconds: float = 60.0
    """How long the answer to a write may take to begin. Longer than a writer waits for its own log."""
    query_timeout_seconds: float = 360.0
    """How long the answer to a query or an import may take to begin. Longer than query.timeout_seconds."""
    idle_timeout_seconds: float = 120.0
    """How long a body may stand still between two nodes once it has begun."""
    waiting_max: int = 64
    """Requests that wait for a node at once; more are refused. Below server.max_concurrent_requests."""
    held_body_bytes_max: int = 1 << 20
    """A write up to this size is kept until it is answered, so that it can be sent again; a larger one is passed on
    while it arrives, once."""
    held_bytes_max: int = 64 << 20
    """Memory for all kept bodies; beyond it writes are passed on once and queries are refused."""
    added_keys_per_second: float = 100.0
    """Writes without an Idempotency-Key that are given one, in the long run. The writer remembers every key for an
    hour (wal.idempotency_keys_max); writes beyond this are sent once."""

    def __post_init__(self) -> None:
        if self.strategy not in {known.value for known in LoadBalanceStrategy}:
            raise ValueError(f"strategy must be one of {', '.join(LoadBalanceStrategy)}")
        if self.retries < 0 or not 0 <= self.retry_share <= 1:
            raise ValueError("retries must not be negative, and retry_share must be between 0 and 1")
        times = (
            self.connect_timeout_seconds, self.write_timeout_seconds, self.query_timeout_seconds,
            self.idle_timeout_seconds,
        )  # fmt: skip
        if min(times) <= 0 or self.failover_wait_seconds < 0:
            raise ValueError("time-outs must be positive")
        if min(self.waiting_max, self.held_body_bytes_max) < 1 or self.held_bytes_max < self.held_body_bytes_max:
            raise ValueError("bounds must be at least 1, and held_bytes_max at least held_body_bytes_max")


class NoWriterAvailable(Unavailable):
    """Nobody holds the writer lease now, or the holder cannot be reached. Nothing was stored."""

    code = "no_writer_available"


class NoReaderAvailable(Unavailable):
    """No node can answer this query now."""

    code = "no_reader_available"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a query must see at least. ``is_strong``: everything acknowledged before it was asked."""

    index: int | None = None
    position: Position | None = None
    is_strong: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """This node is the one. ``refuses`` says why it would not take it just now; empty when it would."""

    refuses: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A node to send to; ``address`` is host:port of its HTTP port and never leaves for a client."""

    node: NodeId
    address: str = field(repr=False)
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Other nodes, best first; at least one."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterStatistics:
    """Since the start. ``active_connections`` by node, those at zero left out."""

    retries_total: int
    retries_refused_total: int
    keys_added_total: int
    keys_refused_total: int
    active_connections: dict[str, int] = field(metadata={"label": "node"})


class Router:
    """Chooses nodes, and knows how many requests each is answering for us.

    ``nodes`` gives every node as seen now, sorted by name, ``local`` this one. ``cannot_answer`` says why queries here
    would be incomplete. With ``queries_follow_writer`` the files of one node are not on the others: a query that cannot
    be answered here goes to the holder of the writer lease. With ``holders_share_keys`` what one holder stored the next
    one knows, keys included; without it a write whose fate is unknown is never sent to another holder.
    """

    def __init__(
        self,
        config: RouterConfig,
        nodes: Callable[[], Sequence[NodeView]],
        local: Callable[[], NodeView],
        *,
        rng: Rng,
        clock: Clock,
        cannot_answer: Callable[[], str | None] = lambda: None,
        queries_follow_writer: bool = False,
        holders_share_keys: bool = False,
    ) -> None:
        self.config = config
        self.holders_share_keys = holders_share_keys
        self._nodes = nodes
        self._local = local
        self._rng = rng
        self._cannot_answer = cannot_answer
        self._follow = queries_follow_writer
        self._turns = [0, 0, 0]
        self._active: Counter[NodeId] = Counter()
        self.retries = Budget(BUDGET_FULL)
        self.keys = Bucket(config.added_keys_per_second, KEYS_AT_ONCE, clock)

    def __repr__(self) -> str:
        return f"<Router {self.name} {self.config.strategy} active={sum(self._active.values())}>"

    @property
    def name(self) -> NodeId:
        """This node's name."""
        return self._local().name

    def plan_write(self, tried: Collection[NodeId] = ()) -> Local | Forward:
        """Who takes a write. ``tried`` are left out. Raises NoWriterAvailable."""
        local = self._local()
        if local.writer_state is WriterState.PRIMARY:
            return Local(refuses=local.stats.refuses_writes)
        found = self._holder(tried, "it holds the writer lease")
        if isinstance(found, str):
            raise NoWriterAvailable(f"no node takes writes now: {found}")
        return found

    def plan_query(self, wish: Wish | None = None, tried: Collection[NodeId] = ()) -> Local | Forward:
        """Who answers a query. ``tried`` are left out. Raises NoReaderAvailable."""
        wish = wish if wish is not None else Wish()
        found = self._for_strong(tried) if wish.is_strong else self._for_query(wish, tried)
        if isinstance(found, str):
            raise NoReaderAvailable(f"no node answers queries now: {found}")
        return found

    def plan_elsewhere(self, wish: Wish, tried: Collection[NodeId] = ()) -> Forward:
        """Who else answers a query that this node cannot answer whole. Raises NoReaderAvailable: above all for a strong
        one, which only the holder of the writer lease answers.
        """
        found = None if wish.is_strong else self._readers(wish, tried)
        if found is None:
            raise NoReaderAvailable("this node lacks files that the query needs, and no other can be asked")
        return found

    def can_route_locally(self, is_write: bool) -> bool:
        """Whether this node itself takes a request of that kind now."""
        local = self._local()
        if is_write:
            return local.writer_state is WriterState.PRIMARY and not local.stats.refuses_writes
        return self._why_not_here(local) is None

    def holds_lease(self) -> bool:
        """Whether this node holds the writer lease."""
        return self._local().writer_state is WriterState.PRIMARY

    def given_up(self, node: NodeId, *, is_write: bool) -> str | None:
        """Why an answer of that node need not be waited for any longer; None while it may come."""
        view = next((view for view in self._nodes() if view.name == node), None)
        if view is None:
            return "it is no member any more"
        if view.state is NodeState.DEAD:
            return "it is dead"
        if is_write and view.writer_state is not WriterState.PRIMARY:
            return "it does not hold the writer lease any more"
        return None

    @contextmanager
    def sending(self, node: NodeId) -> Iterator[None]:
        """Count a request as that node's, from before its first byte is sent to after the last one of its answer."""
        self._active[node] += 1
        try:
            yield
        finally:
            self._active[node] -= 1
            if not self._active[node]:
                del self._active[node]

    def get_active_connections(self, node: NodeId) -> int:
        """Requests that this node waits for there."""
        return self._active[node]

    def stats(self) -> dict[str, object]:
        """For status pages: Arc's keys, then ours."""
        found = self.statistics()
        return {
            "strategy": self.config.strategy,
            "timeout_ms": round(self.config.write_timeout_seconds * 1000),
            "retries": self.config.retries,
            "reader_index": self._turns[0],
            "writer_index": self._turns[1] + self._turns[2],
            "active_connections": dict(found.active_connections),
            "retries_total": found.retries_total,
            "retries_refused_total": found.retries_refused_total,
            "keys_added_total": found.keys_added_total,
            "keys_refused_total": found.keys_refused_total,
        }

    def statistics(self) -> RouterStatistics:
        """The counts so far."""
        return RouterStatistics(
            retries_total=self.retries.taken,
            retries_refused_total=self.retries.refused,
            keys_added_total=self.keys.taken,
            keys_refused_total=self.keys.refused,
            active_connections={node: self._active[node] for node in sorted(self._active)},
        )

    # ---- choices

    def _why_not_here(self, local: NodeView) -> str | None:
        if not local.capabilities.can_query:
            return f"this node is a {local.role}"
        return local.stats.refuses_queries or self._cannot_answer()

    def _for_strong(self, tried: Collection[NodeId]) -> Local | Forward | str:
        local = self._local()
        if local.writer_state is WriterState.PRIMARY:
            return self._why_not_here(local) or Local()
        return self._holder(tried, "it holds the writer lease and so has every row")

    def _for_query(self, wish: Wish, tried: Collection[NodeId]) -> Local | Forward | str:
        reason = self._why_not_here(self._local())
        if reason is None:
            return Local()
        if self._follow:
            found = self._holder(tried, "it has the files")
            return found if not isinstance(found, str) else f"{reason}; {found}"
        return self._readers(wish, tried) or f"{reason}; no other healthy node has a role that answers queries"

    def _holder(self, tried: Collection[NodeId], why: str) -> Forward | str:
        """The holder, or why it cannot be sent anything. Unhealthy is what we see; that it holds is agreed on."""
        holder = next((view for view in self._nodes() if view.writer_state is WriterState.PRIMARY), None)
        if holder is None or holder.is_local:
            return "nobody holds the writer lease" if holder is None else "this node holds the writer lease"
        if holder.state is NodeState.DEAD:
            return f"{holder.name} holds the writer lease and is dead"
        if not holder.api_address:
            return f"{holder.name} holds the writer lease and has not told its HTTP address"
        if holder.name in tried:
            return f"{holder.name} holds the writer lease and did not answer"
        return Forward(candidates=(Candidate(node=holder.name, address=holder.api_address, reason=why),))

    def _readers(self, wish: Wish, tried: Collection[NodeId]) -> Forward | None:
        able = [
            view
            for view in self._nodes()
            if view.is_healthy
            and not view.is_local
            and view.name not in tried
            and view.api_address
            and view.capabilities.can_query
            and not view.stats.refuses_queries
        ]
        ordered: list[Candidate] = []
        for saw in (True, False):
            for rank, about in enumerate(_RANKS):
                group = [view for view in able if _rank(view) == rank and _has_seen(view, wish) is saw]
                reason = about if saw else f"{about}, but has not seen yet what is asked for"
                ordered += [
                    Candidate(node=view.name, address=view.api_address, reason=reason)
                    for view in self._in_turn(group, rank)
                ]
        return Forward(candidates=tuple(ordered)) if ordered else None

    def _in_turn(self, group: list[NodeView], rank: int) -> list[NodeView]:
        if len(group) < 2:
            return group
        if self.config.strategy == LoadBalanceStrategy.RANDOM:
            drawn = [(self._rng.uniform(0.0, 1.0), view) for view in group]
            return [view for _, view in sorted(drawn, key=lambda pair: (pair[0], pair[1].name))]
        start = self._turns[rank] % len(group)
        self._turns[rank] += 1
        turned = group[start:] + group[:start]
        if self.config.strategy == LoadBalanceStrategy.LEAST_CONNECTIONS:
            turned.sort(key=lambda view: self._active[view.name])  # stable: nodes with equally many take turns
        return turned


_RANKS = ("healthy reader", "holder of the writer lease", "healthy writer")


def _rank(view: NodeView) -> int:
    if view.writer_state is WriterState.PRIMARY:
        return 1
    return 2 if view.capabilities.can_ingest else 0


def _has_seen(view: NodeView, wish: Wish) -> bool:
    """As far as its last heartbeat tells. The holder has seen every write: they were all made there."""
    if wish.index is not None and view.stats.applied_index < wish.index:
        return False
    if wish.position is None or view.writer_state is WriterState.PRIMARY:
        return True
    return view.stats.admitted_sequence >= wish.position.sequence
