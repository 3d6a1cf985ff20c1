"""Transactions of the world in columns.

Rule 1. Rows hold numbers only; ids and texts are made in `frame`, at the end, once.
Rule 2. A row is known by (day, number), or by (run, number) when a person started it: so is its transaction_id.
Rule 3. Where something is not known, the column holds its sentinel (NO_DEVICE, NO_PLACE), which becomes null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from fraud.windows import DAY_MS
from producer.world.categories import CATEGORIES
from producer.world.days import BEGIN_MS
from producer.world.geography import COUNTRIES

if TYPE_CHECKING:
    from producer.world.population import Population

Bools = npt.NDArray[np.bool_]
Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

NO_DEVICE: Final = -1
NO_PLACE: Final = -(2**31)
BACKGROUND: Final = -1
GENUINE: Final = 0
SCENARIO_NAMES: Final = (
    "card-testing",
    "account-takeover",
    "impossible-travel",
    "terminal-compromise",
    "leaked-card",
    "device-ring",
    "bust-out",
    "obvious-amount",
    "friendly-fraud",
)
COLUMNS: Final = (
    "transaction_id",
    "occurred_at_ms",
    "card_id",
    "terminal_id",
    "amount_minor",
    "merchant_id",
    "mcc",
    "country",
    "channel",
    "device_id",
    "latitude_cdeg",
    "longitude_cdeg",
    "is_fraud",
    "scenario",
)


@dataclass(frozen=True, slots=True)
class Rows:
    """Transactions, one row each; all arrays have the same length.

    occurred_at_ms: event time. card, terminal: 0 .. cards - 1, 0 .. terminals - 1 of the population; merchant, MCC and
    country follow from the terminal. amount_minor: cents, 0 .. 10^12. online: else in a shop.
    device: NO_DEVICE where none was seen; numbers from population.devices on are nobody's own.
    latitude_cdeg, longitude_cdeg: where the payer was (the terminal's place in a shop), hundredths of a degree, or NO_PLACE.
    scenario: GENUINE, or 1 + index into SCENARIO_NAMES. run: BACKGROUND, or the number of the run a person started.
    number: position within its day (background) or run, 0 or more.
    """

    occurred_at_ms: Int64s
    card: Int32s
    terminal: Int32s
    amount_minor: Int64s
    online: Bools
    device: Int32s
    latitude_cdeg: Int32s
    longitude_cdeg: Int32s
    scenario: Int8s
    run: Int32s
    number: Int64s

    @staticmethod
    def make(occurred_at_ms: npt.ArrayLike, **columns: npt.ArrayLike) -> Rows:
        """Rows from arrays or single values, cast to the columns' types.

        Left out: device, place, scenario, run count as none, none, genuine, background; number as 0, 1, 2 ...; the rest as 0.
        """
        moments = np.atleast_1d(np.asarray(occurred_at_ms, np.int64))
        absent = {"device": NO_DEVICE, "latitude_cdeg": NO_PLACE, "longitude_cdeg": NO_PLACE, "run": BACKGROUND}
        given: dict[str, Any] = {**absent, "number": np.arange(len(moments)), **columns}
        arrays = {
            name: np.ascontiguousarray(np.broadcast_to(np.asarray(given.pop(name, 0)).astype(dtype), moments.shape))
            for name, dtype in TYPES.items()
            if name != "occurred_at_ms"
        }
        if given:
            raise TypeError(f"Rows has no column {', '.join(given)}: its columns are {', '.join(TYPES)}")
        return Rows(moments, **arrays)

    def __len__(self) -> int:
        return len(self.occurred_at_ms)

    def take(self, chosen: Bools | Int64s | slice) -> Rows:
        """The rows of a mask, of positions or of a slice."""
        return Rows(*(getattr(self, name)[chosen] for name in TYPES))

    def sorted_by_time(self) -> Rows:
        """The rows by event time; equal times by run, then number; then as they stood."""
        return self.take(np.lexsort((self.number, self.run, self.occurred_at_ms)))

    def numbered(self) -> Rows:
        """The rows with number 0, 1, 2 ... as they stand."""
        return replace(self, number=np.arange(len(self)))


TYPES: Final[dict[str, type[np.generic]]] = dict(
    zip(
        (field.name for field in fields(Rows)),
        (np.int64, np.int32, np.int32, np.int64, np.bool_, np.int32, np.int32, np.int32, np.int8, np.int32, np.int64),
        strict=True,
    )
)


def concatenate(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts, one part after the other; of no part, no rows."""
    if not parts:
        return Rows.make(np.empty(0, np.int64))
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in TYPES))


def frame(rows: Rows, population: Population, run_ids: Sequence[str] = ()) -> pl.DataFrame:
    """The rows as a table with the columns COLUMNS, in the same order.

    transaction_id: `w<seed>-<day>-<number>`, or `<run_ids[run]>-<number>` of a run that a person started.
    card_id "c<i>", terminal_id "t<i>", merchant_id "m<i>", device_id "d<device_token>" or null, mcc, country, channel,
    scenario: text;
    scenario is "" for a genuine transaction. Coordinates are null where the place is not known.
    """
    merchant = population.terminal_merchant[rows.terminal]
    numbers = pl.DataFrame(
        {
            "occurred_at_ms": rows.occurred_at_ms,
            "card": rows.card,
            "terminal": rows.terminal,
            "amount_minor": rows.amount_minor,
            "merchant": merchant,
            "device": rows.device,
            "token": device_token(rows.device),
            "latitude_cdeg": rows.latitude_cdeg,
            "longitude_cdeg": rows.longitude_cdeg,
            "is_fraud": rows.scenario != GENUINE,
            "day": (rows.occurred_at_ms - BEGIN_MS) // DAY_MS,
            "number": rows.number,
            "run": rows.run,
        }
    )
    place = pl.col("latitude_cdeg", "longitude_cdeg")
    texts = {
        "mcc": _chosen([category.mcc for category in CATEGORIES], population.merchant_category[merchant]),
        "country": _chosen([country.code for country in COUNTRIES], population.merchant_country[merchant]),
        "channel": _chosen(["card_present", "online"], rows.online),
        "scenario": _chosen(["", *SCENARIO_NAMES], rows.scenario),
    }
    return numbers.select(
        _transaction_id(population.seed, run_ids, bool((rows.run != BACKGROUND).any())),
        "occurred_at_ms",
        pl.format("c{}", "card").alias("card_id"),
        pl.format("t{}", "terminal").alias("terminal_id"),
        "amount_minor",
        pl.format("m{}", "merchant").alias("merchant_id"),
        pl.when(pl.col("device") != NO_DEVICE).then(pl.format("d{}", "token")).alias("device_id"),
        pl.when(place != NO_PLACE).then(place),
        "is_fraud",
    ).with_columns(**texts)[list(COLUMNS)]


def device_token(device: Int32s) -> npt.NDArray[np.uint32]:
    """The number in a device's id: another for each device, and none that tells whose it is, or that it is nobody's.

    The finaliser of MurmurHash3 (Austin Appleby, 2011), a bijection of 32 bits.
    """
    bits = device.astype(np.uint32)
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return bits ^ (bits >> np.uint32(16))


def _transaction_id(seed: int, run_ids: Sequence[str], any_run: bool) -> pl.Expr:
    own = pl.format(f"w{seed}-{{}}-{{}}", "day", "number")
    if not any_run:
        return own.alias("transaction_id")
    names = pl.col("run").replace_strict(list(range(len(run_ids))), list(run_ids), default=None, return_dtype=pl.String)
    started = pl.format("{}-{}", names, "number")
    return pl.when(pl.col("run") == BACKGROUND).then(own).otherwise(started).alias("transaction_id")


def _chosen(texts: list[str], index: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(texts, dtype=pl.String).gather(index.astype(np.uint32))
