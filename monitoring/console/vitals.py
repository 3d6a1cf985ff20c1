"""The vital signs of the pipeline: rates, latencies, lags, from two readings of the services' metrics. Pure.

Rule 1. A rate is a difference of two readings; a counter that went back was started again, and counts from zero.
Rule 2. What nobody tells is None, never 0.
Rule 3. A percentile is interpolated within its bucket, as Prometheus' histogram_quantile does: no finer than the buckets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fraud import metrics
from fraud.metrics import Metric
from monitoring.console.readings import Reading

QUANTILES: Final = (0.5, 0.95, 0.99)
STAGES: Final = ("card", "labels", "terminal", "scorer")


def quantile(buckets: Mapping[float, float], q: float) -> float | None:
    """The value below which a share q of the observations lies; None without any.

    buckets: cumulated counts by upper bound, the last one infinite; beyond the last finite bound it is that bound.

    >>> quantile({0.1: 5, 0.2: 10, float("inf"): 10}, 0.5)
    0.1
    """
    bounds = sorted(buckets)
    if not bounds or buckets[bounds[-1]] <= 0:
        return None
    wanted, below, low = q * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted and buckets[bound] > below:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / (buckets[bound] - below)
        below, low = buckets[bound], bound
    return low


def rise(now: float | None, before: float | None) -> float | None:
    """How much a counter has risen; None when it is not told."""
    if now is None:
        return None
    return now if before is None or now < before else now - before


def vitals(now: Reading, before: Reading) -> dict[str, Any]:
    """Everything that the page of health shows, between two readings."""
    seconds = now.at_s - before.at_s
    return {
        "seconds": round(seconds, 1),
        "up": sorted(now.up),
        "down": sorted(now.down),
        "stages": {stage: _stage(now, before, seconds, stage) for stage in STAGES},
        "end_to_end_s": _latency(now, before, metrics.EVENT_TO_SCORE_SECONDS),
        "scored_per_s": _rate(now, before, seconds, metrics.SCORES_TOTAL),
        "alerts_per_s": _rate(now, before, seconds, metrics.ALERTS_TOTAL),
        "produced_per_s": _rate(now, before, seconds, metrics.PRODUCED_TOTAL, topic="transactions"),
        "archived_per_s": _rate(now, before, seconds, metrics.ARCHIVED_ROWS_TOTAL),
        "scored": now.total(metrics.SCORES_TOTAL),
        "alerts": now.total(metrics.ALERTS_TOTAL),
        "lag_s": (lags := _lag_s(now)),
        "lag_to_score_s": max((lag for stage, lag in lags.items() if stage in STAGES), default=None),
        "lag_records": now.sums(metrics.LAG_RECORDS, "stage"),
        "event_time_ms": _ms(_newest(now, metrics.EVENT_TIME_SECONDS)),
        "simulated_ms": _ms(_newest(now, metrics.SIMULATED_TIME_SECONDS)),
        "dead_letters": _dead_letters(now),
        "late": now.total(metrics.LATE_TOTAL),
        "model": next((of["version"] for of, value in now.samples(metrics.MODEL_INFO) if value), None),
        "paths": _paths(now),
        "parity": _parity(now),
        "switches": _switches(now),
        "state_store": {
            "up": now.total(metrics.STATE_STORE_UP),
            "memory_bytes": now.total(metrics.STATE_STORE_MEMORY_BYTES),
            "memory_max_bytes": now.total(metrics.STATE_STORE_MEMORY_MAX_BYTES),
            "persisted": now.total(metrics.STATE_STORE_PERSISTED),
        },
    }


def _stage(now: Reading, before: Reading, seconds: float, stage: str) -> dict[str, Any]:
    accepted = {"stage": stage, "outcome": "accepted"}
    return {
        "rate": _rate(now, before, seconds, metrics.TRANSACTIONS_TOTAL, **accepted),
        "taken": now.total(metrics.TRANSACTIONS_TOTAL, **accepted),
        "duplicates": now.total(metrics.TRANSACTIONS_TOTAL, stage=stage, outcome="duplicate"),
        "latency_s": _latency(now, before, metrics.STAGE_LATENCY_SECONDS, stage=stage),
        "watermark": now.total(metrics.WATERMARK_OFFSET, stage=stage),
        "event_time_ms": _ms(_newest(now, metrics.EVENT_TIME_SECONDS, stage=stage)),
    }


def _rate(now: Reading, before: Reading, seconds: float, metric: Metric, **labels: str) -> float | None:
    risen = rise(now.total(metric, **labels), before.total(metric, **labels))
    return None if risen is None or seconds <= 0 else risen / seconds


def _latency(now: Reading, before: Reading, metric: Metric, **labels: str) -> dict[str, float | None]:
    earlier, later = before.buckets(metric, **labels), now.buckets(metric, **labels)
    risen = {bound: rise(count, earlier.get(bound)) or 0.0 for bound, count in later.items()}
    return {f"p{q * 100:.0f}": quantile(risen, q) for q in QUANTILES}


def _newest(now: Reading, metric: Metric, **labels: str) -> float | None:
    return max((value for _, value in now.samples(metric, "", **labels)), default=None)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _lag_s(now: Reading) -> dict[str, float]:
    lags: dict[str, float] = {}
    for of, value in now.samples(metrics.LAG_SECONDS):
        lags[of["stage"]] = max(lags.get(of["stage"], 0.0), value)
    return lags


def _dead_letters(now: Reading) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], float] = {}
    for of, value in now.samples(metrics.DEAD_LETTERS_TOTAL):
        counts[of["topic"], of["reason"]] = counts.get((of["topic"], of["reason"]), 0.0) + value
    return [{"topic": topic, "reason": reason, "count": count} for (topic, reason), count in sorted(counts.items())]


def _switches(now: Reading) -> list[dict[str, Any]]:
    found = {tuple(sorted(of.items())): value for of, value in now.samples(metrics.SWITCH_FROM_OFFSET)}
    return [{**dict(of), "offset": value} for of, value in sorted(found.items())]


def _paths(now: Reading) -> dict[str, Any]:
    """How old the batch path's snapshot is, and the scorer's CPU of each path for a transaction, since it started."""
    scored = now.total(metrics.SCORES_TOTAL)
    spent = now.sums(metrics.PATH_CPU_SECONDS_TOTAL, "path")
    joined = now.sums(metrics.BATCH_PATH_ROWS_TOTAL, "outcome")
    return {
        "snapshot_age_s": _newest(now, metrics.SNAPSHOT_AGE_SECONDS),
        "snapshot_made_in_s": _newest(now, metrics.SNAPSHOT_SECONDS),
        "joined_share": joined.get("joined", 0.0) / sum(joined.values()) if sum(joined.values()) else None,
        "cpu_us": {path: seconds / scored * 1e6 for path, seconds in spent.items()} if scored else {},
    }


def _parity(now: Reading) -> dict[str, Any]:
    wrong = now.sums(metrics.PARITY_WRONG_ROWS, "fault")
    return {
        "compared": now.total(metrics.PARITY_COMPARED),
        "wrong": wrong,
        "features": {name: count for name, count in now.sums(metrics.PARITY_MISMATCHES, "feature").items() if count},
        "rounds": now.sums(metrics.PARITY_ROUNDS_TOTAL, "outcome"),
    }
