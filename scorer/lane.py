"""One partition of `features`: its records decoded, its repeated rows dropped, its scores packed.

Rule 1. A lane's marks say which rows are done; they begin with what its partition of `scores` holds (marks.py).
Rule 2. A record that cannot be read is refused with a reason; vectors of other features stop the service, unless these are retired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from adapters.kafka import Record
from fraud.dead_letters import BadMessageError, Reason
from fraud.features import FEATURE_HASH, NAMES
from fraud.packed import COLUMNS, ROWS_MAX, SCORES, TEXT, VECTORS, Batch, Column, OriginMarks, pack, unpack
from scorer import marks
from scorer.batch_path import BatchVerdicts
from scorer.judge import Verdicts

_IDENTITY: Final = (
    "origin_partition",
    "origin_offset",
    "transaction_id",
    "card_id",
    "terminal_id",
    "amount_minor",
    "occurred_at_ms",
    "ingested_at_ms",
)
# Of Verdicts: columns row by row, and what the meta says of all rows. One more scorer is one more name in each.
_JUDGED: Final = ("score", "rules_score", "decision", "explored", "challenger_score")
_VERSIONS: Final = {"model_version": "version", "challenger_version": "challenger_version"}
_DTYPES: Final = {name: np.dtype(dtype) for name, dtype in COLUMNS[VECTORS].items() if dtype != TEXT}


class FeatureHashMismatchError(RuntimeError):
    """`features` holds vectors of other features, `told`, than this code scores; the message names both hashes."""

    def __init__(self, told: str) -> None:
        super().__init__(
            f"features holds vectors of features {told}, this scorer is built for {FEATURE_HASH}: run the feature "
            "worker and the scorer of one release; `fraudstream features rebuild` changes from one to the next"
        )
        self.told = told


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that goes to the dead-letter topic."""

    record: Any
    error: BadMessageError


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of one partition: rows that were not scored before, per record, and what was refused."""

    fresh: list[Batch]
    refused: list[Refused]
    repeated_rows: int


class Lane:
    """One partition; `done` are the marks of what stands in its partition of `scores`.

    is_retired: whether a feature hash is retired, so that its records are skipped; asked for those of another hash only.
    """

    def __init__(
        self, partition: int, done: OriginMarks, is_retired: Callable[[str], bool] = lambda feature_hash: False
    ) -> None:
        self.partition = partition
        self._is_retired = is_retired
        self._seen = done
        self._written = OriginMarks(done.marks)

    def take(self, records: Sequence[Any]) -> Taken:
        """Decode consumer records in log order. Raises FeatureHashMismatchError."""
        fresh: list[Batch] = []
        refused: list[Refused] = []
        repeated = 0
        for record in records:
            try:
                batch = _decoded(record.value)
            except BadMessageError as error:
                refused.append(Refused(record, error))
                continue
            except FeatureHashMismatchError as error:
                if self._is_retired(error.told):
                    continue  # what of it was not scored is written again by the new worker
                raise
            new = self._seen.fresh(batch)
            repeated += batch.rows - new.rows
            if new.rows:
                fresh.append(new)
        return Taken(fresh, refused, repeated)

    def scores(
        self, batch: Batch, verdicts: Verdicts, rows: slice, stage_at_ms: int, beside: BatchVerdicts | None = None
    ) -> Iterator[tuple[int, Record]]:
        """The scores records of this lane's `rows` of a judged batch, each with the marks as they stand after it.

        beside: what the batch path makes of the batch; all rows of a record have the same of its versions and snapshots.
        """
        beside = beside or BatchVerdicts.none(batch.rows)
        for first, after in beside.stretches(rows, ROWS_MAX):
            columns: dict[str, Column] = {name: batch.columns[name][first:after] for name in _IDENTITY}
            marks.advance(
                self._written, batch.array("origin_partition")[first:after], batch.array("origin_offset")[first:after]
            )
            meta = {
                "feature_hash": FEATURE_HASH,
                **{key: getattr(verdicts, name) for key, name in _VERSIONS.items()},
                "stage_at_ms": stage_at_ms,
                "threshold": verdicts.review_threshold,
                **beside.meta_of(first),
                marks.META_KEY: marks.to_meta(self._written),
            }
            columns |= {name: getattr(verdicts, name)[first:after] for name in _JUDGED}
            columns |= {"batch_score": beside.score[first:after], "batch_decision": beside.decision[first:after]}
            yield self.partition, (None, pack(SCORES, columns, meta), [])


def _decoded(raw: bytes | None) -> Batch:
    batch = unpack(raw, (VECTORS,))
    told = batch.meta.get("feature_hash") if isinstance(batch.meta, dict) else None
    if not isinstance(told, str):
        raise BadMessageError(Reason.PACKED_INVALID, "meta has no feature_hash")
    if told != FEATURE_HASH:
        raise FeatureHashMismatchError(told)
    for name, dtype in _DTYPES.items():
        column = batch.columns[name]
        if not isinstance(column, np.ndarray) or column.dtype != dtype:
            raise BadMessageError(Reason.PACKED_INVALID, f"column {name} is not {dtype}")
    if batch.array("vector").shape != (batch.rows, len(NAMES)):
        raise BadMessageError(Reason.PACKED_INVALID, f"vectors are not [{batch.rows}, {len(NAMES)}]")
    return batch
