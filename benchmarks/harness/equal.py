"""Before anything is timed: every subject computes the same features and scores of the same rows.

Rule 1. The measure is the product's fold over the rows (trainer.backfill), as float32, bit for bit; NaN equals NaN.
Rule 2. A peer's scores must equal the forest's within 1e-6; a difference ends the run and names the first row.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import polars as pl
import xgboost as xgb

from benchmarks.harness.agreed import AGREED, PLACES, AgreedModel
from benchmarks.harness.load import Order
from benchmarks.harness.loader import Loader
from benchmarks.harness.ours import OurStack
from benchmarks.harness.peers import PeerStack, answer_of
from benchmarks.harness.receiver import Receiver
from benchmarks.harness.rows import apart, number_of, of_hold
from benchmarks.harness.subject import Subject
from fraud import packed, topics
from fraud.fold import CARD_WIDTH
from fraud.model import Floats
from trainer.backfill import backfill

CHECK_ROWS: Final = 2_000
CHECK_CARDS: Final = 50  # few, so that 2,000 rows give each card a month of history
CHECK_RATE: Final = 500.0
CHECK_RATE_PEER: Final = 5_000.0  # so fast that batches form: an order that is lost within one shows
CHECK_S_MAX: Final = 180.0
SCORE_TOLERANCE: Final = 1e-6


class NotEqualError(RuntimeError):
    """A subject computes something else than the others; the message names row, feature and both values."""


def check_rows() -> pl.DataFrame:
    """The rows of the check."""
    return apart(CHECK_CARDS, CHECK_ROWS, "check")


def expected_features(rows: pl.DataFrame) -> Floats:
    """float32 [rows, agreed features] by the product's fold."""
    vectors = backfill(rows.drop("is_fraud", "scenario")).vectors.drop("transaction_id").to_numpy()
    return np.ascontiguousarray(vectors[:, PLACES], np.float32)


def expected_as_logged(rows: pl.DataFrame, order: list[int]) -> Floats:
    """As expected_features, where several partitions wrote terminal-log. order: of the rows there, terminal by terminal.

    A card's rows keep the order in which they were sent; which card's row comes first at a terminal, the log decides.
    """
    sent, logged = expected_features(rows), np.empty((rows.height, len(AGREED)), np.float32)
    logged[order] = expected_features(rows[order])
    return np.where(np.array(PLACES) < CARD_WIDTH, sent, logged)


def refuse_difference(name: str, features: Floats, expected: Floats, ids: list[str]) -> None:
    """Raise NotEqualError at the first value that differs. features, expected: float32 [rows, agreed features]."""
    if features.shape != expected.shape:
        raise NotEqualError(f"{name} gives features of shape {features.shape}, expected {expected.shape}")
    differs = ~((features == expected) | (np.isnan(features) & np.isnan(expected)))
    if differs.any():
        row, column = np.argwhere(differs)[0]
        raise NotEqualError(
            f"{name}: {int(differs.any(axis=1).sum())} of {len(ids)} rows differ, first {ids[row]}, {AGREED[column]}: "
            f"{features[row, column]}, expected {expected[row, column]}"
        )


def refuse_other_forest(name: str, scores: Floats, features: Floats, model: AgreedModel) -> None:
    """Raise NotEqualError unless the scores are the forest's. scores: float32 [rows]; features: float32 [rows, agreed features]."""
    booster = xgb.Booster({"nthread": 1}, model_file=bytearray(model.agreed))
    wanted = np.asarray(booster.inplace_predict(features, validate_features=False), np.float32)
    worst = float(np.abs(scores - wanted).max())
    if not worst <= SCORE_TOLERANCE:
        raise NotEqualError(f"{name}: equal features, but a score differs by {worst}: it scores with another model")


def check_peer(peer: PeerStack, loader: Loader, bootstrap: str, model: AgreedModel) -> int:
    """Send the check's rows to a peer that shows its features; return how many rows were equal. Raises NotEqualError."""
    rows = check_rows()
    expected = expected_features(rows)
    peer.forget()
    peer.start(show_features=True)
    try:
        with Receiver(bootstrap, peer.output, peer.partitions) as receiver:
            _send(loader, peer, CHECK_RATE_PEER)
            features, scores = _answers(peer, receiver, rows.height)
    finally:
        peer.stop()
        peer.forget()
    refuse_difference(peer.name, features, expected, rows["transaction_id"].to_list())
    refuse_other_forest(peer.name, scores, expected, model)
    return rows.height


def _send(loader: Loader, subject: Subject, rate: float) -> None:
    order = Order("check", "check", subject.topic, subject.partitions, rate, CHECK_ROWS, 0.01, cards=CHECK_CARDS)
    loader.prepare(order)
    loader.begin(time.time_ns())
    loader.ended(CHECK_ROWS / rate)


def _answers(peer: PeerStack, receiver: Receiver, count: int) -> tuple[Floats, Floats]:
    features: Floats = np.full((count, len(AGREED)), np.nan, np.float32)
    scores: Floats = np.full(count, np.nan, np.float32)
    answered = np.zeros(count, np.bool_)
    deadline_s = time.monotonic() + CHECK_S_MAX
    while not answered.all():
        if time.monotonic() > deadline_s:
            raise NotEqualError(
                f"{peer.name} answered {int(answered.sum())} of {count} rows within {CHECK_S_MAX:.0f} s"
            )
        peer.check()
        for _, value in receiver.take():
            answer = answer_of(value)
            number = number_of(answer.transaction_id, "check")
            if number is not None and answer.features is not None:
                features[number] = [np.nan if one is None else one for one in answer.features]
                scores[number], answered[number] = answer.score, True
        time.sleep(0.05)
    return features, scores


def check_ours(ours: OurStack, loader: Loader, bootstrap: str) -> int:
    """Send the check's rows to our running stack; return how many served vectors were equal. Raises NotEqualError."""
    rows = check_rows()
    features = np.full((rows.height, len(AGREED)), np.nan, np.float32)
    served: list[int] = []
    with Receiver(bootstrap, topics.FEATURES.name, ours.partitions) as receiver:
        _send(loader, ours, CHECK_RATE)
        deadline_s = time.monotonic() + CHECK_S_MAX
        while len(served) < rows.height:
            if time.monotonic() > deadline_s:
                raise NotEqualError(
                    f"{ours.name} served {len(served)} of {rows.height} rows within {CHECK_S_MAX:.0f} s"
                )
            ours.check()
            for _, value in receiver.take():
                batch = packed.unpack(value, (packed.VECTORS,))
                places, numbers = of_hold(batch.text("transaction_id"), "check")
                features[numbers] = batch.array("vector")[places][:, PLACES]
                served += numbers
            time.sleep(0.05)
    expected = expected_features(rows) if ours.partitions == 1 else expected_as_logged(rows, served)
    refuse_difference(ours.name, features, expected, rows["transaction_id"].to_list())
    return rows.height
