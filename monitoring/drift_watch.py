"""The drift watch: counts what is served in windows of event time, and compares each with the champion's reference.

Rule 1. Windows, alarms and positions count in one commit; a kill changes no judgement.
Rule 2. A window is judged when every source is GRACE_MS past its end; what comes later for it is not counted.
Rule 3. Days that the champion has learned from are not judged: it would be measured against itself.
Rule 4. Raised drift asks for a training, and again after each cool-down of event time while it stays raised. The request's
        id follows from the model and the window: asked twice because of a kill, it is one request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any, Final

import numpy as np
import structlog
from kafka.errors import KafkaError

from adapters.telemetry import counter, gauge
from fraud import metrics, topics
from fraud.control import WHY_MAX, Retrain
from fraud.dead_letters import BadMessageError
from fraud.drift import Alarm, Judgement, Reference, Window, judge
from fraud.features import FEATURE_HASH, NAMES
from fraud.packed import SCORES, VECTORS, Batch, unpack
from fraud.windows import HOUR_MS
from monitoring.drift_store import DriftStore
from monitoring.follower import Follower
from monitoring.journal import Journal, Source
from monitoring.reference import Served
from monitoring.series import Series

STAGE: Final = "drift"
FOLLOWED: Final = (topics.FEATURES, topics.SCORES)
COMMIT_S: Final = 1.0
GRACE_MS: Final = HOUR_MS
MEASURES: Final[Sequence[str]] = ("psi", "jensen_shannon", "ks", "null_share", "out_of_range_share")

log = structlog.get_logger("drift")


class RetrainAsker:
    """Asks for a training. send: raises KafkaError when it cannot. cool_down_ms: event time between two requests."""

    def __init__(
        self,
        send: Callable[[Retrain], None],
        cool_down_ms: int,
        wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._send = send
        self._cool_down_ms = cool_down_ms
        self._wall_ms = wall_ms

    def ask(self, version: str, end_ms: int, raised: Sequence[str], asked_ms: int | None) -> bool:
        """Ask because of what is raised in the window that ends at end_ms; False while it cools down, or nobody listens."""
        if asked_ms is not None and end_ms - asked_ms < self._cool_down_ms:
            return False
        why = f"drift of {len(raised)} columns from {version}: {', '.join(raised)}"
        request = Retrain(
            f"drift-{version}-{end_ms}",
            self._wall_ms(),
            trigger="drift",
            why=why if len(why) <= WHY_MAX else f"{why[:297]}...",
        )
        try:
            self._send(request)
        except KafkaError as error:
            log.warning("drift could not ask for a training; the next window asks again", why=repr(error))
            return False
        log.info("drift asks for a training", request_id=request.request_id, why=why)
        return True


class DriftWatch:
    """Counts, judges and shows. champion(): what decides now, None before any model. asker: None asks for nothing."""

    def __init__(
        self,
        follower: Follower,
        journal: Journal,
        champion: Callable[[], Served | None],
        window_ms: int,
        look_every_s: float,
        clock: Callable[[], float] = time.monotonic,
        asker: RetrainAsker | None = None,
    ) -> None:
        self._follower = follower
        self._journal = journal
        self._asker = asker
        self._store = DriftStore(journal)
        self._champion = champion
        self._window_ms = window_ms
        self._look_every_s = look_every_s
        self._clock = clock
        self._reference: Reference | None = None
        self._panel = DriftPanel()
        self._has_news = False
        self._committed_at = self._looked_at = float("-inf")

    def run(self, stop: Event) -> None:
        """Watch until `stop` is set, then commit. Raises what ends the process."""
        self.look()
        if (newest := self._store.newest()) is not None and self._reference is not None:
            self._panel.show(self._reference, newest, self._store.alarms)
        self._follower.start()
        while not stop.is_set():
            self.step()
        self.commit()

    def step(self) -> None:
        """Take what is there, judge the windows that are over, and commit when that is due."""
        for source, records in self._follower.poll():
            self.take(source, records)
            self._has_news = True
        now = self._clock()
        if self._has_news and now - self._committed_at >= COMMIT_S:
            self.commit()
            self._follower.show_lag()
            self._has_news, self._committed_at = False, now
        if now - self._looked_at >= self._look_every_s:
            self.look()

    def look(self) -> None:
        """See which model decides; another one's reference begins anew."""
        self._looked_at = self._clock()
        served = self._champion()
        if served is None or (self._reference is not None and self._reference.version == served.version):
            return
        self._reference = served.reference()
        if self._store.version != served.version:
            read_to_ms = max(self._store.clock.values(), default=0)  # what begins later is not read yet by any source
            self._store.begin(served.version, max(served.learned_to_ms, read_to_ms))
            log.info("comparing with", version=served.version, from_ms=self._store.counted_from_ms)

    def commit(self) -> None:
        """Judge what is over, and let everything since the last commit count."""
        self._judge_ended()
        self._store.put()
        self._journal.commit()

    def take(self, source: Source, records: Sequence[Any]) -> None:
        """Count records of one partition of `features` or `scores`, all together: a column of 400 rows costs as much as one of 20."""
        fresh = [batch for record in records if (batch := self._fresh(source, record)) is not None]
        if not fresh:
            return
        newest = max(int(batch.array("occurred_at_ms").max()) for batch in fresh)
        self._store.clock[source] = max(self._store.clock.get(source, 0), newest)
        gauge(metrics.EVENT_TIME_SECONDS).labels(STAGE, str(source.partition)).set(self._store.clock[source] / 1000)
        if self._reference is not None:
            ours = [each for each in fresh if each.kind == VECTORS and each.meta.get("feature_hash") == FEATURE_HASH]
            self._count(self._reference, ours, "vector")
            self._count(self._reference, [each for each in fresh if each.kind == SCORES], "score")

    def _fresh(self, source: Source, record: Any) -> Batch | None:
        """The rows of a record that were not seen before; None when there are none."""
        try:
            batch = unpack(record.value, (VECTORS, SCORES))
        except BadMessageError as error:
            log.warning("no packed batch", topic=source.topic, offset=record.offset, why=error.detail)
            counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "dead_letter").inc()
            return None
        fresh = self._journal.marks(source).fresh(batch)
        counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "accepted").inc(fresh.rows)
        counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "duplicate").inc(batch.rows - fresh.rows)
        return fresh if fresh.rows else None

    def _count(self, reference: Reference, batches: Sequence[Batch], column: str) -> None:
        if not batches:
            return
        values = np.concatenate([batch.array(column) for batch in batches])
        times = np.concatenate([batch.array("occurred_at_ms") for batch in batches])
        starts = times // self._window_ms * self._window_ms
        for start in np.unique(starts).tolist():
            if start < self._store.counted_from_ms:
                continue
            window = self._store.windows.setdefault(start, Window(start, start + self._window_ms))
            mine = values[starts == start]
            if column == "score":
                window.add_scores(reference, mine)
            else:
                window.add_features(reference, mine, NAMES)

    def _judge_ended(self) -> None:
        now_ms, reference = self._store.now_ms(topic.name for topic in FOLLOWED), self._reference
        if now_ms is None or reference is None:
            return
        for start in sorted(start for start, w in self._store.windows.items() if w.end_ms + GRACE_MS <= now_ms):
            window = self._store.windows.pop(start)
            self._store.counted_from_ms = window.end_ms
            judgement = judge(reference, window)
            outcome = "too_few_rows" if judgement is None else "judged"
            counter(metrics.DRIFT_WINDOWS_TOTAL).labels(outcome).inc()
            if judgement is not None:
                self._judged(reference, judgement)

    def _judged(self, reference: Reference, judgement: Judgement) -> None:
        for column, excess in judgement.excesses().items():
            before = self._store.alarms.get(column, Alarm())
            self._store.alarms[column] = after = before.after(excess)
            if after.raised != before.raised:
                what = "raised" if after.raised else "cleared"
                log.warning("drift", alarm=what, column=column, excess=round(excess, 2), end_ms=judgement.end_ms)
        raised = sorted(column for column, alarm in self._store.alarms.items() if alarm.raised)
        if raised and self._asker is not None:
            end_ms = judgement.end_ms
            if self._asker.ask(reference.version, end_ms, raised, self._store.retrain_asked_ms):
                self._store.retrain_asked_ms = end_ms
        self._store.judged(judgement)
        self._panel.show(reference, judgement, self._store.alarms)


class DriftPanel:
    """The newest judgement as metrics."""

    def __init__(self) -> None:
        self._distance = Series(metrics.DRIFT_DISTANCE)
        self._raised = Series(metrics.DRIFT_RAISED)
        self._share = Series(metrics.ALERT_SHARE)
        self._estimated = Series(metrics.ESTIMATED_QUALITY)

    def show(self, reference: Reference, judgement: Judgement, alarms: dict[str, Alarm]) -> None:
        """Show these numbers and no others."""
        gauge(metrics.DRIFT_WINDOW_ROWS).set(judgement.rows)
        gauge(metrics.DRIFT_WINDOW_END_SECONDS).set(judgement.end_ms / 1000)
        self._distance.show(
            {
                (column, measure): getattr(verdict.distances, measure)
                for column, verdict in judgement.columns.items()
                for measure in MEASURES
            }
        )
        self._raised.show({(column,): float(alarm.raised) for column, alarm in alarms.items()})
        self._share.show({("expected",): reference.alert_share, ("observed",): judgement.alert_share})
        self._estimated.show({("precision",): judgement.precision, ("recall",): judgement.recall})
