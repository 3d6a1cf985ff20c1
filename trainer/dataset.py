"""The training rows: vectors as they were served, joined with the labels that were known by a moment.

Rule 1. Vectors come from the lake as they were served; nothing is computed again, so training cannot skew from serving.
Rule 2. A label counts from known_at_ms on: only known_at_ms < as_of_ms is used, the newest such label of a transaction.
Rule 3. Without a label a transaction is genuine once the maturity horizon has passed, never earlier.
Rule 4. A declined transaction did not happen, so without a label it says nothing: it is left out (docs/adr/0016), unless labels
        are those of a benchmark, which tell of all. What was explored, that is let through, counts like any other.
Rule 5. A vector that was served under a break-it switch is wrong on purpose: it is left out, and counted.
Rule 6. Every split is a split of time, and whoever learns knows only labels known before the judged period begins.

     training of the judged fit        labels mature      validation         labels mature
   |-------------------------------)|----------------)|----------------)|----------------)
                                                       validation_from                    as_of
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from adapters.lake import Lake
from fraud import topics
from fraud.decision import DECLINE
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import Floats
from fraud.switches import META
from fraud.windows import DAY_MS


class TrainRefusedError(RuntimeError):
    """There is nothing to train on; the message says what is missing and from when on it will be there."""


@dataclass(frozen=True, slots=True)
class Maturity:
    """When a missing label means genuine: `horizon_ms` after the transaction, or never (`require_labels`)."""

    horizon_ms: int = 7 * DAY_MS
    require_labels: bool = False


@dataclass(frozen=True, slots=True)
class Split:
    """Event times of the periods, each from <= t < to, in ms.

    The judged fit learns on [judged_from, judged_to) and is measured on [validation_from, validation_to);
    the published fit learns on [final_from, validation_to). Labels: known before validation_from, and before as_of.
    """

    as_of_ms: int
    judged_from_ms: int
    judged_to_ms: int
    validation_from_ms: int
    validation_to_ms: int
    final_from_ms: int

    @classmethod
    def at(cls, as_of_ms: int, train_days: int, validation_days: int, maturity: Maturity) -> Split:
        """The split for training at `as_of_ms`."""
        matured_to = as_of_ms - maturity.horizon_ms
        validation_from = matured_to - validation_days * DAY_MS
        judged_to = validation_from - maturity.horizon_ms
        return cls(
            as_of_ms=as_of_ms,
            judged_from_ms=judged_to - train_days * DAY_MS,
            judged_to_ms=judged_to,
            validation_from_ms=validation_from,
            validation_to_ms=matured_to,
            final_from_ms=matured_to - train_days * DAY_MS,
        )

    @property
    def from_ms(self) -> int:
        """Begin of the earliest period."""
        return min(self.judged_from_ms, self.final_from_ms)


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows, in order of event time: columns transaction_id, card_id, occurred_at_ms, known_at_ms, is_fraud, NAMES.

    censored: how many declined ones were left out.
    """

    frame: pl.DataFrame
    censored: int = 0

    def __len__(self) -> int:
        return self.frame.height

    @property
    def vectors(self) -> Floats:
        """Float32 [rows, features], in the order of NAMES."""
        return np.ascontiguousarray(self.frame.select(NAMES).to_numpy(order="c"), np.float32)

    @property
    def is_fraud(self) -> Floats:
        """1.0 for fraud, 0.0 for genuine, [rows]."""
        return self.frame["is_fraud"].to_numpy().astype(np.float32)

    @property
    def fraud(self) -> int:
        """How many rows are fraud."""
        return int(self.frame["is_fraud"].sum())

    def between(self, from_ms: int, to_ms: int, known_before_ms: int) -> Rows:
        """The rows of an event time period whose label was known before a moment."""
        time = pl.col("occurred_at_ms")
        return Rows(self.frame.filter((time >= from_ms) & (time < to_ms) & (pl.col("known_at_ms") < known_before_ms)))


def labels_and_declined(lake: Lake) -> tuple[pl.LazyFrame, pl.LazyFrame | None]:
    """The lake's good labels, and what was declined, as dataset.rows_for() takes them. Raises TrainRefusedError."""
    try:
        labels = lake.scan(topics.LABELS.name).filter(pl.col("refused").is_null())
    except FileNotFoundError as error:
        raise TrainRefusedError(
            f"{error}: no label has arrived yet, so nothing is known to be fraud; let labels stream first"
        ) from error
    return labels, declined_of(lake, labels)


def declined_of(lake: Lake, labels: pl.LazyFrame) -> pl.LazyFrame | None:
    """What the lake's scores say was declined, as declined_in() tells it."""
    try:
        return declined_in(lake.scan(topics.SCORES.name), labels)
    except FileNotFoundError:
        return None  # nothing was scored, so nothing was declined


def without_switched(features: pl.LazyFrame) -> tuple[pl.LazyFrame, pl.LazyFrame | None]:
    """The vectors that were served with no break-it switch on, and the others; None when there are none of those."""
    if META not in features.collect_schema().names():
        return features, None
    return features.filter(pl.col(META).is_null()), features.filter(pl.col(META).is_not_null())


def declined_in(scores: pl.LazyFrame, labels: pl.LazyFrame) -> pl.LazyFrame | None:
    """transaction_id and card_id of what was declined; None where labels tell of the declined too (a benchmark's).

    scores: transaction_id, card_id, decision. labels: their source, when they have one.
    """
    if "source" in labels.collect_schema().names():
        benchmark = labels.select((pl.col("source") == "benchmark").any()).collect().item()
        if benchmark:
            return None
    return scores.filter(pl.col("decision") == DECLINE).select("transaction_id", "card_id").unique()


def point_in_time_join(
    features: pl.LazyFrame,
    labels: pl.LazyFrame,
    as_of_ms: int,
    maturity: Maturity,
    declined: pl.LazyFrame | None = None,
) -> pl.LazyFrame:
    """Each vector with the label known for its transaction at `as_of_ms`.

    features: transaction_id, card_id, occurred_at_ms and NAMES. labels: transaction_id, card_id, is_fraud, known_at_ms,
    in log order. declined: transaction_id, card_id. Adds is_fraud and known_at_ms, and is_censored: declined, without a label,
    and no row to learn from. A vector that is neither labelled nor mature is left out.
    """
    keys = ["transaction_id", "card_id"]
    newest = (
        labels.filter(pl.col("known_at_ms") < as_of_ms)
        .select(*keys, "is_fraud", "known_at_ms")
        .sort("known_at_ms", maintain_order=True)
        .unique(keys, keep="last", maintain_order=True)
    )
    joined = features.join(newest, on=keys, how="left", maintain_order="left")
    if declined is None:
        joined = joined.with_columns(is_censored=pl.lit(False))
    else:
        marked = declined.with_columns(_declined=pl.lit(True))
        was_declined = pl.col("_declined").fill_null(False)
        joined = (
            joined.join(marked, on=keys, how="left", maintain_order="left")
            .with_columns(is_censored=was_declined & pl.col("known_at_ms").is_null())
            .drop("_declined")
        )
    if maturity.require_labels:
        return joined.filter(pl.col("known_at_ms").is_not_null())
    return joined.with_columns(
        pl.col("is_fraud").fill_null(False),
        pl.col("known_at_ms").fill_null(pl.col("occurred_at_ms") + maturity.horizon_ms),
    ).filter(pl.col("known_at_ms") < as_of_ms)


def rows_for(
    features: pl.LazyFrame,
    labels: pl.LazyFrame,
    split: Split,
    maturity: Maturity,
    declined: pl.LazyFrame | None = None,
) -> Rows:
    """Every labelled row that the split's periods need; what is censored is counted and left out."""
    joined = labelled(features, labels, split, maturity, declined)
    return without_censored(joined.sort("occurred_at_ms", maintain_order=True).collect())


def labelled(
    features: pl.LazyFrame, labels: pl.LazyFrame, split: Split, maturity: Maturity, declined: pl.LazyFrame | None = None
) -> pl.LazyFrame:
    """As rows_for, in the features' order, the censored ones marked by is_censored."""
    time = pl.col("occurred_at_ms")
    wanted = features.filter((time >= split.from_ms) & (time < split.as_of_ms)).select(
        "transaction_id", "card_id", "occurred_at_ms", *NAMES
    )
    return point_in_time_join(wanted, labels, split.as_of_ms, maturity, declined)


def without_censored(found: pl.DataFrame) -> Rows:
    """Labelled rows in order of event time; what is censored is counted and left out."""
    censored = int(found["is_censored"].sum())
    frame = found.filter(~pl.col("is_censored")) if censored else found
    return Rows(frame.drop("is_censored"), censored)


def check_enough(rows: Rows, what: str, rows_min: int, fraud_min: int, remedy: str) -> None:
    """Refuse a period that a model cannot learn from or be judged on. Raises TrainRefusedError."""
    if len(rows) < rows_min or rows.fraud < fraud_min or rows.fraud == len(rows):
        raise TrainRefusedError(
            f"{what}: {len(rows)} labelled rows with {rows.fraud} fraud; needed are {rows_min} rows, "
            f"{fraud_min} fraud and some genuine ones; {remedy} (features {FEATURE_HASH})"
        )
