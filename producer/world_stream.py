"""Streaming a world into Kafka: its history as fast as it goes, then live at the pace of the simulated clock.

Rule 1. Fast: nobody decides in time, so labels are what becomes known by itself. A piece's transactions are acknowledged
        before its labels are sent; a label stands at most one piece (an hour of event time) after its moment.
Rule 2. Live: messages go out one by one in the order of their moments; alerts and dispositions count, scenario runs are
        mixed in. A producer that is behind the clock sends as fast as it can until it has caught up.
Rule 3. The position is saved between two moments, after everything before it was acknowledged: a kill loses and doubles nothing.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl
import structlog
from kafka import KafkaConsumer

from adapters.kafka import AsyncWriter, partition_for, write_all
from fraud import topics
from fraud.transaction import BARE_VERSION, LEDGER_CURRENCY, PLACED_FIELDS, PLACED_VERSION, Transaction
from fraud.truth import Truth
from producer.label_desk import REMEMBERED_MS, LabelDesk, WaitingLabel
from producer.messages import placed_transaction_writes, truth_records
from producer.steering import Steering
from producer.streamer import LiveKafka, Report, Sent
from producer.world_plan import WorldPlan, frauds_of, labels_of
from producer.world_position import SENT_TOPICS, AlreadySent, SavedPosition, WorldPositionFile, ends_of

SAVE_S: Final = 1.0
SAVE_COST: Final = 20  # a save is due when so many times its duration has passed: it costs at most a twentieth
WAIT_S_MAX: Final = 0.05
_END: Final = 2**62

log = structlog.get_logger("producer")


class Progress:
    """The position of a running stream and its label desk, saved in one step."""

    def __init__(
        self,
        file: WorldPositionFile,
        position: SavedPosition,
        sent: AlreadySent,
        consumer: KafkaConsumer,
        partitions: int,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.position = position
        self.already = sent
        self.desk = LabelDesk(memory=position.memory())
        self._file = file
        self._consumer = consumer
        self._partitions = partitions
        self._now_s = now_s
        self._due_s = now_s() + SAVE_S

    @property
    def is_due(self) -> bool:
        """Whether it is time to save."""
        return self._now_s() >= self._due_s

    def save(self, clock_ms: int) -> None:
        """Everything planned at or before clock_ms is acknowledged."""
        began_s = self._now_s()
        self.position.clock_ms = max(self.position.clock_ms, clock_ms)
        self.position.ends = ends_of(self._consumer, SENT_TOPICS, self._partitions)
        self.desk.forget(clock_ms - REMEMBERED_MS)
        self.position.remember(self.desk.memory)
        self._file.save(self.position)
        self._due_s = self._now_s() + max(SAVE_S, SAVE_COST * (self._now_s() - began_s))


async def stream_fast(
    bootstrap: str,
    partitions: int,
    plan: WorldPlan,
    until_ms: int,
    progress: Progress,
    report: Report,
    stop: threading.Event,
) -> Sent:
    """Send the plan up to until_ms, or as much as is sent before `stop`. Raises aiokafka's KafkaError."""
    sent = Sent()
    progress.position.mode = "fast"
    writer = AsyncWriter(bootstrap, "producer")
    await writer.start()
    try:
        for piece in plan.pieces(progress.position.clock_ms, until_ms):
            if stop.is_set():
                break
            await _send_piece(writer, partitions, piece, progress, sent)
            sent.at_ms = int(piece["clock_ms"][-1])
            report(sent)
            if progress.is_due:
                progress.save(sent.at_ms)
        if sent.at_ms:
            progress.save(sent.at_ms)
    finally:
        await writer.stop()
    return sent


async def _send_piece(
    writer: AsyncWriter, partitions: int, piece: pl.DataFrame, progress: Progress, sent: Sent
) -> None:
    already, desk = progress.already, progress.desk
    desk.happened(frauds_of(piece), labels_of(piece))
    rows = already.unsent(piece)
    truths = truth_records(already.without_truth(piece), None)
    writes = [(topics.TRANSACTIONS.name, p, records) for p, records in placed_transaction_writes(rows, partitions)]
    await write_all(writer, [*writes, (topics.TRUTH.name, 0, truths)] if truths else writes)
    by_partition: dict[int, list[Any]] = {}
    for label in desk.due(int(piece["clock_ms"][-1])):
        if not already.takes_label(label):
            at = partition_for(label.terminal_id, partitions)
            by_partition.setdefault(at, []).append(
                (label.terminal_id.encode(), label.label(label.due_ms).to_json(), [])
            )
            sent.labels += 1
    await write_all(writer, [(topics.LABELS.name, p, records) for p, records in by_partition.items()])
    sent.transactions += rows.height


@dataclass(order=True, slots=True)
class _Planned:
    """A transaction that is due at at_ms. run_id: of a scenario that a person started; label: what becomes known of it
    by itself, of a run's transaction alone (a run may be stopped, and what never happened has no label)."""

    at_ms: int
    transaction_id: str
    row: dict[str, Any] = field(compare=False)
    run_id: str | None = field(compare=False, default=None)
    label: WaitingLabel | None = field(compare=False, default=None)


class LiveWorld:
    """Sends a plan as the simulated clock reaches it, until `until_ms` or `stop`."""

    def __init__(
        self,
        plan: WorldPlan,
        steering: Steering,
        progress: Progress,
        kafka: LiveKafka,
        partitions: int,
    ) -> None:
        self._plan = plan
        self._steering = steering
        self._progress = progress
        self._kafka = kafka
        self._partitions = partitions
        self._runs: list[_Planned] = []
        self._known_runs: set[str] = set()
        self._next: _Planned | None = None
        self._last_ms = progress.position.clock_ms

    def stream(self, until_ms: int, report: Report, stop: threading.Event) -> Sent:
        """Send everything due, or as much as is sent before `stop`. Raises kafka's KafkaError."""
        sent = Sent()
        planned = self._planned(until_ms)
        self._next = next(planned, None)
        while not stop.is_set():
            self._hear()
            at_ms = self._next_ms()
            if at_ms >= until_ms:
                break
            if self._progress.is_due and at_ms > self._last_ms:
                self._save(sent, report)
            wait_s = self._steering.seconds_until(at_ms)
            if wait_s > 0:
                stop.wait(min(wait_s, WAIT_S_MAX))
                continue
            self._send_due(at_ms, planned, sent)
        if self._next_ms() > self._last_ms:
            self._save(sent, report)
        else:
            self._kafka.flush()
        return sent

    def _planned(self, until_ms: int) -> Iterator[_Planned]:
        for piece in self._plan.pieces(self._progress.position.clock_ms, until_ms):
            self._progress.desk.happened(frauds_of(piece), labels_of(piece))
            for row in piece.iter_rows(named=True):
                yield _Planned(row["clock_ms"], row["transaction_id"], row)

    def _hear(self) -> None:
        self._steering.look()
        alerts, dispositions, heard = self._steering.heard()
        position, desk = self._progress.position, self._progress.desk
        for alert in alerts:
            if alert.occurred_at_ms >= position.live_from_ms and self._plan.is_ours(
                alert.transaction_id, alert.card_id
            ):
                desk.decided(alert)
        for disposition in dispositions:
            if self._plan.is_ours(disposition.transaction_id, disposition.card_id):
                desk.disposed(disposition, self._steering.now_ms())
        position.heard = heard
        for run_id, run in self._steering.simulation.runs.items():
            if run_id not in self._known_runs:
                self._known_runs.add(run_id)
                self._begin(run_id, run)

    def _begin(self, run_id: str, run: Any) -> None:
        """Plan a scenario run. What of a run that was planned before a restart is behind the position was sent then."""
        try:
            rows = self._plan.run_rows(run)
        except ValueError as error:
            log.warning("scenario refused", run_id=run_id, reason=str(error))
            return
        position = self._progress.position
        if run_id in position.runs:
            rows = rows.filter(pl.col("clock_ms") > position.clock_ms)
        else:
            position.runs.append(run_id)
        labels = {label.transaction_id: label for label in labels_of(rows)}
        for row in rows.iter_rows(named=True):
            transaction_id = row["transaction_id"]
            heapq.heappush(
                self._runs, _Planned(row["clock_ms"], transaction_id, row, run_id, labels.get(transaction_id))
            )
        log.info("scenario begins", run_id=run_id, scenario=run.scenario, transactions=rows.height)

    def _next_ms(self) -> int:
        moments = [
            self._progress.desk.next_due_ms(),
            self._next and self._next.at_ms,
            self._runs and self._runs[0].at_ms,
        ]
        return min((at_ms for at_ms in moments if at_ms), default=_END)

    def _send_due(self, at_ms: int, planned: Iterator[_Planned], sent: Sent) -> None:
        """Send what is due at one moment: labels first, as they are known then."""
        now_ms = self._steering.now_ms()
        for label in self._progress.desk.due(at_ms):
            self._send_label(label, now_ms, sent)
        while self._runs and self._runs[0].at_ms <= at_ms:
            one = heapq.heappop(self._runs)
            run = self._steering.simulation.runs[one.run_id or ""]
            if one.at_ms < run.end_ms:
                frauds = [(one.transaction_id, one.row["occurred_at_ms"])]
                self._progress.desk.happened(frauds, [one.label] if one.label is not None else [])
                self._send_transaction(one, now_ms, sent)
        while self._next is not None and self._next.at_ms <= at_ms:
            self._send_transaction(self._next, now_ms, sent)
            self._next = next(planned, None)
        self._last_ms = max(self._last_ms, at_ms)

    def _send_transaction(self, one: _Planned, now_ms: int, sent: Sent) -> None:
        row = one.row
        if row["scenario"] and not row["is_copy"] and not self._progress.already.takes_truth(one.transaction_id):
            truth = Truth(one.transaction_id, row["card_id"], row["occurred_at_ms"], row["scenario"], one.run_id)
            self._kafka.send(topics.TRUTH.name, 0, None, truth.to_json())
        if self._progress.already.takes_transaction(one.transaction_id):
            return
        message = transaction_of(row, max(now_ms, one.at_ms)).to_json()
        key = row["card_id"]
        self._kafka.send(topics.TRANSACTIONS.name, partition_for(key, self._partitions), key.encode(), message)
        sent.transactions += 1
        sent.at_ms = max(sent.at_ms, one.at_ms)

    def _send_label(self, label: WaitingLabel, now_ms: int, sent: Sent) -> None:
        if self._progress.already.takes_label(label):
            return
        message = label.label(max(now_ms, label.due_ms)).to_json()
        partition = partition_for(label.terminal_id, self._partitions)
        self._kafka.send(topics.LABELS.name, partition, label.terminal_id.encode(), message)
        sent.labels += 1

    def _save(self, sent: Sent, report: Report) -> None:
        self._kafka.flush()
        self._progress.save(self._last_ms)
        report(sent)


def transaction_of(row: dict[str, Any], sent_at_ms: int) -> Transaction:
    """The message of a plan's row: of version 2, or 1 where there is no merchant."""
    version = BARE_VERSION if row["merchant_id"] is None else PLACED_VERSION
    return Transaction(
        row["transaction_id"], row["card_id"], row["terminal_id"], row["amount_minor"], LEDGER_CURRENCY,
        row["occurred_at_ms"], sent_at_ms, version, **{name: row[name] for name in PLACED_FIELDS},
    )  # fmt: skip
