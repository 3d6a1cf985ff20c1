"""Vectors as a nightly job would serve them: each entity's history as of the last midnight, the request as it is.

Rule 1. Nothing that happened or became known on the transaction's own day (UTC) is in its vector.
Rule 2. The same fold: only the moment of reading differs. A ratio to the history takes the request's own amount.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from benchmarks.handbook.rows import Floats, terminal_fold
from fraud.columns import CardColumns, TerminalColumns, known_hash
from fraud.features import NAMES, REQUEST_NAMES
from fraud.fold import LABEL, TRANSACTION, CardFold, is_striking
from fraud.transaction import id_hash
from fraud.windows import DAY_MS


def nightly_vectors(labelled: pl.DataFrame, read: slice, names: tuple[str, ...], delay_ms: int) -> Floats:
    """The named features of the rows `read`, float32 [rows read, names]; request features, being the row's own, are NaN.

    labelled: rows in order of time with label_is_fraud and label_known_at_ms.
    """
    rows = labelled[: read.stop]
    times = rows["occurred_at_ms"].to_numpy()
    hashes = np.array([id_hash(i) for i in rows["transaction_id"].to_list()], np.uint64)
    terminal_hash = np.array([known_hash(i) for i in rows["terminal_id"].to_list()], np.uint64)
    cards_of, terminals_of = rows["card_id"].to_list(), rows["terminal_id"].to_list()
    columns = CardColumns.bare(hashes, times, rows["amount_minor"].to_numpy(), terminal_hash)
    cards, terminals = CardFold(keep_changes=False), terminal_fold(delay_ms)(keep_changes=False)
    log = _Log(rows, hashes)
    out = np.empty((read.stop - read.start, len(NAMES)), np.float32)
    for midnight_ms in range(int(times[0]) // DAY_MS * DAY_MS, int(times[-1]) + 1, DAY_MS):
        first, after = np.searchsorted(times, [midnight_ms, midnight_ms + DAY_MS]).tolist()
        for i in range(max(first, read.start), after):
            asked = CardColumns.bare(
                hashes[i : i + 1], [midnight_ms], columns.amount_minor[i : i + 1], terminal_hash[i : i + 1]
            )
            vector = np.concatenate([cards.read(cards_of[i], asked), terminals.read(terminals_of[i], midnight_ms)])
            vector[: len(REQUEST_NAMES)] = np.nan
            out[i - read.start] = vector
        day = slice(first, after)
        log.striking[day] = is_striking(cards.apply(cards_of[day], columns[day]).vectors, columns.amount_minor[day])
        ids, told = log.of_day(midnight_ms)
        terminals.apply(ids, told)
    return out[:, [NAMES.index(name) for name in names]]


class _Log:
    """The terminals' log: transactions, and labels before the first transaction that is not earlier than they are known."""

    def __init__(self, rows: pl.DataFrame, hashes: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> None:
        labels = rows.with_row_index("row").filter(pl.col("label_known_at_ms") <= rows["occurred_at_ms"][-1])
        row = np.concatenate([labels["row"].to_numpy().astype(np.int64), np.arange(rows.height)])
        kind = np.repeat(np.array([LABEL, TRANSACTION], np.uint8), [labels.height, rows.height])
        time = np.concatenate([labels["label_known_at_ms"].to_numpy(), rows["occurred_at_ms"].to_numpy()])
        order = np.lexsort((row, kind == TRANSACTION, time))
        self._time, self._row, self._kind = time[order], row[order], kind[order]
        self._terminals = rows["terminal_id"].to_list()
        self._is_fraud = rows["label_is_fraud"].to_numpy().astype(np.uint8)
        self._columns = (hashes, rows["occurred_at_ms"].to_numpy(), rows["amount_minor"].to_numpy())
        self.striking = np.zeros(rows.height, np.uint8)  # filled day by day, before it is read
        self._cards = np.array([known_hash(i) for i in rows["card_id"].to_list()], np.uint64)

    def of_day(self, midnight_ms: int) -> tuple[list[str], TerminalColumns]:
        """The terminals and the log's rows of the day that begins at midnight_ms."""
        first, after = np.searchsorted(self._time, [midnight_ms, midnight_ms + DAY_MS]).tolist()
        row, kind = self._row[first:after], self._kind[first:after]
        hashes, times, amounts = (column[row] for column in self._columns)
        is_fraud = np.where(kind == LABEL, self._is_fraud[row], 0).astype(np.uint8)
        told = TerminalColumns(kind, hashes, times, amounts, self._cards[row], is_fraud, self.striking[row])
        return [self._terminals[i] for i in row.tolist()], told
