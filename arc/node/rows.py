"""The rows and files of a node: the write path, what is followed from elsewhere, the files, the query path."""

from __future__ import annotations

from collections.abc import Sequence

from arc.catalog.facts import Catalog
from arc.catalog.values import WRITER
from arc.cluster.consensus import Consensus
from arc.duties import WriterDuty
from arc.ingest.buffer import Buffer
from arc.ingest.formats import Formats
from arc.node.ground import Ground
from arc.query.engine import Engine
from arc.query.service import QueryService
from arc.query.snapshot import SnapshotTaker
from arc.replication.announcing import Announcer
from arc.replication.antientropy import AntiEntropy
from arc.replication.awaiting import Awaiting
from arc.replication.bandwidth import Bandwidth
from arc.replication.copies import Tally
from arc.replication.crossing import Replication
from arc.replication.fetch import Ask, FileServer
from arc.replication.offers import Offers, Spreading
from arc.replication.puller import Puller
from arc.replication.scrubbing import Scrubber, Share
from arc.replication.shared import StoreOrNodes
from arc.replication.shelving import Shelving
from arc.replication.sweeper import Sweeper
from arc.replication.taking import Taker
from arc.storage.keeper import DATA, FileKeeper
from arc.storage.shelf import Shelf
from arc.wire.channels import Channel


class Rows:
    """The parts. ``puller`` is None where no files are brought from elsewhere, ``announcer`` and ``taker`` on a node
    alone, ``shelf`` and ``shelving`` where nodes share no store.
    """

    def __init__(self, ground: Ground, consensus: Consensus) -> None:
        self._transport = consensus.transport
        config, ports, log, node = ground.config, ground.ports, ground.log, ground.node
        self.keeper = FileKeeper(ports.disk, ports.workers, ports.clock, config.storage)
        self.shelf: Shelf | None = None
        if ground.objects is not None:
            self.shelf = Shelf(ground.objects, lambda: _cluster_of(ground))
        self.buffer = Buffer()
        self.replication = Replication()
        self.writer = WriterDuty(
            ingest=config.ingest,
            wal=config.wal,
            storage=config.storage,
            ports=ports,
            node=node,
            catalog=lambda: ground.fsm.catalog,
            feed=ground.feed,
            propose=consensus.proposals,
            buffer=self.buffer,
            replication=self.replication,
            post=None if self._transport is None else self._post_rows,
            is_readable=self.keeper.is_here,
            stored=self.keeper.came,
            factor=config.replication.factor,
            leader_heard=consensus.raft.silent_seconds,
            confirm=consensus.raft.read,
            log=log,
            shelf=self.shelf,
        )
        self.engine = Engine(
            config.query,
            roots=[ports.disk.native_path(DATA)],
            native_path=lambda path: ports.disk.native_path(f"{DATA}/{path}"),
        )
        self.queries = QueryService(
            config=config.query,
            engine=self.engine,
            take_snapshot=SnapshotTaker(
                lambda: ground.fsm.catalog,
                self.buffer.snapshot,
                self.keeper,
                coverage=self.buffer,
                is_readable=self.keeper.is_here,
            ),
            ports=ports,
            suspect=lambda entries: self.scrubber.suspect(entries),
        )
        self.formats = Formats()
        self.offers = Offers()
        self.file_server = FileServer(
            ports.disk, ports.workers, lambda: ground.fsm.catalog, is_here=self.keeper.is_here, offered=self.offers.get
        )
        self.shelving: Shelving | None = None
        if self.shelf is not None:
            self.shelving = Shelving(
                shelf=self.shelf,
                config=config.storage,
                walk_seconds=config.replication.look_seconds,
                catalog=lambda: ground.fsm.catalog,
                is_here=self.keeper.is_here,
                holds=lambda: _holds_writer(ground.fsm.catalog, node),
                confirm=consensus.raft.read,
                disk=ports.disk,
                workers=ports.workers,
                clock=ports.clock,
                log=log,
            )
        self.tally = Tally(
            lambda: ground.fsm.catalog,
            config.replication.factor,
            self.shelving.unproven if self.shelving is not None else None,
        )
        self.announcer: Announcer | None = None
        if consensus.calls is not None:
            self.announcer = Announcer(
                me=node,
                incarnation=lambda: ground.identity.current.incarnation,
                catalog=lambda: ground.fsm.catalog,
                is_here=self.keeper.is_here,
                propose=consensus.proposals,
                log=log,
            )
        self.puller: Puller | None = None
        self.taker: Taker | None = None
        bandwidth = Bandwidth(config.replication.bandwidth_bytes_per_second)
        ask: Ask | None = consensus.calls.call if consensus.calls is not None else None
        self.spreading = Spreading(
            me=node,
            offers=self.offers,
            catalog=lambda: ground.fsm.catalog,
            reachable=self.reachable,
            ask=ask,
            factor=config.replication.factor,
            has_store=self.shelf is not None,
            clock=ports.clock,
            log=log,
        )
        if ask is not None:
            self.taker = Taker(
                ask=ask,
                catalog=lambda: ground.fsm.catalog,
                files=self.keeper,
                disk=ports.disk,
                workers=ports.workers,
                clock=ports.clock,
                bandwidth=bandwidth,
                log=log,
            )
        if self.shelf is not None:
            ask = StoreOrNodes(self.shelf, ask, lambda: ground.fsm.catalog, ports.workers)
        if ask is not None:
            self.puller = Puller(
                me=node,
                ask=ask,
                others=self.reachable,
                catalog=lambda: ground.fsm.catalog,
                files=self.keeper,
                disk=ports.disk,
                workers=ports.workers,
                clock=ports.clock,
                rng=ports.rng,
                bandwidth=bandwidth,
                log=log,
                store=self.shelf.name if self.shelf is not None else "",
            )
        self.awaiting = Awaiting(self.keeper, is_brought=self.puller is not None)
        self.sweeper = Sweeper(lambda: ground.fsm.catalog, self.keeper, log)
        share = Share(ports.clock)
        self.scrubber = Scrubber(
            me=node,
            config=config.replication,
            catalog=lambda: ground.fsm.catalog,
            can_be_brought=lambda: self._can_be_brought(ground.fsm.catalog),
            files=self.keeper,
            disk=ports.disk,
            workers=ports.workers,
            clock=ports.clock,
            share=share,
            log=log,
        )
        self.antientropy = AntiEntropy(
            config=config.replication,
            catalog=lambda: ground.fsm.catalog,
            reigns=lambda: [lease.epoch for lease in ground.fsm.catalog.leases.values()],
            can_be_brought=lambda: self._can_be_brought(ground.fsm.catalog),
            stray_seconds=config.storage.orphan_grace_seconds,
            files=self.keeper,
            scrubber=self.scrubber,
            clock=ports.clock,
            share=share,
            log=log,
        )

    def __repr__(self) -> str:
        return f"<Rows {self.writer!r} {self.puller!r}>"

    def _can_be_brought(self, catalog: Catalog) -> bool:
        """Whether any file that is bad here may be had from elsewhere: nobody else has what the store has not."""
        has_store = self.shelving is not None and not self.shelving.unproven()
        return self.puller is not None and (has_store or len(catalog.nodes) > 1)

    def is_only_copy(self, path: str) -> bool:
        """Whether a file is on this disk, and not in a store that others could fetch it from."""
        return self.keeper.is_here(path) and (self.shelf is None or not self.shelf.has(path))

    def lacks_files(self) -> bool:
        """Whether any file of the manifest may not be here, or not be what it was."""
        return (self.announcer is not None and self.announcer.is_short) or self.scrubber.is_suspicious

    def reachable(self) -> Sequence[str]:
        """Nodes that this one has a session with, by name."""
        return sorted(self._transport.sessions()) if self._transport is not None else ()

    def _post_rows(self, name: str, payload: bytes, *, is_bulk: bool) -> bool:
        return self._transport is not None and self._transport.post(name, Channel.WAL, payload, is_bulk=is_bulk)


def _cluster_of(ground: Ground) -> str:
    """Which cluster this is. A node on its way in hears so, with the files, before it has noted it down."""
    facts = ground.fsm.catalog.cluster
    return ground.identity.current.cluster_uuid or (facts.uuid if facts is not None else "")


def _holds_writer(catalog: Catalog, node: str) -> bool:
    lease = catalog.leases.get(WRITER)
    return lease is not None and lease.holder == node
