"""The parity meter: every vector that was served, computed again from the log and compared bit for bit.

Rule 1. Only the logs of `transactions` and `labels` give contents; `terminal-log` gives nothing but order and identity.
Rule 2. The fold is the stream's own (fraud/fold.py); what is tested is everything around it: order, state, crashes, transport.
Rule 3. Two values are equal when their 32 bits are; what the lake does not hold yet is pending, not missing.
Rule 4. A vector that was served under a break-it switch counts while the switch is on. When it is off, the vector is known to be
        wrong on purpose: it is counted apart, and the meter speaks of all the others.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from adapters.kafka import partition_for
from adapters.lake import Lake
from adapters.lake_file import LakeFile
from fraud import topics
from fraud.columns import CardColumns, TerminalColumns, known_hash
from fraud.dead_letters import BadMessageError
from fraud.features import CARD_NAMES, FEATURE_HASH, NAMES, REQUEST_NAMES
from fraud.fold import ACCEPTED, LABEL, TRANSACTION, CardFold, CardResult, TerminalFold, is_striking
from fraud.labels import parse_label
from fraud.switches import EVENT_TIME_REPLAY, META, names_in
from fraud.transaction import Transaction, id_hash
from fraud.transactions import parse_transactions

CHUNK_ROWS: Final = 50_000
_CARD_WIDTH: Final = len(REQUEST_NAMES) + len(CARD_NAMES)
_KEY_SHIFT: Final = 48  # an origin as one integer: partition above, offset below

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Say = Callable[[str], None]


class NothingServedError(RuntimeError):
    """The lake holds no vectors of these features, or not the logs' beginnings that they come from."""


@dataclass(slots=True)
class Parity:
    """What the comparison found.

    compared: rows on both sides. mismatched_rows: of them, with any other bit. mismatches: rows per feature.
    largest_difference: per feature, infinite where one side has no value. missing: should have been served and was not.
    extra: served and should not have been. repeated: served more than once. pending: the lake does not hold all of it yet.
    refused, not_accepted: records of `transactions` that are dead letters, and that the card's fold ignores or refuses.
    on: the break-it switches that are on. on_purpose: rows that were served under switches that are off again, by their names.
    """

    compared: int = 0
    mismatched_rows: int = 0
    mismatches: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    largest_difference: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 0.0))
    missing: int = 0
    extra: int = 0
    repeated: int = 0
    pending: int = 0
    refused: int = 0
    not_accepted: int = 0
    on: tuple[str, ...] = ()
    on_purpose: dict[str, int] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether what was served is exactly what should have been."""
        return not (self.mismatched_rows or self.missing or self.extra or self.repeated)


@dataclass(frozen=True, slots=True)
class _Cards:
    """The accepted transactions of one partition, by offset, with their card vectors."""

    offsets: Int64s
    terminal_ids: list[str]
    hashes: npt.NDArray[np.uint64]
    card_hashes: npt.NDArray[np.uint64]
    times: Int64s
    amounts: Int64s
    vectors: Floats
    log_end: int


@dataclass(frozen=True, slots=True)
class _Labels:
    """The good labels of one partition, by offset."""

    offsets: Int64s
    terminal_ids: list[str]
    hashes: npt.NDArray[np.uint64]
    times: Int64s
    is_fraud: npt.NDArray[np.uint8]
    log_end: int


@dataclass(frozen=True, slots=True)
class _Logs:
    """Both public logs by partition; `due`: where each accepted transaction belongs in `terminal-log` and `features`."""

    cards: dict[int, _Cards]
    labels: dict[int, _Labels]
    due: dict[int, npt.NDArray[np.int32]]


@dataclass(frozen=True, slots=True)
class _Served:
    """What `features` holds of one partition, by ascending origin key.

    counts: not wrong on purpose, or under a switch that is on. always: the latter, compared whatever the sample.
    """

    keys: Int64s
    vectors: Floats
    counts: Mask
    always: Mask


def measure_parity(
    lake: Lake,
    partitions: int,
    sample: int | None = None,
    say: Say = lambda _: None,
    on: tuple[str, ...] = (),
) -> Parity:
    """Compute everything again and compare all rows, or about `sample` of them chosen by the hash of their id, and all that were
    served under a switch that is on.

    partitions: of each data topic. on: the break-it switches that are on. Raises NothingServedError, LakeGapError.
    """
    served_rows = sum(file.rows for file in lake.files(topics.FEATURES.name) if file.feature_hash == FEATURE_HASH)
    if not served_rows:
        raise NothingServedError(
            f"the lake {lake.root} holds no vectors of features {FEATURE_HASH}: let transactions stream first"
        )
    _check_begins_with_the_log(lake)
    every = 1 if sample is None else max(1, served_rows // sample)
    parity = Parity(on=on)
    cards = {p: _fold_cards(lake, p, parity, say) for p in lake.partitions(topics.TRANSACTIONS.name)}
    labels = {p: _read_labels(lake, p) for p in lake.partitions(topics.LABELS.name)}
    logs = _Logs(cards, labels, _terminal_partitions(cards, partitions))
    for partition in lake.partitions(topics.TERMINAL_LOG.name):
        say(f"terminal-log/{partition}: folding and comparing")
        _compare_partition(lake, partition, logs, every, parity)
    return parity


def _check_begins_with_the_log(lake: Lake) -> None:
    for topic in (topics.TRANSACTIONS.name, topics.LABELS.name, topics.TERMINAL_LOG.name):
        for file in lake.files(topic):
            if (why := file.gone) is not None:
                raise NothingServedError(
                    f"{topic}/{file.partition}: offsets {file.first} .. {file.next - 1} were {why}: vectors are compared by "
                    "folding every log from its beginning, so parity needs a lake that has all of it (FRAUD_LAKE_KEEP_DAYS and "
                    "FRAUD_LAKE_SIZE_MAX_GIB unset, an archiver from the first record on)"
                )


def _fold_cards(lake: Lake, partition: int, parity: Parity, say: Say) -> _Cards:
    fold = CardFold(keep_changes=False)
    parts: list[tuple[Any, ...]] = []
    ids: list[str] = []
    done, log_end = 0, 0
    by_event_time = EVENT_TIME_REPLAY.name in parity.on
    frames = _chunks(lake, topics.TRANSACTIONS.name, partition, ["log_offset", "key", "value"])
    for frame in _at_once(frames) if by_event_time else frames:
        log_end = int(frame["log_offset"][-1]) + 1
        outcomes = parse_transactions(frame["key"].to_list(), frame["value"].to_list())
        good = [each for each in outcomes if not isinstance(each, BadMessageError)]
        offsets = frame["log_offset"].to_numpy()[[not isinstance(each, BadMessageError) for each in outcomes]]
        parity.refused += len(outcomes) - len(good)
        told = CardColumns.of(good)
        result = _by_event_time(fold, good, told) if by_event_time else fold.apply([t.card_id for t in good], told)
        kept = result.outcome == ACCEPTED
        parity.not_accepted += len(good) - int(kept.sum())
        paying = np.array([known_hash(t.card_id) for t in good], np.uint64)
        columns = (told.transaction_hash, paying, told.occurred_at_ms, told.amount_minor, result.vectors)
        parts.append((offsets[kept], *(column[kept] for column in columns)))
        ids += [sys.intern(t.terminal_id) for t, keep in zip(good, kept.tolist(), strict=True) if keep]
        done += frame.height
        if done // CHUNK_ROWS > (done - frame.height) // CHUNK_ROWS:
            say(f"transactions/{partition}: {done:,} records folded")
    if not parts:
        empty = [np.empty(0, dtype) for dtype in (np.int64, np.uint64, np.uint64, np.int64, np.int64)]
        parts = [(*empty, np.empty((0, _CARD_WIDTH), np.float32))]
    all_offsets, hashes, paying, times, amounts, vectors = (np.concatenate(c) for c in zip(*parts, strict=True))
    return _Cards(all_offsets, ids, hashes, paying, times, amounts, vectors, log_end)


def _at_once(frames: Iterator[pl.DataFrame]) -> list[pl.DataFrame]:
    whole = list(frames)
    return [pl.concat(whole)] if whole else []


def _by_event_time(fold: CardFold, good: Sequence[Transaction], told: CardColumns) -> CardResult:
    """The wrong way of `event-time-replay`: folded in the order of event time; the result stands in the log's order again."""
    order = np.argsort(told.occurred_at_ms, kind="stable")
    result = fold.apply([good[i].card_id for i in order.tolist()], told[order])
    back = np.argsort(order)
    return CardResult(result.vectors[back], result.outcome[back], result.late[back])


def _read_labels(lake: Lake, partition: int) -> _Labels:
    offsets, ids, hashes, times, fraud, log_end = [], [], [], [], [], 0
    for frame in _chunks(lake, topics.LABELS.name, partition, ["log_offset", "key", "value"]):
        log_end = int(frame["log_offset"][-1]) + 1
        for offset, key, value in frame.iter_rows():
            try:
                label = parse_label(value, key)
            except BadMessageError:
                continue
            offsets.append(offset)
            ids.append(sys.intern(label.terminal_id))
            hashes.append(id_hash(label.transaction_id))
            times.append(label.occurred_at_ms)
            fraud.append(label.is_fraud)
    return _Labels(
        np.array(offsets, np.int64),
        ids,
        np.array(hashes, np.uint64),
        np.array(times, np.int64),
        np.array(fraud, np.uint8),
        log_end,
    )


def _chunks(lake: Lake, topic: str, partition: int, columns: list[str]) -> Iterator[pl.DataFrame]:
    """The rows of a partition in log order, at most CHUNK_ROWS at once."""
    for file in lake.files(topic, partition):
        frame = pl.read_parquet(file.path, columns=columns)
        yield from frame.iter_slices(CHUNK_ROWS)


def _terminal_partitions(cards: dict[int, _Cards], partitions: int) -> dict[int, npt.NDArray[np.int32]]:
    return {
        p: np.fromiter((partition_for(i, partitions) for i in c.terminal_ids), np.int32, len(c.terminal_ids))
        for p, c in cards.items()
    }


def _compare_partition(
    lake: Lake,
    partition: int,
    logs: _Logs,
    every: int,
    parity: Parity,
) -> None:
    """Fold one terminal-log partition again, compare what was served from it, and account for every other row."""
    fold = TerminalFold(keep_changes=False)
    served = _served(lake, partition, parity)
    logged: list[Int64s] = []
    computed: list[Int64s] = []
    for frame in _chunks(
        lake, topics.TERMINAL_LOG.name, partition, ["origin_topic", "origin_partition", "origin_offset"]
    ):
        rows, is_cut = _located(frame, logs, parity)
        keys, vectors, accepted = _fold_terminals(fold, rows)
        logged.append(keys)
        computed.append(keys[accepted])
        _compare(
            keys[accepted], vectors[accepted], rows.hashes[rows.kind == TRANSACTION][accepted], served, every, parity
        )
        if is_cut:
            break
    _account(partition, logs, _joined(logged), _joined(computed), served.keys, parity)


def _account(partition: int, logs: _Logs, logged: Int64s, computed: Int64s, served: Int64s, parity: Parity) -> None:
    """Rows on one side only: behind the other side's newest of the same origin they are wrong, beyond it pending."""
    expected = _joined([_keys(o, cards.offsets[logs.due[o] == partition]) for o, cards in logs.cards.items()])
    never_logged = expected[~np.isin(expected, logged)]
    never_served = computed[~np.isin(computed, served)]
    unexplained = served[~np.isin(served, computed)]
    not_logged, pending_log = _split(never_logged, logged)
    not_served, pending_served = _split(never_served, served)
    extra, pending_lake = _split(unexplained, logged)
    parity.missing += not_logged + not_served
    parity.extra += extra
    parity.pending += pending_log + pending_served + pending_lake


def _split(keys: Int64s, reached: Int64s) -> tuple[int, int]:
    """How many of `keys` lie at or below the highest key that was reached of their origin partition, and how many above."""
    origins = reached >> _KEY_SHIFT
    newest = {int(o): int(reached[origins == o].max()) for o in np.unique(origins)}
    below = sum(key <= newest.get(key >> _KEY_SHIFT, -1) for key in keys.tolist())
    return below, len(keys) - below


@dataclass(frozen=True, slots=True)
class _TerminalRows:
    """Rows of a terminal's log with their contents, as the fold takes them."""

    kind: npt.NDArray[np.uint8]
    keys: Int64s
    ids: list[str]
    hashes: npt.NDArray[np.uint64]
    card_hashes: npt.NDArray[np.uint64]
    times: Int64s
    amounts: Int64s
    is_fraud: npt.NDArray[np.uint8]
    card_vectors: Floats


def _located(frame: pl.DataFrame, logs: _Logs, parity: Parity) -> tuple[_TerminalRows, bool]:
    """Find the contents of log rows by their origins; stop before the first whose origin the lake does not hold yet."""
    is_label = (frame["origin_topic"] == topics.LABELS.name).to_numpy()
    origins, offsets = frame["origin_partition"].to_numpy(), frame["origin_offset"].to_numpy().astype(np.int64)
    index = np.full(frame.height, -1, np.int64)
    ends = np.zeros(frame.height, np.int64)
    for sources, kind in ((logs.cards, False), (logs.labels, True)):
        for origin in np.unique(origins[is_label == kind]).tolist():
            mine = (is_label == kind) & (origins == origin)
            if (source := sources.get(origin)) is not None:
                index[mine] = _find(source.offsets, offsets[mine])
                ends[mine] = source.log_end
    beyond = np.flatnonzero(offsets >= ends)
    size = int(beyond[0]) if len(beyond) else frame.height
    parity.pending += frame.height - size
    known = np.flatnonzero(index[:size] >= 0)
    parity.extra += size - len(known)
    return _contents(is_label[known], origins[known], offsets[known], index[known], logs), size < frame.height


def _contents(is_label: Mask, origins: Int64s, offsets: Int64s, index: Int64s, logs: _Logs) -> _TerminalRows:
    rows = len(index)
    ids = [""] * rows
    hashes, times, amounts = np.zeros(rows, np.uint64), np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    card_hashes = np.zeros(rows, np.uint64)
    is_fraud, vectors = np.zeros(rows, np.uint8), np.full((rows, _CARD_WIDTH), np.nan, np.float32)
    for origin in np.unique(origins).tolist():
        at = np.flatnonzero((origins == origin) & ~is_label)
        if len(at):
            cards, found = logs.cards[origin], index[at]
            hashes[at], times[at], amounts[at] = cards.hashes[found], cards.times[found], cards.amounts[found]
            card_hashes[at], vectors[at] = cards.card_hashes[found], cards.vectors[found]
            _put(ids, at, cards.terminal_ids, found)
        at = np.flatnonzero((origins == origin) & is_label)
        if len(at):
            labels, found = logs.labels[origin], index[at]
            hashes[at], times[at], is_fraud[at] = labels.hashes[found], labels.times[found], labels.is_fraud[found]
            _put(ids, at, labels.terminal_ids, found)
    kind = np.where(is_label, LABEL, TRANSACTION).astype(np.uint8)
    return _TerminalRows(kind, _keys(origins, offsets), ids, hashes, card_hashes, times, amounts, is_fraud, vectors)


def _put(ids: list[str], at: Int64s, names: list[str], found: Int64s) -> None:
    for i, j in zip(at.tolist(), found.tolist(), strict=True):
        ids[i] = names[j]


def _fold_terminals(fold: TerminalFold, rows: _TerminalRows) -> tuple[Int64s, Floats, Mask]:
    """Keys and whole vectors of the chunk's transactions, and which of them the terminal's fold accepts."""
    striking = is_striking(rows.card_vectors, rows.amounts)
    told = TerminalColumns(rows.kind, rows.hashes, rows.times, rows.amounts, rows.card_hashes, rows.is_fraud, striking)
    result = fold.apply(rows.ids, told)
    is_transaction = rows.kind == TRANSACTION
    vectors = np.concatenate([rows.card_vectors[is_transaction], result.vectors[is_transaction]], axis=1)
    return rows.keys[is_transaction], vectors, result.outcome[is_transaction] == ACCEPTED


def _served(lake: Lake, partition: int, parity: Parity) -> _Served:
    """Everything served of a partition, by origin."""
    files = [f for f in lake.files(topics.FEATURES.name, partition) if f.feature_hash == FEATURE_HASH]
    if not files:
        return _Served(np.empty(0, np.int64), np.empty((0, len(NAMES)), np.float32), *[np.empty(0, np.bool_)] * 2)
    frame = pl.concat([_with_switches(file) for file in files])
    keys = _keys(frame["origin_partition"].to_numpy(), frame["origin_offset"].to_numpy())
    vectors = frame.select(NAMES).to_numpy(order="c")
    distinct, first = np.unique(keys, return_index=True)
    parity.repeated += len(keys) - len(distinct)
    in_order = len(distinct) == len(keys) and bool(np.all(np.diff(first) == 1))
    counts = _counts(frame[META], parity)[first]
    always = counts & frame[META].is_not_null().to_numpy()[first]
    return _Served(distinct, vectors if in_order else vectors[first], counts, always)


def _with_switches(file: LakeFile) -> pl.DataFrame:
    columns = ["origin_partition", "origin_offset", *NAMES]
    if META in file.schema():
        return pl.read_parquet(file.path, columns=[*columns, META], glob=False)
    return pl.read_parquet(file.path, columns=columns, glob=False).with_columns(pl.lit(None, pl.String).alias(META))


def _counts(under: pl.Series, parity: Parity) -> Mask:
    """Which rows count: those under no switch, or under one that is on now. The others are counted apart."""
    over = [name for name in under.drop_nulls().unique().to_list() if not set(names_in(name)) & set(parity.on)]
    for name in over:
        parity.on_purpose[name] = parity.on_purpose.get(name, 0) + int((under == name).sum())
    counts: Mask = ~under.is_in(over).fill_null(value=False).to_numpy()
    return counts


def _compare(
    keys: Int64s, vectors: Floats, hashes: npt.NDArray[np.uint64], served: _Served, every: int, parity: Parity
) -> None:
    index = _find(served.keys, keys)
    found = np.flatnonzero(index >= 0)
    at = index[found]
    both = found[served.counts[at] & ((hashes[found] % np.uint64(every) == 0) | served.always[at])]
    mine, theirs = np.ascontiguousarray(vectors[both]), np.ascontiguousarray(served.vectors[index[both]])
    differs = mine.view(np.uint32) != theirs.view(np.uint32)
    parity.compared += len(both)
    parity.mismatched_rows += int(differs.any(axis=1).sum())
    for i in np.flatnonzero(differs.any(axis=0)).tolist():
        wrong = differs[:, i]
        distance = np.abs(mine[wrong, i].astype(np.float64) - theirs[wrong, i].astype(np.float64))
        largest = float(np.where(np.isnan(distance), np.inf, distance).max())
        parity.mismatches[NAMES[i]] += int(wrong.sum())
        parity.largest_difference[NAMES[i]] = max(parity.largest_difference[NAMES[i]], largest)


def _find(ascending: Int64s, wanted: Int64s) -> Int64s:
    """Index of each wanted value, -1 where absent."""
    if not len(ascending):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[at] == wanted, at, -1)


def _keys(origin_partition: Any, origin_offset: Any) -> Int64s:
    keys: Int64s = (np.asarray(origin_partition, np.int64) << _KEY_SHIFT) | np.asarray(origin_offset, np.int64)
    return keys


def _joined(parts: Sequence[Int64s]) -> Int64s:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
