"""Each wrong way of serving against the naive oracle that is wrong in the same way, and in no other.

Rule 1. The oracle rescans; of a wrong way it knows the one sentence that docs/break-it.md says.
Rule 2. Each way has its control: a log in which its rule makes no difference gives the true vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from fraud.features import CARD_HISTORY, CARD_SPAN_MS, TERMINAL_HISTORY, TERMINAL_NAMES
from fraud.fold import ACCEPTED, LABEL, TRANSACTION, CardFold, TerminalFold, is_striking
from fraud.switches import FLOAT_SUMS, HOPPING_WINDOWS, LATE_DROPPED, SWITCHES, WALL_CLOCK, Side
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS
from fraud.wrong_ways import CARD_COLUMNS, HOP_MS
from stream_features.wrong_folds import WrongCards, WrongTerminals
from tests.parity.folded_logs import Row, card_columns, terminal_columns
from tests.parity.oracle import CardOracle, Paid, TerminalOracle, float32

T = 1_530_000_000_000
ROWS = 150
BEHIND_MS = 3 * HOUR_MS  # the wall clock's distance from event time
SERVING = tuple(switch.name for switch in SWITCHES if switch.side is Side.SERVING)
Vectors = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def log_of(seed: int, late_share: float) -> list[Row]:
    """Two cards, three terminals, bursts of minutes, some late; labels follow for the terminals' log."""
    random = np.random.default_rng(seed)
    times = T + np.cumsum(random.choice([40_000, 4 * MINUTE_MS, 9 * HOUR_MS], ROWS, p=[0.4, 0.4, 0.2]))
    late = random.random(ROWS) < late_share
    times = np.where(late, times - random.integers(MINUTE_MS, 2 * DAY_MS, ROWS), times)
    return [
        Row(
            f"c{i % 2}",
            i + 1,
            int(t),
            int(random.integers(1, 90_000)),
            other=f"t{i % 3}",
            merchant=f"m{i % 5}",
            device=f"d{i % 4}",
        )
        for i, t in enumerate(times)
    ]


def of_terminals(rows: list[Row]) -> list[Row]:
    made: list[Row] = []
    for i, row in enumerate(rows):
        made.append(Row(row.other, row.id_hash, row.t, row.amount, other=row.entity))
        if i >= 20 and i % 4 == 0:
            of = rows[i - 20]
            made.append(Row(of.other, of.id_hash, of.t, 0, LABEL, 1))
    return made


def served_cards(ways: tuple[str, ...], rows: list[Row]) -> tuple[Vectors, CardFold]:
    fold, told = CardFold(), card_columns(rows)
    result, striking = WrongCards().apply(fold, ways, [r.entity for r in rows], told, told.occurred_at_ms - BEHIND_MS)
    assert (result.outcome == ACCEPTED).all()
    assert (striking == is_striking(CardFold().apply([r.entity for r in rows], told).vectors, told.amount_minor)).all()
    return result.vectors, fold


def served_terminals(ways: tuple[str, ...], rows: list[Row]) -> tuple[Vectors, TerminalFold]:
    fold, told = TerminalFold(), terminal_columns(rows)
    result = WrongTerminals().apply(fold, ways, [r.entity for r in rows], told, told.occurred_at_ms - BEHIND_MS)
    return result.vectors[told.kind == TRANSACTION], fold


@dataclass
class WrongOracle:
    """What is served under one wrong way, from everything that arrived before. late: id hashes that were forgotten."""

    way: str
    late: set[int] = field(default_factory=set)

    def seen(self, seen: list[Paid], t: int) -> list[Paid]:
        """What this way still knows of the entity."""
        if self.way == LATE_DROPPED.name:
            return [y for y in seen if y.id_hash not in self.late]
        newest = max((y.t for y in seen), default=t)
        return [] if self.way == WALL_CLOCK.name and t - BEHIND_MS < newest - CARD_SPAN_MS else seen

    def time(self, t: int) -> int:
        return t - BEHIND_MS if self.way == WALL_CLOCK.name else t

    def note(self, seen: list[Paid], x: Paid) -> None:
        if seen and x.t < max(y.t for y in seen):
            self.late.add(x.id_hash)


def in_windows(name: str) -> bool:
    return name.rpartition("_")[2] in {"5m", "1h", "24h", "1d", "7d", "28d", "30d"}


def hopped(names: tuple[str, ...], true: list[float], at_hop: list[float]) -> list[float]:
    return [h if in_windows(name) else v for name, v, h in zip(names, true, at_hop, strict=True)]


def expected_cards(way: str, rows: list[Row]) -> Vectors:
    oracle, wrong, made = CardOracle(), WrongOracle(way), []
    for row in rows:
        x, seen = row.paid(), oracle.seen.setdefault(row.entity, [])
        moved = row.paid()
        moved.t = wrong.time(x.t)
        values = oracle.vector(wrong.seen(seen, x.t), moved)
        if way == HOPPING_WINDOWS.name:
            moved.t = x.t // HOP_MS * HOP_MS
            values = hopped(CARD_COLUMNS, values, oracle.vector(seen, moved))
        wrong.note(seen, x)
        made.append(float32(values))
        oracle.vector(seen, x)  # notes on x what its true history makes of it: that is kept, whatever is on
        seen.append(x)
    return np.array(made)


def expected_terminals(way: str, rows: list[Row]) -> Vectors:
    oracle, wrong, made = TerminalOracle(), WrongOracle(way), []
    for row in rows:
        if row.kind == LABEL:
            oracle.label(row.entity, row.id_hash, row.t, bool(row.is_fraud))
            continue
        x, seen = row.paid(), oracle.seen.setdefault(row.entity, [])
        values = oracle.vector(wrong.seen(seen, x.t), wrong.time(x.t))
        if way == HOPPING_WINDOWS.name:
            values = hopped(TERMINAL_NAMES, values, oracle.vector(seen, x.t // HOP_MS * HOP_MS))
        wrong.note(seen, x)
        made.append(float32(values))
        seen.append(x)
    return np.array(made)


def same(a: Vectors, b: Vectors) -> bool:
    return a.tobytes() == np.ascontiguousarray(b).tobytes()


@pytest.mark.parametrize("way", [WALL_CLOCK.name, HOPPING_WINDOWS.name, LATE_DROPPED.name])
def test_a_wrong_way_is_wrong_in_exactly_the_rule_that_it_names(way: str) -> None:
    rows = log_of(1, 0.2)
    assert same(served_cards((way,), rows)[0], expected_cards(way, rows))
    assert same(served_terminals((way,), of_terminals(rows))[0], expected_terminals(way, of_terminals(rows)))


@pytest.mark.parametrize("way", SERVING)
def test_a_wrong_way_is_wrong_and_leaves_the_state_right(way: str) -> None:
    rows = log_of(2, 0.2)
    for served, fold, log, right in (
        (*served_cards((way,), rows), rows, expected_cards("", rows)),
        (*served_terminals((way,), of_terminals(rows)), of_terminals(rows), expected_terminals("", of_terminals(rows))),
    ):
        assert not same(served, right)
        true = type(fold)()
        told = card_columns(log) if isinstance(true, CardFold) else terminal_columns(log)
        true.apply([row.entity for row in log], told)  # type: ignore[arg-type]  # the columns of its own kind
        assert fold.take_changes() == true.take_changes()
        for entity in {row.entity for row in log}:
            assert fold.history(entity).tobytes() == true.history(entity).tobytes()


def test_without_a_wrong_way_the_slow_path_serves_the_truth() -> None:
    rows = log_of(3, 0.2)
    assert same(served_cards((), rows)[0], expected_cards("", rows))
    assert same(served_terminals((), of_terminals(rows))[0], expected_terminals("", of_terminals(rows)))


def test_where_nothing_is_late_to_drop_late_ones_is_the_truth() -> None:
    rows = log_of(4, 0.0)
    assert same(served_cards((LATE_DROPPED.name,), rows)[0], expected_cards("", rows))


def test_late_ones_are_known_again_once_the_switch_is_off() -> None:
    rows, fold, wrong = log_of(5, 0.3), CardFold(), WrongCards()
    right, parts = expected_cards("", rows), []
    for ways, of in (
        ((LATE_DROPPED.name,), slice(0, 100)),
        ((FLOAT_SUMS.name,), slice(100, 101)),
        ((), slice(101, ROWS)),
    ):
        told = card_columns(rows[of])
        parts.append(wrong.apply(fold, ways, [r.entity for r in rows[of]], told, told.occurred_at_ms)[0].vectors)
    served = np.concatenate(parts)
    assert not same(served[:100], right[:100])
    assert same(served[101:], right[101:])


def test_float_sums_differ_in_sums_alone_and_by_little() -> None:
    rows = log_of(6, 0.1)
    served, right = served_cards((FLOAT_SUMS.name,), rows)[0], expected_cards("", rows)
    wrong = {CARD_COLUMNS[i] for i in np.flatnonzero((served.view(np.uint32) != right.view(np.uint32)).any(axis=0))}
    sums = {f"card_{name}_amount_minor_{w.name}" for w in CARD_HISTORY.windows for name in ("sum", "mean", "std")}
    assert wrong == sums | {"card_amount_over_mean_30d", "card_amount_deviations_30d"}
    for window in CARD_HISTORY.windows:
        at = CARD_COLUMNS.index(f"card_sum_amount_minor_{window.name}")
        assert np.abs(served[:, at] - right[:, at]).max() < 200  # minor units: nobody sees it, and no bit is sure
    terminals = of_terminals(rows)
    served, right = served_terminals((FLOAT_SUMS.name,), terminals)[0], expected_terminals("", terminals)
    wrong = {TERMINAL_NAMES[i] for i in np.flatnonzero((served.view(np.uint32) != right.view(np.uint32)).any(axis=0))}
    assert wrong == {f"terminal_sum_amount_minor_{w.name}" for w in TERMINAL_HISTORY.windows}


def test_a_wall_clock_that_is_right_gives_the_true_vectors() -> None:
    rows, fold = log_of(7, 0.0), CardFold()
    told = card_columns(rows)
    result, _ = WrongCards().apply(fold, (WALL_CLOCK.name,), [r.entity for r in rows], told, told.occurred_at_ms)
    assert same(result.vectors, expected_cards("", rows))


def test_a_hop_that_ends_with_each_transaction_gives_the_true_vectors() -> None:
    #  09:00     09:05     09:10
    #    |         x         |        x pays when a hop ends: nothing has happened since
    rows = [Row("c1", i + 1, T // HOP_MS * HOP_MS + i * HOP_MS, 100 + i) for i in range(40)]
    assert same(served_cards((HOPPING_WINDOWS.name,), rows)[0], expected_cards("", rows))


def test_a_history_far_behind_the_wall_clock_looks_empty() -> None:
    rows, fold = [Row("c1", 1, T, 100), Row("c1", 2, T + MINUTE_MS, 100)], CardFold()
    told = card_columns(rows)
    far = told.occurred_at_ms - 400 * DAY_MS
    vectors = WrongCards().apply(fold, (WALL_CLOCK.name,), ["c1", "c1"], told, far)[0].vectors
    assert vectors[1, CARD_COLUMNS.index("card_count_1h")] == 0
