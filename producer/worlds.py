"""Generated worlds as files, and the proof that one equals the published set.

Rule 1. A world is generated once per state folder; its file appears whole or not at all.
Rule 2. Equality with the published file is equality as a multiset: that file's sort was unstable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from producer import handbook
from producer.whole_file import write_whole

_ROW_GROUP: Final = 100_000
_COMPARED: Final = ["occurred_at_ms", "card_id", "terminal_id", "amount_minor", "is_fraud", "scenario"]
PUBLISHED_ROWS: Final = 1_754_155
PUBLISHED_FRAUD: Final = 14_681
PUBLISHED_SCENARIOS: Final = {1: 973, 2: 9_077, 3: 4_631}


def handbook_file(
    folder: Path, seed: int, days: int, progress: handbook.Progress | None = None, processes: int | None = None
) -> Path:
    """The Parquet file of a Handbook world in `folder`, generated when it is not there yet."""
    path = folder / f"handbook-{seed}-{days}.parquet"
    if not path.exists():
        world = handbook.world(seed, days, progress, processes)
        write_whole(path, lambda beside: world.write_parquet(beside, compression="zstd", row_group_size=_ROW_GROUP))
    return path


def world_digest(world: pl.DataFrame) -> str:
    """SHA-256 over the columns' bytes, in their order: equal digests, equal worlds."""
    digest = hashlib.sha256()
    for column in world.iter_columns():
        digest.update(column.name.encode())
        if column.dtype == pl.String:
            digest.update("\n".join(column.to_list()).encode())
        else:
            digest.update(column.to_numpy().tobytes())
    return digest.hexdigest()


def published(path: Path) -> pl.DataFrame:
    """The published file in this project's columns, without transaction ids."""
    return pl.read_parquet(path).select(
        occurred_at_ms=pl.col("TX_DATETIME").dt.epoch("ms"),
        card_id=pl.format("c{}", "CUSTOMER_ID"),
        terminal_id=pl.format("t{}", "TERMINAL_ID"),
        amount_minor=(pl.col("TX_AMOUNT") * 100).round().cast(pl.Int64),
        is_fraud=pl.col("TX_FRAUD") == 1,
        scenario="TX_FRAUD_SCENARIO",
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows of both sides, and how many of each side the other does not have."""

    generated: int
    published: int
    only_generated: int
    only_published: int

    @property
    def equal(self) -> bool:
        """Whether both are the same multiset."""
        return self.generated == self.published and not self.only_generated and not self.only_published


def compare(generated: pl.DataFrame, published: pl.DataFrame) -> Comparison:
    """Compare two sets of rows as multisets of (time, card, terminal, amount, fraud, scenario)."""

    def counted(rows: pl.DataFrame, name: str) -> pl.DataFrame:
        return rows.group_by(_COMPARED).agg(pl.len().cast(pl.Int64).alias(name))

    both = counted(generated, "mine").join(counted(published, "theirs"), on=_COMPARED, how="full", coalesce=True)
    surplus = both.select(surplus=pl.col("mine").fill_null(0) - pl.col("theirs").fill_null(0))["surplus"]
    only_generated, only_published = int(surplus.clip(lower_bound=0).sum()), -int(surplus.clip(upper_bound=0).sum())
    return Comparison(generated.height, published.height, only_generated, only_published)
