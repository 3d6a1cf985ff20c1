"""The evaluator: joins scores and labels as they mature, and shows what every version delivers beside what it promised.

Rule 1. What is read goes into the journal's tables and counts with its positions, in one commit (journal.py).
Rule 2. Every row of `scores` counts once: the origin marks drop what a crashed scorer wrote again.
Rule 3. What has not changed is not evaluated again: scores that come are newer than the evaluated days.
Rule 4. `truth` names scenarios, for the evaluation alone: whether a transaction was fraud is taken from labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any, Final, TypeVar

import structlog

from adapters.delivered import keep_delivered
from adapters.telemetry import counter, gauge
from fraud import metrics, topics
from fraud.dead_letters import BadMessageError
from fraud.labels import parse_label
from fraud.model import Promise
from fraud.packed import SCORES, unpack
from fraud.truth import parse_truth
from fraud.windows import DAY_MS
from monitoring.evaluation import Evaluation, PathMeasures, Terms, evaluate, promised, qualities
from monitoring.evaluation_store import EvaluationStore
from monitoring.follower import Follower
from monitoring.journal import Journal, Source
from monitoring.series import Series

STAGE: Final = "evaluator"
FOLLOWED: Final = (topics.SCORES, topics.LABELS, topics.TRUTH)
COMMIT_S: Final = 1.0
SHARE_MAX: Final = 0.02  # of a core that evaluations may take: labels of the evaluated days come all the time
REST_S_MAX: Final = 60.0

_T = TypeVar("_T")

log = structlog.get_logger("evaluator")


class Evaluator:
    """Reads, joins and shows. promise_of(version): None for one that has none, as the rules.

    delivered_file: where what each version has delivered is kept beside; None: nowhere.
    """

    def __init__(
        self,
        follower: Follower,
        journal: Journal,
        terms: Terms,
        promise_of: Callable[[str], Promise | None],
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
        delivered_file: Path | None = None,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._follower = follower
        self._journal = journal
        self._delivered_file = delivered_file
        self._store = EvaluationStore(journal)
        self._terms = terms
        self._promise_of = promise_of
        self._every_s = every_s
        self._clock = clock
        self._cpu_s = cpu_s
        self._panel = Panel()
        self._has_news = False
        self._is_stale = True
        self._forgotten_ms = 0
        self._committed_at = self._evaluated_at = self._rests_until = float("-inf")
        self._evaluation: Evaluation | None = None

    def run(self, stop: Event) -> None:
        """Evaluate until `stop` is set, then commit. Raises what ends the process."""
        self._follower.start()
        while not stop.is_set():
            self.step()
        self._journal.commit()

    def step(self) -> None:
        """Take what is there, and commit and evaluate when that is due."""
        for source, records in self._follower.poll():
            self.take(source, records)
            self._has_news = True
        now = self._clock()
        if self._has_news and now - self._committed_at >= COMMIT_S:
            self._journal.commit()
            self._follower.show_lag()
            self._has_news, self._is_stale, self._committed_at = False, True, now
        if self._is_stale and now - self._evaluated_at >= self._every_s and now >= self._rests_until:
            self._evaluate()
            self._is_stale, self._evaluated_at = False, now

    def take(self, source: Source, records: Sequence[Any]) -> None:
        """Put one partition's records into the tables."""
        if source.topic == topics.SCORES.name:
            self._take_scores(source, records)
        elif source.topic == topics.LABELS.name:
            # What cannot be read here is the label forwarder's dead letter.
            self._store.add_labels(_readable(lambda record: parse_label(record.value, record.key), records))
        else:
            self._store.add_truth(_readable(lambda record: parse_truth(record.value), records))

    def _take_scores(self, source: Source, records: Sequence[Any]) -> None:
        marks, fresh, seen = self._journal.marks(source), [], 0
        for record in records:
            try:
                batch = unpack(record.value, (SCORES,))
            except BadMessageError as error:
                log.warning("no packed batch of scores", offset=record.offset, why=error.detail)
                counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "dead_letter").inc()
                continue
            seen += batch.rows
            fresh.append(marks.fresh(batch))
        self._store.add_scores(source.partition, *fresh)
        accepted = sum(batch.rows for batch in fresh)
        counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "accepted").inc(accepted)
        counter(metrics.TRANSACTIONS_TOTAL).labels(STAGE, "duplicate").inc(seen - accepted)
        if accepted:
            newest_ms = max(int(batch.array("occurred_at_ms").max()) for batch in fresh if batch.rows)
            gauge(metrics.EVENT_TIME_SECONDS).labels(STAGE, str(source.partition)).set(newest_ms / 1000)

    def _evaluated(self) -> Evaluation | None:
        """The evaluation of the tables as they are; it is made anew only when something in the evaluated days has changed."""
        now_ms = self._store.now_ms()
        if now_ms is None:
            return None
        to_ms = self._terms.matured_to_ms(now_ms)
        changed_from_ms = self._store.take_changed_from_ms()
        if self._evaluation is None or self._evaluation.to_ms != to_ms or changed_from_ms < to_ms:
            began = self._cpu_s()
            self._evaluation = evaluate(self._journal.connection, self._terms)
            self._rests_until = self._clock() + min(REST_S_MAX, (self._cpu_s() - began) / SHARE_MAX)
        return self._evaluation

    def _evaluate(self) -> None:
        evaluation = self._evaluated()
        if evaluation is None:
            return
        versions = evaluation.versions
        promises = {version: promise for version in versions if (promise := self._promise_of(version)) is not None}
        self._panel.show(evaluation, promises)
        if self._delivered_file is not None:
            keep_delivered(self._delivered_file, qualities(evaluation))
        before_ms = evaluation.from_ms - self._terms.lookback_ms - DAY_MS
        if before_ms > self._forgotten_ms:
            self._store.forget(before_ms)
            self._forgotten_ms = before_ms


def _readable(parse: Callable[[Any], _T], records: Sequence[Any]) -> list[_T]:
    good = []
    for record in records:
        try:
            good.append(parse(record))
        except BadMessageError as error:
            log.warning("not counted", topic=record.topic, offset=record.offset, why=str(error.reason))
    return good


class Panel:
    """The evaluation as metrics."""

    def __init__(self) -> None:
        self._counts = Series(metrics.EVALUATED_TRANSACTIONS)
        self._delivered = Series(metrics.DELIVERED_QUALITY)
        self._promised = Series(metrics.PROMISED_QUALITY)
        self._times = Series(metrics.TIME_TO_DETECT_SECONDS)
        self._detected = Series(metrics.CARDS_DETECTED_SHARE)
        self._money = Series(metrics.MONEY_MINOR)
        self._recall = Series(metrics.SCENARIO_RECALL)
        self._path_quality = Series(metrics.PATH_QUALITY)
        self._path_recall = Series(metrics.PATH_SCENARIO_RECALL)
        self._path_age = Series(metrics.PATH_FEATURE_AGE_SECONDS)
        self._shadowed = Series(metrics.CHALLENGER_QUALITY)

    def show(self, evaluation: Evaluation, promises: Mapping[str, Promise]) -> None:
        """Show these numbers and no others."""
        of = [((each.path, each.version), each) for each in evaluation.delivered]
        gauge(metrics.MATURED_TO_SECONDS).set(evaluation.to_ms / 1000)
        self._counts.show(
            {(*key, name): getattr(each, name) for key, each in of for name in ("fraud", "genuine", "censored")}
        )
        self._delivered.show({(*key, name): value for key, each in of for name, value in each.quality.items()})
        self._promised.show(
            {(version, name): value for version, told in promises.items() for name, value in promised(told).items()}
        )
        self._times.show({(*key, q): value for key, each in of for q, value in each.time_to_detect_s.items()})
        self._detected.show({key: each.detected_share for key, each in of})
        self._money.show(
            {
                (*key, name): getattr(each.money, f"{name}_minor")
                for key, each in of
                for name in ("saved", "lost", "spent")
            }
        )
        self._recall.show({(*key, name): value for key, each in of for name, value in each.scenario_recall.items()})
        self._shadowed.show(
            {
                (each.version, whose, name): value
                for each in evaluation.shadowed
                for whose, quality in (("challenger", each.quality), ("champion", each.champion))
                for name, value in quality.items()
            }
        )
        self._show_contrast({} if evaluation.contrast is None else evaluation.contrast.by_path)

    def _show_contrast(self, by_path: Mapping[str, PathMeasures]) -> None:
        self._path_quality.show(
            {(path, name): value for path, m in by_path.items() for name, value in m.quality.items()}
        )
        self._path_recall.show(
            {(path, name): share for path, m in by_path.items() for name, share in m.scenario_recall.items()}
        )
        self._path_age.show({(path,): m.feature_age_s for path, m in by_path.items() if m.feature_age_s is not None})
