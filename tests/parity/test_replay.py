"""Replay: the vectors that are computed again from the lake's logs are those that the stream served, bit for bit.

Rule 1. The log is that of the parity meter's tests: tied, late, duplicated and bad transactions, labels 300 places behind; its
        served side is made by the fold at odd batch sizes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from adapters.lake import Lake, LakeGapError
from fraud.columns import CardColumns
from fraud.features import FEATURE_HASH, NAMES
from fraud.fold import ACCEPTED, TRANSACTION, CardFold
from fraud.packed import OriginMarks
from tests.parity.test_parity_meter import ROWS, labels_of, log_of_transactions, terminal_log, write_served
from trainer.chunk import LogRecord, chunk_for
from trainer.replay import NothingToReplayError, replayed, served_or_replayed

TRANSACTIONS = log_of_transactions()
LABELS = labels_of(TRANSACTIONS)
OFFSETS = np.array([i if i < 100 else i + 1 for i in range(len(TRANSACTIONS))])


def put(lake: Lake, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    for first in range(0, len(records), 250):
        chunk = chunk_for(topic, first, OriginMarks())
        for i, (key, value) in enumerate(records[first : first + 250]):
            chunk.take([LogRecord(first + i, key, value, 0)])
        lake.write_chunk(topic, 0, (chunk.first, chunk.next), chunk.frame(), {})


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(tmp_path_factory.mktemp("replay"))
    records = [(t.card_id.encode(), t.to_json()) for t in TRANSACTIONS]
    put(made, "transactions", [*records[:100], (b"c1", b"{not json"), *records[100:]])
    put(made, "labels", [(label.terminal_id.encode(), label.to_json()) for label in LABELS])
    log = terminal_log(TRANSACTIONS, OFFSETS, LABELS)
    write_served(made, TRANSACTIONS, OFFSETS, LABELS, log)
    write_terminal_log(made, log)
    return made


def write_terminal_log(lake: Lake, log: list[tuple[int, int]], name: str = "terminal-log") -> None:
    """With the columns that the archiver keeps."""
    accepted = CardFold().apply([t.card_id for t in TRANSACTIONS], CardColumns.of(TRANSACTIONS)).outcome == ACCEPTED
    rows = [(kind, i) for kind, i in log if kind != TRANSACTION or accepted[i]]
    things = [TRANSACTIONS[i] if kind == TRANSACTION else LABELS[i] for kind, i in rows]
    is_label = [kind != TRANSACTION for kind, _ in rows]
    frame = pl.DataFrame(
        {
            "origin_topic": ["labels" if label else "transactions" for label in is_label],
            "origin_partition": 0,
            "origin_offset": [i if label else int(OFFSETS[i]) for label, (_, i) in zip(is_label, rows, strict=True)],
            "terminal_id": [thing.terminal_id for thing in things],
            "transaction_id": [thing.transaction_id for thing in things],
            "occurred_at_ms": [thing.occurred_at_ms for thing in things],
            "amount_minor": [getattr(thing, "amount_minor", None) for thing in things],
            "is_fraud": pl.Series([int(getattr(t, "is_fraud", 0)) for t in things], dtype=pl.UInt8),
        }
    )
    lake.write_chunk(name, 0, (0, 9), frame, {})


def bits(frame: pl.DataFrame) -> bytes:
    return frame.select(NAMES).to_numpy(order="c").tobytes()


def test_what_was_served_is_computed_again_bit_for_bit(lake: Lake) -> None:
    served = lake.scan("features").collect()
    again = replayed(lake)
    assert again.height == served.height == ROWS
    assert bits(again) == bits(served)
    names = [
        TRANSACTIONS[int(np.flatnonzero(offset == OFFSETS)[0])].transaction_id for offset in served["origin_offset"]
    ]
    assert again["transaction_id"].to_list() == names


def test_another_order_of_the_terminals_log_gives_other_vectors(lake: Lake, tmp_path: Path) -> None:
    other = Lake(tmp_path)
    put(other, "transactions", [(t.card_id.encode(), t.to_json()) for t in TRANSACTIONS])
    log = terminal_log(TRANSACTIONS, OFFSETS, LABELS)
    write_terminal_log(
        other, [*[row for row in log if row[0] == TRANSACTION], *[row for row in log if row[0] != TRANSACTION]]
    )
    assert bits(replayed(other)) != bits(replayed(lake)), "labels that come last tell nothing"


def test_a_period_is_cut_after_the_fold_and_not_before(lake: Lake) -> None:
    every = replayed(lake)
    middle = int(every["occurred_at_ms"].median())  # type: ignore[arg-type]
    later = replayed(lake, from_ms=middle)
    assert 0 < later.height < every.height
    assert bits(later) == bits(every.filter(pl.col("occurred_at_ms") >= middle))


def test_vectors_of_these_features_are_taken_as_served_and_the_others_computed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put(lake, "transactions", [(t.card_id.encode(), t.to_json()) for t in TRANSACTIONS[:295]])
    write_terminal_log(lake, [(TRANSACTION, i) for i in range(100)])
    every = replayed(lake)
    marked = every[50:].with_columns(pl.lit(-1.0, pl.Float32).alias(NAMES[0]))
    lake.write_chunk("features", 0, (0, 50), every[:50].rename({NAMES[0]: "old"}), {}, "old")
    lake.write_chunk("features", 0, (50, 100), marked, {}, FEATURE_HASH)
    found = served_or_replayed(lake, 0, 1 << 62).collect()
    assert found.height == every.height
    assert (found[NAMES[0]] == -1).sum() == every.height - 50


def test_a_gap_is_refused_and_an_empty_lake_too(tmp_path: Path) -> None:
    with pytest.raises(NothingToReplayError, match="no transactions"):
        replayed(Lake(tmp_path))
    put(Lake(tmp_path), "transactions", [(t.card_id.encode(), t.to_json()) for t in TRANSACTIONS])
    Lake(tmp_path).files("transactions")[0].path.unlink()
    with pytest.raises(LakeGapError, match=r"offsets 0 \.\. 249"):
        replayed(Lake(tmp_path))
