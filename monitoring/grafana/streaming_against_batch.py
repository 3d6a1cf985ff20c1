"""Streaming against batch: what each path and version delivers on matured labels, beside what it promised.

Rule 1. Every line is by path and version: a path that is not there yet has no line, and needs no change here.
Rule 2. Only matured days: what is not mature is not shown, and the panel says until when.
"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from fraud import metrics as m
from monitoring.grafana.panels import COUNT, SECONDS, SHARE, Panel, Query, board, number, timeline

_BY = "{{path}} {{version}}"


def streaming_against_batch() -> Dashboard:
    """The dashboard."""
    return board(
        "fraudstream-paths",
        "fraudstream: streaming against batch",
        "What each path and version delivers on matured labels, beside what it promised.",
        ("How far labels are mature", _maturity()),
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
