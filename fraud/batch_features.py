"""What the batch path knows: the views of a nightly snapshot as data, and how a request is joined with one.

Rule 1. A snapshot of a midnight (UTC) holds what happened and was sent before it; a window of length w ends there:
        midnight - w <= t < midnight, whole days.
Rule 2. The label delay ends the windows of risk that long before the midnight, and only labels known before the midnight count.
Rule 3. An entity without a row in the snapshot has no history of 30 days: counts and sums are 0, the rest is NaN.
Rule 4. Changing anything here changes BATCH_HASH, and snapshots or models of another hash are never read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Final

import numpy as np

from fraud.features import (
    INF,
    NAN,
    REQUEST,
    REQUEST_NAMES,
    TERMINAL_RISK,
    Aggregate,
    Entity,
    Feature,
    FeatureView,
)
from fraud.model import Floats
from fraud.windows import DAY_MS, DAYS_1, DAYS_7, DAYS_28, DAYS_30

PREFIX: Final = "nightly"
_LAST: Final = "from the newest transaction of the last 30 days to the midnight"
_AMOUNTS: Final = (
    Aggregate("count", "transactions", 0, INF, 0, "transactions in the window"),
    Aggregate("sum_amount_minor", "minor units", 0, INF, 0, "sum of their amounts"),
    Aggregate("mean_amount_minor", "minor units", 0, 1e12, NAN, "mean of their amounts"),
    Aggregate("std_amount_minor", "minor units", 0, 1e12, NAN, "standard deviation of their amounts (population)"),
    Aggregate("max_amount_minor", "minor units", 0, 1e12, NAN, "largest of their amounts"),
)
_SINCE_LAST: Final = Aggregate("days_since_last", "days", 0, 30, NAN, _LAST, windowed=False)
CARD_VIEW: Final = FeatureView(
    Entity.CARD,
    (DAYS_1, DAYS_7, DAYS_30),
    (
        *_AMOUNTS,
        Aggregate("distinct_terminals", "terminals", 0, INF, 0, "how many different terminals they were paid at"),
        Aggregate("distinct_merchants", "merchants", 0, INF, 0, "how many different merchants; an absent one is none"),
        Aggregate("distinct_countries", "countries", 0, INF, 0, "how many different countries; an absent one is none"),
        _SINCE_LAST,
    ),
)
TERMINAL_VIEW: Final = FeatureView(
    Entity.TERMINAL,
    (DAYS_1, DAYS_7, DAYS_30),
    (
        *_AMOUNTS,
        Aggregate("distinct_cards", "cards", 0, INF, 0, "how many different cards paid"),
        _SINCE_LAST,
    ),
)
RISK_VIEW: Final = FeatureView(
    Entity.TERMINAL,
    (DAYS_1, DAYS_7, DAYS_28),
    (
        Aggregate(
            "matured_count", "transactions", 0, INF, 0, "transactions in the window, which ends the label delay before"
        ),
        Aggregate("fraud_count", "transactions", 0, INF, 0, "those of them known to be fraud at the midnight"),
        Aggregate("fraud_share", "share", 0, 1, NAN, "fraud_count divided by matured_count"),
    ),
    delay_ms=TERMINAL_RISK.delay_ms,
)
# What the join computes of the request and its card's snapshot.
JOIN_VIEW: Final = FeatureView(
    Entity.CARD,
    (DAYS_30,),
    (
        Aggregate("amount_over_mean", "ratio", 0, INF, NAN, "this amount divided by the mean of the window"),
        Aggregate(
            "amount_deviations", "standard deviations", -INF, INF, NAN, "this amount's distance from that mean"
        ),
    ),
)  # fmt: skip
VIEWS: Final = (REQUEST, CARD_VIEW, TERMINAL_VIEW, RISK_VIEW, JOIN_VIEW)


def names_of(view: FeatureView) -> tuple[str, ...]:
    """The columns of a view: window by window, then what has no window."""
    return tuple(feature.name for feature in _features(view))


def _features(view: FeatureView) -> list[Feature]:
    named = [(f"{a.name}_{w.name}", a) for w in view.windows for a in view.aggregates if a.windowed]
    named += [(a.name, a) for a in view.aggregates if not a.windowed]
    prefix = view.entity if view is REQUEST else f"{PREFIX}_{view.entity}"
    return [Feature(f"{prefix}_{name}", view.entity, a.unit, a.low, a.high, a.default, a.meaning) for name, a in named]


FEATURES: Final[tuple[Feature, ...]] = tuple(feature for view in VIEWS for feature in _features(view))
BATCH_NAMES: Final[tuple[str, ...]] = tuple(feature.name for feature in FEATURES)
CARD_COLUMNS: Final = names_of(CARD_VIEW)
TERMINAL_COLUMNS: Final = (*names_of(TERMINAL_VIEW), *names_of(RISK_VIEW))
_DEFAULT: Final = {feature.name: feature.default for feature in FEATURES}
CARD_DEFAULTS: Final[Floats] = np.array([_DEFAULT[name] for name in CARD_COLUMNS], np.float32)
TERMINAL_DEFAULTS: Final[Floats] = np.array([_DEFAULT[name] for name in TERMINAL_COLUMNS], np.float32)
SPAN_MS: Final = max(w.length_ms + view.delay_ms for view in VIEWS for w in view.windows)

# Raised by hand when the job or the join computes something else under an unchanged name.
DEFINITION_VERSION: Final = 1
BATCH_HASH: Final = hashlib.sha256(
    json.dumps([PREFIX, DEFINITION_VERSION, [asdict(view) for view in VIEWS]], sort_keys=True).encode()
).hexdigest()[:12]
BATCH_KIND: Final = "xgboost-batch"  # of a manifest: a model of this path

_MEAN: Final = CARD_COLUMNS.index(f"{PREFIX}_card_mean_amount_minor_30d")
_STD: Final = CARD_COLUMNS.index(f"{PREFIX}_card_std_amount_minor_30d")
_AMOUNT: Final = REQUEST_NAMES.index("request_amount_minor")


def midnight_before(occurred_at_ms: int) -> int:
    """The midnight (UTC) at or before a moment, both epoch ms."""
    return occurred_at_ms // DAY_MS * DAY_MS


def joined(request: Floats, card: Floats, terminal: Floats) -> Floats:
    """Float32 [rows, BATCH_NAMES]; request: [rows, REQUEST_NAMES], card: [rows, CARD_COLUMNS], terminal: [rows, TERMINAL_COLUMNS]."""
    amount = request[:, _AMOUNT].astype(np.float64)
    mean, std = card[:, _MEAN].astype(np.float64), card[:, _STD].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        over_mean = np.where(mean > 0, amount / mean, np.nan)
        deviations = np.where(std > 0, (amount - mean) / std, np.nan)
    together = (request, card, terminal, over_mean[:, None], deviations[:, None])
    return np.ascontiguousarray(np.hstack(together), np.float32)


def without_snapshot(request: Floats) -> Floats:
    """The same vectors where no snapshot may be used: everything but the request's own fields is NaN."""
    vectors = np.full((len(request), len(BATCH_NAMES)), np.nan, np.float32)
    vectors[:, : request.shape[1]] = request
    return vectors
