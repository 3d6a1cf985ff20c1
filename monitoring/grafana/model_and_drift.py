"""Model and drift: which version decides, what it does, and how far its world has moved.

Rule 1. What is estimated without labels is called so, and its blind spot is said.
"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from fraud import metrics as m
from monitoring.grafana.panels import COUNT, PER_SECOND, SECONDS, SHARE, Panel, Query, board, number, timeline


def model_and_drift() -> Dashboard:
    """The dashboard."""
    return board(
        "fraudstream-model",
        "fraudstream: model and drift",
        "Which version decides, what it does, and how far its world has moved from what it has learned from.",
        ("Model", _model()),
        ("Decisions", _decisions()),
        ("Drift", _drift()),
        ("Parity", _parity()),
    )


def _model() -> tuple[Panel, ...]:
    return (
        number(
            "Decides",
            "The version that decides; `rules` before any model.",
            "none",
            Query(f"{m.MODEL_INFO.name} == 1", "{{version}}"),
            span=6,
            by_name=True,
        ),
        number(
            "Age of the champion",
            "Event time since it was trained.",
            SECONDS,
            Query("max(fraud:model_age:seconds)"),
            limit=28 * 86_400,
        ),
        number(
            "Last training",
            "Duration of the newest run.",
            SECONDS,
            Query(m.TRAIN_SECONDS.name),
        ),
        timeline(
            "Training runs",
            "In the last hour, by outcome.",
            COUNT,
            Query(f"sum by (outcome) (increase({m.TRAIN_RUNS_TOTAL.name}[1h]))", "{{outcome}}"),
            span=5,
        ),
        timeline(
            "Model loads",
            "In the last hour; a refused one leaves the model before it in place.",
            COUNT,
            Query(f"sum by (outcome) (increase({m.MODEL_LOADS_TOTAL.name}[1h]))", "{{outcome}}"),
            span=5,
        ),
    )


def _decisions() -> tuple[Panel, ...]:
    return (
        timeline(
            "Decisions a second",
            "By decision.",
            PER_SECOND,
            Query(f"sum by (decision) (rate({m.SCORES_TOTAL.name}[1m]))", "{{decision}}"),
            span=8,
        ),
        timeline(
            "Alerts a second",
            "By decision.",
            PER_SECOND,
            Query(f"sum by (decision) (rate({m.ALERTS_TOTAL.name}[1m]))", "{{decision}}"),
            span=8,
        ),
        timeline(
            "Share that alerts",
            "Expected: of the model's training sample; observed: of the newest day of event time; now: of ten minutes.",
            SHARE,
            Query(m.ALERT_SHARE.name, "{{of}}"),
            Query("fraud:alerts:ratio10m", "now"),
            span=8,
        ),
        timeline(
            "Scores",
            "Quantiles of the deciding score.",
            "none",
            *(
                Query(f"histogram_quantile({q}, sum by (le) (rate({m.SCORE.name}_bucket[5m])))", f"p{q * 100:g}")
                for q in (0.5, 0.9, 0.99)
            ),
        ),
        timeline(
            "Estimated without labels",
            "Precision and recall of the alerts if every score is the probability it claims to be (CBPE). "
            "Blind to fraud that changes while the scores stay: labels are in `streaming against batch`.",
            SHARE,
            Query(m.ESTIMATED_QUALITY.name, "{{measure}}"),
        ),
    )


def _drift() -> tuple[Panel, ...]:
    def worst(measure: str) -> Query:
        return Query(f'topk(8, {m.DRIFT_DISTANCE.name}{{measure="{measure}"}})', "{{column}}")

    return (
        number(
            "Drifted columns",
            "Two windows in a row above the limit; it clears after two windows below half of it.",
            COUNT,
            Query(f"sum({m.DRIFT_RAISED.name})"),
            limit=1,
        ),
        number(
            "Rows of the newest window", "Enough to tell a change from chance.", COUNT, Query(m.DRIFT_WINDOW_ROWS.name)
        ),
        number(
            "End of the newest window, event time",
            "The window that the distances below are of.",
            "dateTimeAsIso",
            Query(f"{m.DRIFT_WINDOW_END_SECONDS.name} * 1000"),
            span=8,
        ),
        timeline(
            "Windows judged",
            "In the last hour, and those with too few rows.",
            COUNT,
            Query(f"sum by (outcome) (increase({m.DRIFT_WINDOWS_TOTAL.name}[1h]))", "{{outcome}}"),
            span=8,
        ),
        timeline("PSI", "The eight columns that moved most; the limit is 0.2.", "none", worst("psi"), limit=0.2),
        timeline("Jensen-Shannon distance", "0 .. 1, the eight that moved most.", "none", worst("jensen_shannon")),
        timeline("Kolmogorov-Smirnov, binned", "0 .. 1, the eight that moved most.", "none", worst("ks")),
        timeline("Without value", "Share of rows, the eight largest.", SHARE, worst("null_share")),
        timeline(
            "Outside what was learned",
            "Share of rows with a value that the training sample never had.",
            SHARE,
            worst("out_of_range_share"),
        ),
        timeline("Alarms", "1 while a column is drifted.", COUNT, Query(f"{m.DRIFT_RAISED.name} == 1", "{{column}}")),
    )


def _parity() -> tuple[Panel, ...]:
    return (
        timeline(
            "Wrong vectors",
            "Of the newest round of the parity meter: all 0.",
            COUNT,
            Query(m.PARITY_WRONG_ROWS.name, "{{fault}}"),
            span=8,
        ),
        timeline(
            "Features that differ",
            "Vectors of the newest round in which the feature differs: none.",
            COUNT,
            Query(f"{m.PARITY_MISMATCHES.name} > 0 or sum({m.PARITY_MISMATCHES.name})", "{{feature}}"),
            span=8,
        ),
        timeline(
            "Rounds",
            "In the last hour by outcome, and vectors that the newest has compared.",
            COUNT,
            Query(f"sum by (outcome) (increase({m.PARITY_ROUNDS_TOTAL.name}[1h]))", "{{outcome}}"),
            Query(m.PARITY_COMPARED.name, "compared"),
            span=8,
        ),
    )
