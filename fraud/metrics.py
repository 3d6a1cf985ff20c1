"""Every metric of the stack: name, labels and meaning. Dashboards, rules and docs use these and no others.

Rule 1. Units stand last in the name, in base units: `_seconds`, `_bytes`, `_total` for counters.
Rule 2. Metrics are observed per batch, not per transaction; a histogram over transactions is fed in bulk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LATENCY_BUCKETS: Final = (
    0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300,
)  # fmt: skip
ROWS_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the catalogue."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_STAGE: Final = ("stage",)
TRANSACTIONS_TOTAL: Final = Metric(
    "fraud_transactions_total",
    "counter",
    "rows a stage has taken, by outcome: accepted, duplicate, dead_letter",
    ("stage", "outcome"),
)
BATCH_ROWS: Final = Metric("fraud_batch_rows", "histogram", "rows of a batch", _STAGE, ROWS_BUCKETS)
STAGE_LATENCY_SECONDS: Final = Metric(
    "fraud_stage_latency_seconds", "histogram", "from taking a batch to having written it", _STAGE, LATENCY_BUCKETS
)
EVENT_TO_SCORE_SECONDS: Final = Metric(
    "fraud_event_to_score_seconds",
    "histogram",
    "from the log's append time of a transaction to its score, wall clock",
    (),
    LATENCY_BUCKETS,
)
LAG_RECORDS: Final = Metric(
    "fraud_lag_records",
    "gauge",
    "records of a topic's partition that a stage has not taken yet",
    ("stage", "topic", "partition"),
)
WATERMARK_OFFSET: Final = Metric(
    "fraud_watermark_offset",
    "gauge",
    "next offset of the source partition that is not yet in the state",
    ("stage", "partition"),
)
EVENT_TIME_SECONDS: Final = Metric(
    "fraud_event_time_seconds", "gauge", "newest event time a stage has taken, epoch seconds", ("stage", "partition")
)
DEAD_LETTERS_TOTAL: Final = Metric(
    "fraud_dead_letters_total", "counter", "messages refused, by topic and reason", ("topic", "reason")
)
LATE_TOTAL: Final = Metric(
    "fraud_late_transactions_total", "counter", "transactions behind their entity's newest, folded exactly", _STAGE
)
LABELS_TOTAL: Final = Metric(
    "fraud_labels_total",
    "counter",
    "labels by outcome: forwarded, applied, expired, unknown, dead_letter",
    ("outcome",),
)
ENTITIES_CACHED: Final = Metric("fraud_entities_cached", "gauge", "entities in a worker's memory", _STAGE)
SCORES_TOTAL: Final = Metric("fraud_scores_total", "counter", "transactions scored, by decision", ("decision",))
ALERTS_TOTAL: Final = Metric("fraud_alerts_total", "counter", "alerts written, by decision", ("decision",))
SCORE: Final = Metric(
    "fraud_score",
    "histogram",
    "distribution of the deciding score",
    (),
    (0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0),
)
MODEL_INFO: Final = Metric(
    "fraud_model_info", "gauge", "1 for the version that decides; `rules` before any model", ("version",)
)
MODEL_LOADS_TOTAL: Final = Metric(
    "fraud_model_loads_total", "counter", "attempts to load a model, by outcome: loaded, refused", ("outcome",)
)
ARCHIVED_ROWS_TOTAL: Final = Metric("fraud_archived_rows_total", "counter", "rows written to the lake", ("topic",))
ARCHIVED_FILES_TOTAL: Final = Metric("fraud_archived_files_total", "counter", "files written to the lake", ("topic",))
TRAIN_RUNS_TOTAL: Final = Metric(
    "fraud_train_runs_total", "counter", "training runs by outcome: promoted, rejected, failed", ("outcome",)
)
TRAIN_SECONDS: Final = Metric("fraud_train_seconds", "gauge", "duration of the last training run")
PRODUCED_TOTAL: Final = Metric("fraud_produced_total", "counter", "records the producer has sent", ("topic",))
SIMULATED_TIME_SECONDS: Final = Metric("fraud_simulated_time_seconds", "gauge", "the simulated clock, epoch seconds")

CATALOGUE: Final[tuple[Metric, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
