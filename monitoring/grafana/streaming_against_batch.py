"""Streaming against batch: what each path and version delivers on matured labels, beside what it promised.

Rule 1. Every line is by path: one that has not scored yet has no line.
Rule 2. Only matured days: what is not mature is not shown, and the panel says until when.
"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from fraud import metrics as m
from monitoring.grafana.panels import COUNT, PER_SECOND, SECONDS, SHARE, Panel, Query, board, number, timeline

_BY = "{{path}} {{version}}"


def streaming_against_batch() -> Dashboard:
    """The dashboard."""
    return board(
        "fraudstream-paths",
        "fraudstream: streaming against batch",
        "What each path and version delivers on matured labels, beside what it promised.",
        ("How far labels are mature", _maturity()),
        ("The same transactions, the same alert budget", _contrast()),
        ("The batch path's snapshots, and what each path costs", _batch_path()),
        ("Delivered against promised", _quality()),
        ("At the alert budget", _budget()),
        ("Time and money", _worth()),
    )


def _maturity() -> tuple[Panel, ...]:
    return (
        number(
            "Labels are mature until, event time",
            "Later transactions are not judged: a missing label means nothing yet.",
            "dateTimeAsIso",
            Query(f"{m.MATURED_TO_SECONDS.name} * 1000"),
            span=8,
        ),
        timeline(
            "Evaluated transactions",
            "Censored: declined, and so never labelled; the few that were let through stand for them.",
            COUNT,
            Query(m.EVALUATED_TRANSACTIONS.name, f"{_BY} {{{{class}}}}"),
            span=16,
        ),
    )


def _contrast() -> tuple[Panel, ...]:
    def by_path(measure: str, title: str, meaning: str) -> Panel:
        return timeline(
            title, meaning, SHARE, Query(f'{m.PATH_QUALITY.name}{{measure="{measure}"}}', "{{path}}"), span=8
        )

    return (
        timeline(
            "Recall by scenario, both paths",
            "Share of a scenario's transactions that each path would look at within the budget.",
            SHARE,
            Query(m.PATH_SCENARIO_RECALL.name, "{{path}} {{scenario}}"),
            span=16,
        ),
        timeline(
            "What streaming finds more",
            "Recall of the streaming path less that of the batch path, by scenario.",
            SHARE,
            Query(
                f'{m.PATH_SCENARIO_RECALL.name}{{path="streaming"}} - on (scenario) '
                f'{m.PATH_SCENARIO_RECALL.name}{{path="batch"}}',
                "{{scenario}}",
            ),
            span=8,
        ),
        by_path("ap", "Average precision, both paths", "Of all versions of a path together."),
        by_path("card_precision", "Card precision, both paths", "Share of compromised cards among those looked at."),
        by_path("recall", "Recall, both paths", "Share of all known fraud that the budget reaches."),
    )


def _batch_path() -> tuple[Panel, ...]:
    scored = f'sum(rate({m.TRANSACTIONS_TOTAL.name}{{stage="scorer",outcome="accepted"}}[5m]))'
    return (
        timeline(
            "Age of what the batch path knows",
            "Event time from the snapshot's midnight to the newest transaction; and the mean over matured ones.",
            SECONDS,
            Query(m.SNAPSHOT_AGE_SECONDS.name, "now"),
            Query(m.PATH_FEATURE_AGE_SECONDS.name, "matured, mean"),
            span=6,
        ),
        timeline(
            "Transactions by what became of their snapshot",
            "Missing, stale, away: scored by this path's rules on the request's own fields.",
            PER_SECOND,
            Query(f"sum by (outcome) (rate({m.BATCH_PATH_ROWS_TOTAL.name}[5m]))", "{{outcome}}"),
            span=6,
        ),
        timeline(
            "Nightly jobs",
            "How long the last one took; and how many failed in the last hour.",
            SECONDS,
            Query(m.SNAPSHOT_SECONDS.name, "duration"),
            Query(f'sum(increase({m.SNAPSHOT_RUNS_TOTAL.name}{{outcome="failed"}}[1h]))', "failed in an hour"),
            span=6,
        ),
        timeline(
            "CPU of the scorer per transaction",
            "Streaming: rules, model and reasons. Batch: the way to the snapshots, the join and its model. The streaming path's fold "
            "and the nightly job run elsewhere: docs/two-paths.md compares them.",
            SECONDS,
            Query(
                f"sum by (path) (rate({m.PATH_CPU_SECONDS_TOTAL.name}[5m])) / ignoring (path) group_left () {scored}",
                "{{path}}",
            ),
            span=6,
        ),
    )


def _measure(measure: str, title: str, meaning: str) -> Panel:
    return timeline(
        title,
        meaning,
        "none",
        Query(f'{m.DELIVERED_QUALITY.name}{{measure="{measure}"}}', _BY),
        Query(f'{m.PROMISED_QUALITY.name}{{measure="{measure}"}}', "promised {{version}}"),
        span=8,
    )


def _quality() -> tuple[Panel, ...]:
    return (
        _measure("ap", "Average precision", "0 .. 1: the area under the precision-recall curve."),
        _measure("auc", "AUC", "0 .. 1: the chance that a fraud scores above a genuine transaction."),
        _measure("card_precision", "Card precision at the budget", "Share of compromised cards among those looked at."),
        timeline(
            "Delivered as a share of what was promised",
            "Average precision; an alert fires below 70 %.",
            SHARE,
            Query(
                f'{m.DELIVERED_QUALITY.name}{{measure="ap"}} / on (version, measure) group_left () '
                f'{m.PROMISED_QUALITY.name}{{measure="ap"}}',
                _BY,
            ),
            span=24,
        ),
    )


def _budget() -> tuple[Panel, ...]:
    def at_budget(measure: str, title: str, meaning: str) -> Panel:
        return timeline(title, meaning, SHARE, Query(f'{m.DELIVERED_QUALITY.name}{{measure="{measure}"}}', _BY), span=8)

    return (
        at_budget("precision", "Precision", "Share of fraud among the transactions that the budget lets look at."),
        at_budget("recall", "Recall", "Share of all fraud that is among them."),
        timeline(
            "Recall by scenario",
            "Share of a scenario's transactions that were not approved, where the world tells the truth.",
            SHARE,
            Query(m.SCENARIO_RECALL.name, f"{_BY} {{{{scenario}}}}"),
            span=8,
        ),
    )


def _worth() -> tuple[Panel, ...]:
    return (
        timeline(
            "Time to detect",
            "Event time from a card's first fraud to its first fraud that was not approved, of the detected cards.",
            SECONDS,
            Query(m.TIME_TO_DETECT_SECONDS.name, f"{_BY} q{{{{quantile}}}}"),
            span=8,
        ),
        timeline(
            "Cards detected",
            "Share of the cards with fraud.",
            SHARE,
            Query(m.CARDS_DETECTED_SHARE.name, _BY),
            span=8,
        ),
        timeline(
            "Money",
            "Saved: fraud not approved; lost: fraud approved; spent: reviews and refused honest customers. In EUR.",
            "currencyEUR",
            Query(f"{m.MONEY_MINOR.name} / 100", f"{_BY} {{{{outcome}}}}"),
            span=8,
        ),
    )
