"""How the world changes while nobody tells: fraud that moves, and honest change that must not look like fraud.

Rule 1. Every drift has the day on which it begins, None for never; what it does not say stays as it was.
Rule 2. A drift never makes a transaction fraud or honest: it changes how both look, or how they arrive.
Rule 3. A day's drift is a function of (seed, day) like the day itself.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import polars as pl

from fraud.transaction import PLACED_FIELDS
from fraud.windows import DAY_MS, HOUR_MS
from producer.world.days import DAYS_MAX, begin_of
from producer.world.draws import Stream, generator
from producer.world.geography import COUNTRIES, ONLINE
from producer.world.population import Population
from producer.world.rows import GENUINE, NO_DEVICE, NO_PLACE, Bools, Int64s, Rows, concatenate

_NUMBER: Final = {country.code: number for number, country in enumerate(COUNTRIES)}
LATE_MINUTES_MAX: Final = 6 * 60.0


@dataclass(frozen=True, slots=True)
class Drift:
    """What changes, and from which day on.

    fraud_moves_day: fraudsters buy from other kinds of merchants. under_threshold_day: their amounts stay just under
    threshold_minor (cents). sales_day: one day with sales_factor times the online purchases, 20 % cheaper.
    inflation_day: prices rise by inflation_a_month from then on. country_opens_day: country_share of the online purchases go
    to merchants of new_country. schema_change_day: until then messages are of version 1, without merchant, place and device; None:
    all are of version 2. silent_device_day, silent_place_day: the field is null in silent_share of the rows.
    late_share: of the transactions arrive late, by up to late_minutes_max; copied_share: arrive twice.
    """

    fraud_moves_day: int | None = None
    under_threshold_day: int | None = None
    threshold_minor: int = 20_000
    sales_day: int | None = None
    sales_factor: float = 2.0
    inflation_day: int | None = None
    inflation_a_month: float = 0.02
    country_opens_day: int | None = None
    new_country: str = "TH"
    country_share: float = 0.1
    schema_change_day: int | None = None
    silent_device_day: int | None = None
    silent_place_day: int | None = None
    silent_share: float = 1.0
    late_share: float = 0.002
    late_minutes_max: float = 120.0
    copied_share: float = 0.0005

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_day") and value is not None and not 0 <= value < DAYS_MAX:
                raise ValueError(f"{field.name} is {value}, it must be 0 .. {DAYS_MAX - 1}")
            if field.name.endswith("_share") and not 0 <= value <= 1:
                raise ValueError(f"{field.name} is {value}, it must be 0 .. 1")
        for name, low, high in (
            ("threshold_minor", 2, 10**12), ("sales_factor", 1, 10), ("inflation_a_month", -0.5, 1.0),
            ("late_minutes_max", 0, LATE_MINUTES_MAX),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be {low} .. {high}")
        if self.new_country not in _NUMBER:
            raise ValueError(f"new_country is {self.new_country}, it must be one of {', '.join(_NUMBER)}")


CALM: Final = Drift(late_share=0.0, copied_share=0.0)
USUAL: Final = Drift()


def has_begun(since: int | None, day: int) -> bool:
    """Whether a drift that begins on a day, or never, has begun."""
    return since is not None and day >= since


def honest_changes(population: Population, honest: Rows, day: int, drift: Drift) -> Rows:
    """A day's honest rows with the benign shifts: a sales day, a country that opens."""
    random = generator(population.seed, Stream.DRIFT, day)
    if drift.sales_day == day:
        honest = _sale(population, honest, day, drift, random)
    if has_begun(drift.country_opens_day, day):
        honest = _opened(population, honest, drift, random)
    return honest


def fraud_changes(fraud: Rows, day: int, drift: Drift) -> Rows:
    """A day's frauds, just under the threshold once they have learned of it."""
    if not has_begun(drift.under_threshold_day, day):
        return fraud
    over = fraud.amount_minor >= drift.threshold_minor
    under = drift.threshold_minor - 1 - fraud.amount_minor % max(1, drift.threshold_minor // 20)
    return replace(fraud, amount_minor=np.where(over, np.maximum(under, 1), fraud.amount_minor))


def inflated(rows: Rows, day: int, drift: Drift) -> Rows:
    """A day's rows, honest or not, at the prices of the day."""
    if drift.inflation_day is None or not has_begun(drift.inflation_day, day):
        return rows
    factor = (1 + drift.inflation_a_month) ** ((day - drift.inflation_day + 1) / 30)
    return replace(rows, amount_minor=np.rint(rows.amount_minor * factor).astype(np.int64))


def silenced(population: Population, rows: Rows, day: int, drift: Drift) -> Rows:
    """A day's rows, honest or not, as the sensors that are left see them."""
    random = generator(population.seed, Stream.DRIFT, day, 1)
    silent = random.random(len(rows)) < drift.silent_share
    if has_begun(drift.silent_device_day, day):
        rows = replace(rows, device=np.where(silent, np.int32(NO_DEVICE), rows.device))
    if has_begun(drift.silent_place_day, day):
        rows = replace(
            rows,
            latitude_cdeg=np.where(silent, np.int32(NO_PLACE), rows.latitude_cdeg),
            longitude_cdeg=np.where(silent, np.int32(NO_PLACE), rows.longitude_cdeg),
        )
    return rows


def before_schema_change(table: pl.DataFrame, drift: Drift) -> pl.DataFrame:
    """A table of transactions with nulls for what version 1 did not have, before the day of the change."""
    if drift.schema_change_day is None:
        return table
    has_place = pl.col("occurred_at_ms") >= begin_of(drift.schema_change_day)
    return table.with_columns(pl.when(has_place).then(pl.col(PLACED_FIELDS)))


def arrivals(seed: int, rows_of_day: int, occurred_at_ms: Int64s, day: int, drift: Drift) -> tuple[Int64s, Bools]:
    """When each row of a day arrives, epoch milliseconds, and which of them arrive a second time (within the hour after)."""
    random = generator(seed, Stream.DELIVERY, day)
    is_late, delay = random.random(rows_of_day) < drift.late_share, random.random(rows_of_day)
    late_ms = (delay * drift.late_minutes_max * 60_000).astype(np.int64)
    copied = random.random(rows_of_day) < drift.copied_share
    return occurred_at_ms + np.where(is_late, late_ms, 0), copied


def copies_at(seed: int, first_ms: Int64s, day: int) -> Int64s:
    """When the copies of rows arrive that arrived first at first_ms."""
    random = generator(seed, Stream.DELIVERY, day, 1)
    return first_ms + 1 + random.integers(0, HOUR_MS, len(first_ms))


def _sale(population: Population, honest: Rows, day: int, drift: Drift, random: np.random.Generator) -> Rows:
    online = np.flatnonzero(honest.online & (honest.scenario == GENUINE))
    more = honest.take(random.choice(online, round((drift.sales_factor - 1) * len(online))))
    shifted = more.occurred_at_ms + random.integers(-3 * HOUR_MS, 3 * HOUR_MS, len(more))
    inside = (shifted - begin_of(day)) % DAY_MS + begin_of(day)
    more = replace(more, occurred_at_ms=inside)
    rows = concatenate([honest, more.take(population.is_open(more.card, inside))])
    cheaper = np.where(rows.online, np.maximum(1, rows.amount_minor * 8 // 10), rows.amount_minor)
    return replace(rows, amount_minor=cheaper)


def _opened(population: Population, honest: Rows, drift: Drift, random: np.random.Generator) -> Rows:
    of_country = np.flatnonzero(population.merchant_country[population.terminal_merchant] == _NUMBER[drift.new_country])
    is_online = population.merchants.place[population.terminal_merchant[of_country]] == ONLINE
    there = of_country[is_online] if is_online.any() else of_country  # a small world has no online merchant everywhere
    moves = honest.online & (random.random(len(honest)) < drift.country_share)
    if not len(there):
        return honest
    return replace(
        honest, terminal=np.where(moves, random.choice(there, len(honest)).astype(np.int32), honest.terminal)
    )
