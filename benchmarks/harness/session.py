"""A session: the servers, the sender and the subjects of one command, made together and ended together.

Rule 1. A subject is started, warmed by rows that count for nothing, measured and stopped; never two at once.
Rule 2. What cannot be had (a peer's packages, no Java) is said; a peer that is missing is left out, loudly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from adapters.backends.server import Say
from benchmarks.harness import agreed, equal
from benchmarks.harness.bounded import Bound
from benchmarks.harness.environments import PeerMissingError, program_of
from benchmarks.harness.hold import Bench, Held
from benchmarks.harness.loader import Loader
from benchmarks.harness.ours import NAME, OurStack
from benchmarks.harness.peers import PEERS, Peer, PeerStack
from benchmarks.harness.receiver import Receiver
from benchmarks.harness.servers import Servers, running_servers
from benchmarks.harness.subject import Subject

WARM_RATE: Final = {NAME: 4_000.0}
WARM_RATE_PEER: Final = 400.0
WARM_S: Final = 8.0
WARM_TRIES: Final = 8


class NotWarmError(RuntimeError):
    """A subject does not answer."""


@dataclass(slots=True)
class Session:
    """What a command measures with. equal_rows: by peer, how many rows were found equal."""

    servers: Servers
    bench: Bench
    subjects: list[Subject]
    say: Say
    warm_s: float = WARM_S
    equal_rows: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def measured(self, subject: Subject) -> Iterator[Receiver]:
        """Run a subject, warm, while the block measures it."""
        subject.start()
        try:
            with Receiver(self.servers.kafka.address, subject.output, subject.partitions) as receiver:
                if isinstance(subject, OurStack) and subject.name not in self.equal_rows:
                    rows = equal.check_ours(subject, self.bench.loader, self.servers.kafka.address)
                    self.equal_rows[subject.name] = rows
                    self.say(f"{subject.name}: the served features of {rows:,} rows equal the backfill's")
                self._warm(subject, receiver)
                yield receiver
        finally:
            subject.stop()

    def _warm(self, subject: Subject, receiver: Receiver) -> None:
        """Send rows until a whole warm-up is scored: histories fill, code is compiled, groups are joined."""
        rate = WARM_RATE.get(subject.name, WARM_RATE_PEER)
        for _ in range(WARM_TRIES):
            held = self.bench.hold(subject, receiver, rate, self.warm_s)
            if held.scored == held.count:
                return
        raise NotWarmError(
            f"{subject.name} did not score {held.count - held.scored} of {held.count} transactions in a warm-up"
        )

    def told(self, held: Held) -> None:
        """One line of a hold, for people."""
        latency = held.latency
        shown = f"p50 {latency.p50_ms:.1f}, p99 {latency.p99_ms:.1f} ms" if latency else "nothing scored"
        us = sum(held.us_per_transaction().values())
        self.say(
            f"{held.subject:>14}: {held.rate:>8,.0f}/s for {held.seconds:.0f} s {'held' if held.lag.held else 'NOT HELD'}, "
            f"lag {held.lag.max_s:.2f} s, {shown}, {us:.0f} us, {held.cores():.2f} cores, foreign {held.cpu.foreign_cores:.2f}"
        )


def peers_named(names: Sequence[str]) -> list[Peer]:
    """Peers by name. Raises ValueError that names what there is."""
    known = {peer.name: peer for peer in PEERS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"there is no peer {unknown[0]!r}; there are: {', '.join(known)}, all, none")
    return [known[name] for name in names]


@contextmanager
def session(
    folder: Path, partitions: int, cards: int, peers: Sequence[Peer], bound: Bound, warm_s: float, say: Say
) -> Iterator[Session]:
    """Start the servers and the sender, prepare ours and the peers, and check that all compute the same."""
    say("fitting the forest that everybody scores with")
    model = agreed.fitted()
    with running_servers(folder / "run", partitions, say) as servers:
        load_log = servers.folder / "logs" / "load.log"
        with Loader(servers.kafka.address, cards, load_log) as loader:
            made = Session(servers, Bench(servers, loader, bound), [OurStack(servers, model)], say, warm_s)
            model_file = servers.folder / "agreed.ubj"
            model_file.write_bytes(model.agreed)
            for peer in peers:
                _add_peer(made, peer, folder, model_file, model)
            yield made


def _add_peer(made: Session, peer: Peer, folder: Path, model_file: Path, model: agreed.AgreedModel) -> None:
    try:
        program = program_of(peer, folder / "environments", made.say)
    except PeerMissingError as error:
        made.say(f"LEFT OUT: {error}")
        return
    stack = PeerStack(peer, made.servers, program, model_file)
    rows = equal.check_peer(stack, made.bench.loader, made.servers.kafka.address, model)
    made.say(f"{peer.name}: features and scores of {rows:,} rows equal ours")
    made.equal_rows[peer.name] = rows
    made.subjects.append(stack)
