"""The nightly job: from rows of transactions and labels to a snapshot per card and terminal as of a midnight.

Rule 1. A pure function of the rows and the midnight: the same night computed later gives the same snapshot.
Rule 2. A row counts when it happened and was sent before the midnight (sent_at_ms, the sender's clock): a late one is in the next
        night's snapshot, never in this one's. A label counts when it was known before the midnight; the newest such one.
Rule 3. A transaction counts once: the same id again on the same card is left out, whatever its body.
Rule 4. Windows are whole days of event time that end at the midnight (fraud/batch_features.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from fraud.batch_features import CARD_COLUMNS, CARD_VIEW, PREFIX, RISK_VIEW, SPAN_MS, TERMINAL_COLUMNS, TERMINAL_VIEW
from fraud.features import FeatureView
from fraud.windows import DAY_MS

TRANSACTION_COLUMNS: Final = (
    "transaction_id", "card_id", "terminal_id", "amount_minor", "occurred_at_ms", "sent_at_ms", "merchant_id", "country",
)  # fmt: skip
LABEL_COLUMNS: Final = ("transaction_id", "card_id", "is_fraud", "known_at_ms")
_at: Final = pl.col("occurred_at_ms")
_AMOUNT: Final = pl.col("amount_minor").cast(pl.Float64)
_DISTINCT: Final = {
    "distinct_terminals": "terminal_id",
    "distinct_merchants": "merchant_id",
    "distinct_countries": "country",
    "distinct_cards": "card_id",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """As of midnight_ms: cards with card_id and CARD_COLUMNS, terminals with terminal_id and TERMINAL_COLUMNS, float32."""

    midnight_ms: int
    cards: pl.DataFrame
    terminals: pl.DataFrame


@dataclass(frozen=True, slots=True)
class History:
    """What snapshots are made from: TRANSACTION_COLUMNS in log order, each once, and LABEL_COLUMNS in log order."""

    transactions: pl.DataFrame
    labels: pl.DataFrame

    @classmethod
    def of(cls, transactions: pl.DataFrame, labels: pl.DataFrame) -> History:
        """From rows as the lake has them: repeated transactions are left out (rule 3)."""
        once = transactions.select(TRANSACTION_COLUMNS).unique(
            ["card_id", "transaction_id"], keep="first", maintain_order=True
        )
        return cls(once, labels.select(LABEL_COLUMNS))

    def known_at(self, midnight_ms: int) -> History:
        """The rows that a snapshot of this midnight may know (rule 2), of its longest window."""
        inside = (_at >= midnight_ms - SPAN_MS) & (_at < midnight_ms) & (pl.col("sent_at_ms") < midnight_ms)
        known = self.labels.filter(pl.col("known_at_ms") < midnight_ms)
        return History(self.transactions.filter(inside), known)


def snapshot(history: History, midnight_ms: int) -> Snapshot:
    """The snapshot of a midnight. Raises ValueError when the moment is no midnight."""
    if midnight_ms % DAY_MS:
        raise ValueError(f"{midnight_ms} ms is no midnight (UTC): a snapshot is of a multiple of {DAY_MS} ms")
    known = history.known_at(midnight_ms)
    cards = _view(known.transactions, "card_id", CARD_VIEW, midnight_ms)
    terminals = _view(known.transactions, "terminal_id", TERMINAL_VIEW, midnight_ms).join(
        _risk(known, midnight_ms), on="terminal_id", how="full", coalesce=True
    )
    return Snapshot(
        midnight_ms, _typed(cards, "card_id", CARD_COLUMNS), _typed(terminals, "terminal_id", TERMINAL_COLUMNS)
    )


def _view(rows: pl.DataFrame, entity: str, view: FeatureView, midnight_ms: int) -> pl.DataFrame:
    """The view's columns of every entity with a row in its longest window."""
    inside = rows.filter(_at >= midnight_ms - max(w.length_ms for w in view.windows))
    prefix = f"{PREFIX}_{view.entity}"
    found = inside.group_by(entity).agg(
        *[each for w in view.windows for each in _amounts(prefix, w.name, midnight_ms - w.length_ms)],
        ((midnight_ms - _at.max()) / DAY_MS).alias(f"{prefix}_days_since_last"),
    )
    for aggregate in view.aggregates:
        if aggregate.name in _DISTINCT:
            counted = _distinct(inside, entity, view, aggregate.name, midnight_ms)
            found = found.join(counted, on=entity, how="left")
    return found


def _amounts(prefix: str, window: str, from_ms: int) -> list[pl.Expr]:
    amount = _AMOUNT.filter(_at >= from_ms)
    return [
        amount.len().alias(f"{prefix}_count_{window}"),
        amount.sum().alias(f"{prefix}_sum_amount_minor_{window}"),
        amount.mean().alias(f"{prefix}_mean_amount_minor_{window}"),
        amount.std(ddof=0).alias(f"{prefix}_std_amount_minor_{window}"),
        amount.max().alias(f"{prefix}_max_amount_minor_{window}"),
    ]


def _distinct(rows: pl.DataFrame, entity: str, view: FeatureView, name: str, midnight_ms: int) -> pl.DataFrame:
    """How many different values of a column fall into each window: a pair counts by when it was last seen."""
    of = _DISTINCT[name]
    pairs = rows.filter(pl.col(of).is_not_null()).group_by(entity, of).agg(_at.max().alias("_last"))
    return pairs.group_by(entity).agg(
        (pl.col("_last") >= midnight_ms - w.length_ms).sum().alias(f"{PREFIX}_{view.entity}_{name}_{w.name}")
        for w in view.windows
    )


def _risk(known: History, midnight_ms: int) -> pl.DataFrame:
    """Delayed risk: of the transactions older than the label delay, how many are known fraud."""
    ends_ms = midnight_ms - RISK_VIEW.delay_ms
    matured = known.transactions.filter(_at < ends_ms)
    newest = known.labels.sort("known_at_ms", maintain_order=True).unique(
        ["transaction_id", "card_id"], keep="last", maintain_order=True
    )
    labelled = matured.join(newest, on=["transaction_id", "card_id"], how="left")
    prefix, columns = f"{PREFIX}_{RISK_VIEW.entity}", []
    for w in RISK_VIEW.windows:
        inside = _at >= ends_ms - w.length_ms
        matured_count, fraud_count = inside.sum(), (inside & pl.col("is_fraud").fill_null(False)).sum()
        columns += [
            matured_count.alias(f"{prefix}_matured_count_{w.name}"),
            fraud_count.alias(f"{prefix}_fraud_count_{w.name}"),
            pl.when(matured_count > 0).then(fraud_count / matured_count).alias(f"{prefix}_fraud_share_{w.name}"),
        ]
    return labelled.group_by("terminal_id").agg(columns)


def _typed(found: pl.DataFrame, entity: str, columns: tuple[str, ...]) -> pl.DataFrame:
    """float32 columns in their order by entity; what is absent is 0 for counts and sums, NaN for the rest."""
    counts = ("_count_", "_sum_", "_distinct_")
    filled = [
        pl.col(name).cast(pl.Float32).fill_null(0.0 if any(part in name for part in counts) else float("nan"))
        for name in columns
    ]
    return found.sort(entity).select(entity, *filled)
