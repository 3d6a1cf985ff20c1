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
HANDED_OVER_TOTAL: Final = Metric(
    "fraud_handed_over_total",
    "counter",
    "records that a stage got from the stage before it in the same worker, not by a fetch",
    ("topic", "partition"),
)
UNALIGNED_TOTAL: Final = Metric(
    "fraud_unaligned_total",
    "counter",
    "times that card lanes no longer waited for a partition behind them, as it had not moved for half a minute",
    ("partition",),
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
CHALLENGER_INFO: Final = Metric(
    "fraud_challenger_info",
    "gauge",
    "1 for the version that scores in shadow; no series when there is none",
    ("version",),
)
MODEL_LOADS_TOTAL: Final = Metric(
    "fraud_model_loads_total", "counter", "attempts to load a model, by outcome: loaded, refused", ("outcome",)
)
BATCH_MODEL_INFO: Final = Metric(
    "fraud_batch_model_info",
    "gauge",
    "1 for the batch path's version; no series before any: its rules score",
    ("version",),
)
BATCH_PATH_ROWS_TOTAL: Final = Metric(
    "fraud_batch_path_rows_total",
    "counter",
    "transactions the batch path has scored, by what became of their snapshot: joined; missing, stale, away (its rules score)",
    ("outcome",),
)
SNAPSHOT_AGE_SECONDS: Final = Metric(
    "fraud_snapshot_age_seconds",
    "gauge",
    "event time from the midnight of the nightly snapshot to the newest transaction that was joined with it",
)
SNAPSHOT_RUNS_TOTAL: Final = Metric(
    "fraud_snapshot_runs_total", "counter", "nightly jobs of the batch path by outcome: published, failed", ("outcome",)
)
SNAPSHOT_SECONDS: Final = Metric("fraud_snapshot_seconds", "gauge", "duration of the last nightly job, wall clock")
PATH_CPU_SECONDS_TOTAL: Final = Metric(
    "fraud_path_cpu_seconds_total",
    "counter",
    "CPU that the scorer has spent on each path: streaming, batch (its join included)",
    ("path",),
)
API_REQUESTS_TOTAL: Final = Metric(
    "fraud_api_requests_total",
    "counter",
    "requests to the synchronous API, by endpoint and outcome: answered, degraded (by the rules), refused, duplicate, unknown, "
    "too_large, rate_limited, unavailable, failed",
    ("endpoint", "outcome"),
)
API_LATENCY_SECONDS: Final = Metric(
    "fraud_api_latency_seconds",
    "histogram",
    "from a request's head to the end of its answer",
    ("endpoint",),
    LATENCY_BUCKETS,
)
API_ENTITIES_CACHED: Final = Metric(
    "fraud_api_entities_cached", "gauge", "cards and terminals in the API's memory", ("entity",)
)
ARCHIVED_ROWS_TOTAL: Final = Metric("fraud_archived_rows_total", "counter", "rows written to the lake", ("topic",))
ARCHIVED_FILES_TOTAL: Final = Metric("fraud_archived_files_total", "counter", "files written to the lake", ("topic",))
TRAIN_RUNS_TOTAL: Final = Metric(
    "fraud_train_runs_total", "counter", "training runs by outcome: promoted, rejected, failed", ("outcome",)
)
TRAIN_NIGHTS_MISSED_TOTAL: Final = Metric(
    "fraud_train_nights_missed_total",
    "counter",
    "simulated nights without a training of their own: a later one stands for them",
)
TRAIN_SECONDS: Final = Metric("fraud_train_seconds", "gauge", "duration of the last training run")
PRODUCED_TOTAL: Final = Metric("fraud_produced_total", "counter", "records the producer has sent", ("topic",))
SIMULATED_TIME_SECONDS: Final = Metric("fraud_simulated_time_seconds", "gauge", "the simulated clock, epoch seconds")

LAG_SECONDS: Final = Metric(
    "fraud_lag_seconds",
    "gauge",
    "age of the oldest record of a topic's partition that a stage has not taken, wall clock; 0 when it has taken all",
    ("stage", "topic", "partition"),
)
STATE_STORE_UP: Final = Metric("fraud_state_store_up", "gauge", "1 when the state store answers, else 0")
STATE_STORE_MEMORY_BYTES: Final = Metric("fraud_state_store_memory_bytes", "gauge", "memory that the state store uses")
STATE_STORE_MEMORY_MAX_BYTES: Final = Metric(
    "fraud_state_store_memory_max_bytes", "gauge", "its maxmemory, or the machine's memory when it has none"
)
STATE_STORE_PERSISTED: Final = Metric(
    "fraud_state_store_persisted", "gauge", "1 when the append-only file is on and its last write went well, else 0"
)
MODEL_AS_OF_SECONDS: Final = Metric(
    "fraud_model_as_of_seconds",
    "gauge",
    "event time at which the version with this role was trained, epoch seconds",
    ("role", "version"),
)
_COLUMN: Final = ("column",)
DRIFT_WINDOW_ROWS: Final = Metric("fraud_drift_window_rows", "gauge", "rows of the newest window that was judged")
DRIFT_WINDOW_END_SECONDS: Final = Metric(
    "fraud_drift_window_end_seconds", "gauge", "event time at which that window ended, epoch seconds"
)
DRIFT_DISTANCE: Final = Metric(
    "fraud_drift_distance",
    "gauge",
    "distance of the window from the model's reference, by measure: psi, jensen_shannon, ks, null_share, out_of_range_share",
    ("column", "measure"),
)
DRIFT_RAISED: Final = Metric(
    "fraud_drift_raised", "gauge", "1 while a feature, the score or the alert rate is drifted, else 0", _COLUMN
)
DRIFT_WINDOWS_TOTAL: Final = Metric(
    "fraud_drift_windows_total", "counter", "windows by outcome: judged, too_few_rows", ("outcome",)
)
ALERT_SHARE: Final = Metric(
    "fraud_alert_share",
    "gauge",
    "share of transactions at or above the review threshold: expected (of the reference), observed (of the newest window)",
    ("of",),
)
ESTIMATED_QUALITY: Final = Metric(
    "fraud_estimated_quality",
    "gauge",
    "estimate without labels (CBPE) over the newest window, by measure: precision, recall; blind to concept drift",
    ("measure",),
)
EVALUATED_TRANSACTIONS: Final = Metric(
    "fraud_evaluated_transactions",
    "gauge",
    "matured transactions that are evaluated, by class: fraud, genuine, censored (declined, so never labelled)",
    ("path", "version", "class"),
)
MATURED_TO_SECONDS: Final = Metric(
    "fraud_matured_to_seconds", "gauge", "event time before which labels are mature, epoch seconds"
)
DELIVERED_QUALITY: Final = Metric(
    "fraud_delivered_quality",
    "gauge",
    "measured on matured labels, by measure: auc, ap, card_precision, precision, recall (the last two at the alert budget)",
    ("path", "version", "measure"),
)
PROMISED_QUALITY: Final = Metric(
    "fraud_promised_quality",
    "gauge",
    "what a version promised when it was published, by measure: auc, ap, card_precision",
    ("version", "measure"),
)
TIME_TO_DETECT_SECONDS: Final = Metric(
    "fraud_time_to_detect_seconds",
    "gauge",
    "event time from a card's first fraud to its first fraud that was not approved, quantile over detected cards",
    ("path", "version", "quantile"),
)
CARDS_DETECTED_SHARE: Final = Metric(
    "fraud_cards_detected_share", "gauge", "share of the cards with fraud that were detected", ("path", "version")
)
MONEY_MINOR: Final = Metric(
    "fraud_money_minor",
    "gauge",
    "minor units over the evaluated period: saved (fraud not approved), lost (fraud approved), spent (reviews, refusals)",
    ("path", "version", "outcome"),
)
SCENARIO_RECALL: Final = Metric(
    "fraud_scenario_recall",
    "gauge",
    "share of a scenario's transactions that were not approved, where the world tells the truth",
    ("path", "version", "scenario"),
)
PATH_QUALITY: Final = Metric(
    "fraud_path_quality",
    "gauge",
    "both paths on the same matured transactions, all versions together, by measure: ap, card_precision, precision, recall "
    "(the last two at the alert budget)",
    ("path", "measure"),
)
CHALLENGER_QUALITY: Final = Metric(
    "fraud_challenger_quality",
    "gauge",
    "a challenger (version) and whoever decided, on the same matured transactions, by scored_by: challenger, champion; and by "
    "measure: auc, ap, card_precision, precision, recall (the last two at the alert budget)",
    ("version", "scored_by", "measure"),
)
PATH_SCENARIO_RECALL: Final = Metric(
    "fraud_path_scenario_recall",
    "gauge",
    "share of a scenario's transactions that each path would look at within the same alert budget",
    ("path", "scenario"),
)
PATH_FEATURE_AGE_SECONDS: Final = Metric(
    "fraud_path_feature_age_seconds",
    "gauge",
    "mean event time from what the batch path's features are as of to the transaction, of matured transactions",
    ("path",),
)
PARITY_MISMATCHES: Final = Metric(
    "fraud_parity_mismatches",
    "gauge",
    "vectors of the newest round whose feature differs from what was computed again from the lake",
    ("feature",),
)
PARITY_WRONG_ROWS: Final = Metric(
    "fraud_parity_wrong_rows",
    "gauge",
    "rows of the newest round by fault: missing, extra, repeated; mismatched: any feature differs",
    ("fault",),
)
PARITY_COMPARED: Final = Metric("fraud_parity_compared", "gauge", "vectors that the newest round has compared")
PARITY_ROUNDS_TOTAL: Final = Metric(
    "fraud_parity_rounds_total",
    "counter",
    "rounds of the parity meter by outcome: holds, broken, nothing, failed",
    ("outcome",),
)

SWITCH_FROM_OFFSET: Final = Metric(
    "fraud_switch_from_offset",
    "gauge",
    "a break-it switch is in force in a stage: offset of its source since when, in this process; absent while it is off",
    ("switch", "stage", "partition"),
)

CATALOGUE: Final[tuple[Metric, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
