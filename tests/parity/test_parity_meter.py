"""The parity meter must find every kind of damage, and nothing where there is none.

Rule 1. The served side is made by the fold at odd batch sizes with tied, late, duplicated and bad transactions in the log.
Rule 2. Each damage is one change to one file of the lake, and the meter has to name it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from adapters.lake import Lake
from fraud.columns import CardColumns, TerminalColumns, known_hash
from fraud.features import FEATURE_HASH, NAMES
from fraud.fold import ACCEPTED, LABEL, TRANSACTION, CardFold, Outcomes, TerminalFold, is_striking
from fraud.fold_state import Int64s
from fraud.labels import Label
from fraud.model import Floats
from fraud.switches import META
from fraud.transaction import Transaction, id_hash
from fraud.windows import DAY_MS, HOUR_MS
from monitoring.parity import NothingServedError, Parity, measure_parity
from monitoring.parity_rounds import Cadence

BEGIN_MS = 1_522_540_800_000
ROWS = 600


def where(i: int) -> tuple[Any, ...]:
    """What version 2 adds, for three of four messages; some without device and place."""
    if i % 4 == 0:
        return (1,)
    place = (None, None) if i % 5 == 0 else (5000 + i % 40, 800 + i % 90)
    return (2, f"s{i % 11}", "5411", ("DE", "FR", "US")[i % 3], "online", None if i % 6 == 0 else f"d{i % 9}", *place)


def log_of_transactions() -> list[Transaction]:
    random = np.random.default_rng(5)
    at_ms = BEGIN_MS + np.arange(ROWS) * HOUR_MS - random.integers(0, 3, ROWS) * random.integers(0, DAY_MS, ROWS)
    made = [
        Transaction(
            f"t{i}", f"c{i % 7}", f"m{i % 5}", int(random.integers(0, 10_000)), "EUR", int(t), int(t), *where(i)
        )
        for i, t in enumerate(at_ms)
    ]
    return [*made[:300], made[295], *made[300:]]  # one is sent twice


def labels_of(transactions: list[Transaction]) -> list[Label]:
    return [
        Label(
            t.transaction_id,
            t.card_id,
            t.terminal_id,
            t.occurred_at_ms,
            i % 9 == 0,
            t.occurred_at_ms,
            "benchmark",
            t.occurred_at_ms,
        )
        for i, t in enumerate(transactions[:200])
    ]


def write_raw(lake: Lake, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    frame = pl.DataFrame(
        {"log_offset": range(len(records)), "key": [k for k, _ in records], "value": [v for _, v in records]},
        schema={"log_offset": pl.Int64, "key": pl.Binary, "value": pl.Binary},
    )
    for first in range(0, len(records), 250):
        part = frame[first : first + 250]
        lake.write_chunk(topic, 0, (first, first + part.height), part, {})


def served_lake(root: Path) -> Lake:
    """A lake as card stage, terminal stage and archiver would leave it, a bad record in the middle of `transactions`."""
    lake = Lake(root)
    transactions = log_of_transactions()
    labels = labels_of(transactions)
    records = [(t.card_id.encode(), t.to_json()) for t in transactions]
    write_raw(lake, "transactions", [*records[:100], (b"c1", b"{not json"), *records[100:]])
    write_raw(lake, "labels", [(label.terminal_id.encode(), label.to_json()) for label in labels])
    offsets = np.array([i if i < 100 else i + 1 for i in range(len(transactions))])
    log = terminal_log(transactions, offsets, labels)
    write_served(lake, transactions, offsets, labels, log)
    return lake


def terminal_log(transactions: list[Transaction], offsets: Int64s, labels: list[Label]) -> list[tuple[int, int]]:
    """(kind, index) in log order: a label stands 300 places behind its transaction."""
    log: list[tuple[int, int]] = []
    for i in range(len(transactions)):
        log.append((TRANSACTION, i))
        if 0 <= i - 300 < len(labels):
            log.append((LABEL, i - 300))
    return log


def write_served(
    lake: Lake,
    transactions: list[Transaction],
    offsets: Int64s,
    labels: list[Label],
    log: list[tuple[int, int]],
) -> None:
    cards = CardFold().apply([t.card_id for t in transactions], CardColumns.of(transactions))
    log = [(kind, i) for kind, i in log if kind == LABEL or cards.outcome[i] == ACCEPTED]
    fold, parts = TerminalFold(), []
    striking = is_striking(cards.vectors, np.array([t.amount_minor for t in transactions]))
    for at in range(0, len(log), 37):
        parts.append(apply_terminals(fold, log[at : at + 37], transactions, labels, striking))
    vectors, outcome = (np.concatenate(part) for part in zip(*parts, strict=True))
    origin = [int(offsets[i]) if kind == TRANSACTION else i for kind, i in log]
    topic = ["transactions" if kind == TRANSACTION else "labels" for kind, _ in log]
    order = pl.DataFrame({"origin_topic": topic, "origin_partition": 0, "origin_offset": origin})
    lake.write_chunk("terminal-log", 0, (0, 9), order, {})
    served = [at for at, (kind, _) in enumerate(log) if kind == TRANSACTION and outcome[at] == ACCEPTED]
    whole = np.concatenate([cards.vectors[[log[at][1] for at in served]], vectors[served]], axis=1)
    columns = {name: whole[:, i] for i, name in enumerate(NAMES)}
    frame = pl.DataFrame({"origin_partition": 0, "origin_offset": [origin[at] for at in served], **columns})
    lake.write_chunk("features", 0, (0, 9), frame, {}, FEATURE_HASH)


def apply_terminals(
    fold: TerminalFold,
    log: list[tuple[int, int]],
    transactions: list[Transaction],
    labels: list[Label],
    striking: npt.NDArray[np.uint8],
) -> tuple[Floats, Outcomes]:
    things = [transactions[i] if kind == TRANSACTION else labels[i] for kind, i in log]
    columns = TerminalColumns(
        np.array([kind for kind, _ in log], np.uint8),
        np.array([id_hash(thing.transaction_id) for thing in things], np.uint64),
        np.array([thing.occurred_at_ms for thing in things]),
        np.array([thing.amount_minor if isinstance(thing, Transaction) else 0 for thing in things]),
        np.array([known_hash(thing.card_id) for thing in things], np.uint64),
        np.array([thing.is_fraud if isinstance(thing, Label) else 0 for thing in things], np.uint8),
        np.array([striking[i] if kind == TRANSACTION else 0 for kind, i in log], np.uint8),
    )
    result = fold.apply([thing.terminal_id for thing in things], columns)
    return result.vectors, result.outcome


def rewrite(lake: Lake, topic: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    (file,) = lake.files(topic)
    lake.write_chunk(topic, 0, (file.first, file.next), change(pl.read_parquet(file.path)), {}, file.feature_hash)


def test_what_the_fold_served_holds_bit_for_bit(tmp_path: Path) -> None:
    found = measure_parity(served_lake(tmp_path), 1)
    assert found.holds
    assert (found.compared, found.refused, found.not_accepted, found.pending) == (ROWS, 1, 1, 0)
    assert set(found.mismatches.values()) == {0}


def test_a_sample_compares_some_of_the_rows(tmp_path: Path) -> None:
    found = measure_parity(served_lake(tmp_path), 1, sample=60)
    assert found.holds
    assert 20 < found.compared < 140


def changed_bit(frame: pl.DataFrame) -> pl.DataFrame:
    values = frame["terminal_count_7d"].to_numpy().copy()
    values[400] = np.nextafter(values[400], np.float32(np.inf))
    return frame.with_columns(pl.Series("terminal_count_7d", values))


def lost_value(frame: pl.DataFrame) -> pl.DataFrame:
    row = pl.int_range(pl.len()) == 500
    return frame.with_columns(
        pl.when(row)
        .then(float("nan"))
        .otherwise(pl.col("request_amount_minor"))
        .cast(pl.Float32)
        .alias("request_amount_minor")
    )


def test_one_bit_in_one_value_is_found_and_named(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    rewrite(lake, "features", changed_bit)
    found = measure_parity(lake, 1)
    assert (found.holds, found.mismatched_rows, found.mismatches["terminal_count_7d"]) == (False, 1, 1)
    assert 0 < found.largest_difference["terminal_count_7d"] < 1e-4


def test_a_value_that_became_no_value_is_an_infinite_difference(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    rewrite(lake, "features", lost_value)
    found = measure_parity(lake, 1)
    assert found.largest_difference["request_amount_minor"] == float("inf")


def counts(found: Parity) -> tuple[int, int, int, int]:
    return found.missing, found.extra, found.repeated, found.pending


def test_a_vector_that_was_never_served_is_missing_and_the_newest_ones_are_pending(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    rewrite(lake, "features", lambda f: pl.concat([f[:200], f[201:-3]]))
    assert counts(measure_parity(lake, 1)) == (1, 0, 0, 3)


def test_a_vector_that_was_served_twice_is_repeated(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    rewrite(lake, "features", lambda f: pl.concat([f[:200], f[199:]]))
    assert counts(measure_parity(lake, 1)) == (0, 0, 1, 0)


def test_a_vector_of_a_refused_record_is_extra(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    invented = pl.lit(100, pl.Int64).alias("origin_offset")  # the record that is not JSON
    rewrite(lake, "features", lambda f: pl.concat([f[:50], f[50:51].with_columns(invented), f[50:]]))
    assert counts(measure_parity(lake, 1)) == (0, 1, 0, 0)


def test_a_transaction_that_the_terminal_log_lost_breaks_what_follows_it(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    rewrite(lake, "terminal-log", lambda f: pl.concat([f[:200], f[201:]]))
    found = measure_parity(lake, 1)
    assert (found.missing, found.extra) == (1, 1)
    assert found.mismatched_rows > 0


def test_two_rows_swapped_in_the_terminal_log_are_found(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    rewrite(lake, "terminal-log", lambda f: pl.concat([f[:200], f[205:206], f[201:205], f[200:201], f[206:]]))
    assert measure_parity(lake, 1).mismatched_rows > 0


def test_a_lake_that_lags_in_one_topic_is_pending_not_wrong(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    lake.files("transactions")[-1].path.unlink()
    found = measure_parity(lake, 1)
    assert found.holds
    assert found.pending > 0
    assert found.compared > 0


def test_nothing_served_is_said(tmp_path: Path) -> None:
    with pytest.raises(NothingServedError, match="let transactions stream"):
        measure_parity(Lake(tmp_path), 1)


def served_wrongly(lake: Lake, under: str) -> int:
    """Put a wrong number into a third of the served rows, which say under which switches; returns how many."""
    third = pl.int_range(pl.len()) % 3 == 0

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            pl.when(third).then(pl.col("card_count_1h") + 1).otherwise(pl.col("card_count_1h")).cast(pl.Float32),
            pl.when(third).then(pl.lit(under)).alias(META),
        )

    rewrite(lake, "features", change)
    return -(-ROWS // 3)


def test_what_a_switch_has_done_counts_while_it_is_on_and_is_set_apart_when_it_is_off(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    wrong = served_wrongly(lake, "float-sums+hopping-windows")
    on = measure_parity(lake, 1, on=("hopping-windows",))
    assert (on.compared, on.mismatched_rows, on.mismatches["card_count_1h"], on.holds) == (ROWS, wrong, wrong, False)
    assert (
        measure_parity(lake, 1, sample=1, on=("hopping-windows",)).mismatched_rows == wrong
    )  # however small the sample
    off = measure_parity(lake, 1, on=("wall-clock",))
    assert (off.compared, off.mismatched_rows, off.holds) == (ROWS - wrong, 0, True)
    assert off.on_purpose == {"float-sums+hopping-windows": wrong}


def test_a_fault_beside_what_a_switch_has_done_is_still_found(tmp_path: Path) -> None:
    lake = served_lake(tmp_path)
    served_wrongly(lake, "float-sums")
    more = pl.col("card_sum_amount_minor_1h") + pl.col(META).is_null().cast(pl.Float32)
    rewrite(lake, "features", lambda frame: frame.with_columns(more))
    assert measure_parity(lake, 1).mismatches["card_sum_amount_minor_1h"] == ROWS - -(-ROWS // 3)


def test_a_replay_in_the_order_of_event_time_differs_where_something_was_late_and_only_there(tmp_path: Path) -> None:
    found = measure_parity(served_lake(tmp_path), 1, on=("event-time-replay",))
    assert not found.holds
    assert found.mismatches["card_count_24h"] > 0
    assert not any(count for name, count in found.mismatches.items() if name.startswith(("request_", "terminal_")))


def test_rounds_follow_each_other_while_a_switch_is_on_and_once_after_it() -> None:
    now, on = [0.0], [tuple[str, ...]()]
    cadence = Cadence(300, lambda: on[0], lambda: now[0])

    def due_at(seconds: float) -> bool:
        now[0] = seconds
        return cadence.due()

    assert [due_at(s) for s in (0, 1, 299, 300)] == [True, False, False, True]
    on[0] = ("float-sums",)
    assert [due_at(s) for s in (301, 310, 311, 320)] == [False, True, False, True]
    on[0] = ()
    assert [due_at(s) for s in (325, 330, 331, 340, 400, 630)] == [False, True, False, False, False, True]
