"""Records of `features`, of which each third row alerts under the rules.

Rule 1. A row is a function of its origin, so that a record can be written again, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fraud.features import FEATURE_HASH, NAMES
from fraud.packed import VECTORS, Column, pack


def packed_rows(
    origins: Sequence[int], origin_partition: int = 0, meta: Mapping[str, Any] | None = None, width: int = len(NAMES)
) -> bytes:
    """A record of vectors, of which each third shows a velocity of 20 an hour: the rules alert for it."""
    rows = len(origins)
    vector = np.zeros((rows, width), np.float32)
    vector[:, NAMES.index("card_count_1h")] = [20 if origin % 3 == 0 else 0 for origin in origins]
    columns: dict[str, Column] = {
        "origin_partition": np.full(rows, origin_partition),
        "origin_offset": np.array(origins),
        "transaction_id": [f"t{origin_partition}-{origin}" for origin in origins],
        "card_id": [f"c{origin % 7}" for origin in origins],
        "terminal_id": ["m1"] * rows,
        "amount_minor": np.array([1000 + origin for origin in origins]),
        "occurred_at_ms": np.array([1_530_000_000_000 + origin for origin in origins]),
        "ingested_at_ms": np.full(rows, 1_790_000_000_000),
        "vector": vector,
    }
    return pack(VECTORS, columns, {"feature_hash": FEATURE_HASH} if meta is None else meta)
