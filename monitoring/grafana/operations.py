"""Operations: does everything flow, how fast, and what is refused.

Rule 1. What an alert watches stands here, under the words of its section in the runbook.
"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from fraud import metrics as m
from monitoring.grafana.panels import BYTES, COUNT, PER_SECOND, SECONDS, SHARE, Panel, Query, board, number, timeline

_SCORE = m.EVENT_TO_SCORE_SECONDS.name


def _quantile(q: float) -> Query:
    return Query(f"histogram_quantile({q}, sum by (le) (rate({_SCORE}_bucket[1m])))", f"p{q * 100:g}")


def operations() -> Dashboard:
    """The dashboard."""
    return board(
        "fraudstream-operations",
        "fraudstream: operations",
        "Whether everything flows, how fast, and what is refused.",
        ("At a glance", _glance()),
        ("Speed", _speed()),
        ("Flow", _flow()),
        ("State store and services", _servers()),
    )


def _glance() -> tuple[Panel, ...]:
    return (
        number(
            "Scored a second",
            "Transactions scored a second, over one minute.",
            PER_SECOND,
            Query(f"sum(rate({m.SCORES_TOTAL.name}[1m]))"),
        ),
        number(
            "Log to score, p99",
            "From the log's append time to the score, wall clock; well below 0.25 s.",
            SECONDS,
            Query(f"histogram_quantile(0.99, sum by (le) (rate({_SCORE}_bucket[1m])))"),
            limit=0.25,
        ),
        number(
            "Oldest record waiting",
            "Age of the oldest record that any stage but the label forwarder has not taken, wall clock.",
            SECONDS,
            Query(f'max({m.LAG_SECONDS.name}{{stage!="labels"}})'),
            limit=60,
        ),
        number(
            "Dead letters in 5 minutes",
            "Messages refused; `fraudstream dlq list` says why.",
            COUNT,
            Query(f"sum(increase({m.DEAD_LETTERS_TOTAL.name}[5m])) or vector(0)"),
            limit=1,
        ),
        number(
            "Wrong vectors",
            "Served vectors that the parity meter's newest round found mismatched, missing, extra or repeated: 0.",
            COUNT,
            Query(f"sum({m.PARITY_WRONG_ROWS.name})"),
            limit=1,
        ),
        number("Services that answer", "Of those that Prometheus scrapes.", COUNT, Query("sum(up)")),
    )


def _speed() -> tuple[Panel, ...]:
    return (
        timeline(
            "From the log to the score",
            "Wall clock; the objective is 99 % within 0.25 s.",
            SECONDS,
            _quantile(0.5),
            _quantile(0.95),
            _quantile(0.99),
            limit=0.25,
        ),
        timeline(
            "Time in each stage, p99",
            "From taking a batch to having written it.",
            SECONDS,
            Query(
                f"histogram_quantile(0.99, sum by (stage, le) (rate({m.STAGE_LATENCY_SECONDS.name}_bucket[1m])))",
                "{{stage}}",
            ),
        ),
        timeline(
            "Share of slow scores",
            "Above 0.25 s. One percent is the objective; 14.4 % over an hour burns a month's budget in two days.",
            SHARE,
            Query("fraud:slow_scores:ratio_rate5m", "5 minutes"),
            Query("fraud:slow_scores:ratio_rate1h", "1 hour"),
            Query("fraud:slow_scores:ratio_rate6h", "6 hours"),
            limit=0.01,
        ),
        timeline(
            "Rows of a batch, mean",
            "Grows with the load: a batch costs little more than a row.",
            COUNT,
            Query(
                f"sum by (stage) (rate({m.BATCH_ROWS.name}_sum[1m])) / sum by (stage) (rate({m.BATCH_ROWS.name}_count[1m]))",
                "{{stage}}",
            ),
        ),
    )


def _flow() -> tuple[Panel, ...]:
    taken = f"sum by (stage, outcome) (rate({m.TRANSACTIONS_TOTAL.name}[1m]))"
    return (
        timeline("Taken a second", "By stage and outcome.", PER_SECOND, Query(taken, "{{stage}} {{outcome}}")),
        timeline(
            "Sent by the producer a second",
            "By topic.",
            PER_SECOND,
            Query(f"sum by (topic) (rate({m.PRODUCED_TOTAL.name}[1m]))", "{{topic}}"),
        ),
        timeline(
            "Records not taken yet",
            "Falls back to 0; the label forwarder waits for event time on purpose.",
            COUNT,
            Query(f"sum by (stage, topic) ({m.LAG_RECORDS.name})", "{{stage}} {{topic}}"),
        ),
        timeline(
            "Age of the oldest record not taken",
            "Wall clock.",
            SECONDS,
            Query(f"max by (stage) ({m.LAG_SECONDS.name})", "{{stage}}"),
            limit=60,
        ),
        timeline(
            "Event time",
            "How fast the newest event time of each stage moves: seconds of event time a second; equal lines are well.",
            "none",
            Query(f"max by (stage) (deriv({m.EVENT_TIME_SECONDS.name}[1m]))", "{{stage}}"),
            Query(f"deriv({m.SIMULATED_TIME_SECONDS.name}[1m])", "simulated clock"),
        ),
        timeline(
            "Watermarks",
            "Records a second that became part of the state.",
            PER_SECOND,
            Query(f"sum by (stage) (deriv({m.WATERMARK_OFFSET.name}[1m]))", "{{stage}}"),
        ),
        timeline(
            "Refused a second",
            "Dead letters by topic and reason.",
            PER_SECOND,
            Query(f"sum by (topic, reason) (rate({m.DEAD_LETTERS_TOTAL.name}[1m]))", "{{topic}} {{reason}}"),
        ),
        timeline(
            "Late transactions and labels a second",
            "Late ones are folded exactly; labels by what became of them.",
            PER_SECOND,
            Query(f"sum by (stage) (rate({m.LATE_TOTAL.name}[1m]))", "late at {{stage}}"),
            Query(f"sum by (outcome) (rate({m.LABELS_TOTAL.name}[1m]))", "labels {{outcome}}"),
        ),
    )


def _servers() -> tuple[Panel, ...]:
    return (
        timeline(
            "Memory of the state store",
            "At its limit it refuses to write.",
            BYTES,
            Query(m.STATE_STORE_MEMORY_BYTES.name, "used"),
            Query(m.STATE_STORE_MEMORY_MAX_BYTES.name, "limit"),
            span=8,
        ),
        timeline(
            "State store",
            "1: it answers; 1: its append-only file is written.",
            COUNT,
            Query(m.STATE_STORE_UP.name, "answers"),
            Query(m.STATE_STORE_PERSISTED.name, "writes its file"),
            span=8,
        ),
        timeline(
            "Entities in memory",
            "Cards and terminals that a worker holds; the rest is in the state store.",
            COUNT,
            Query(f"sum by (stage) ({m.ENTITIES_CACHED.name})", "{{stage}}"),
            span=8,
        ),
        timeline(
            "Lake",
            "Rows written a second, by topic.",
            PER_SECOND,
            Query(f"sum by (topic) (rate({m.ARCHIVED_ROWS_TOTAL.name}[1m]))", "{{topic}}"),
        ),
        timeline(
            "Files of the lake",
            "Written a minute, by topic; small files are merged.",
            COUNT,
            Query(f"sum by (topic) (increase({m.ARCHIVED_FILES_TOTAL.name}[1m]))", "{{topic}}"),
        ),
    )
