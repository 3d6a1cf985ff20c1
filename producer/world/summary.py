"""A world in numbers: what `describe` prints and draws.

Rule 1. Days are added one by one and forgotten: memory does not grow with their number.
Rule 2. Quantiles of amounts come from logarithmic bins of half a percent, and are exact to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from fraud.windows import DAY_MS, HOUR_MS
from producer.world.categories import CATEGORIES
from producer.world.days import BEGIN_MS, date_of
from producer.world.draws import Floats, generator
from producer.world.geography import COUNTRIES
from producer.world.label_delays import CHARGEBACK, CUSTOMER_REPORT, REALISTIC, SOURCES, LabelDelays, known_later
from producer.world.population import Population
from producer.world.rows import SCENARIO_NAMES, Int64s, Rows

BINS_PER_E: Final = 200
AMOUNT_BINS: Final = 22 * BINS_PER_E  # e^22 cents: 36 million euros
QUANTILES: Final = (0.01, 0.25, 0.5, 0.75, 0.99, 0.999)
RANK_FROM: Final = 10
RANK_TO: Final = 1000
LABEL_DRAWS: Final = 20_000
_LABEL_STREAM: Final = 90
_KINDS: Final = 1 + len(SCENARIO_NAMES)


class Summary:
    """Counts over the days added so far.

    amount: shape [2, AMOUNT_BINS], genuine and fraud. hour, weekday (Monday = 0): shape [2, 24], [2, 7], shop and online, UTC.
    by_day: transactions of each day added. category: shape [categories, 2], transactions and cents. country, merchant: counts.
    scenario: shape [1 + scenarios, 2], transactions and cents, genuine first.
    """

    def __init__(self, population: Population) -> None:
        self.population = population
        self.amount = np.zeros((2, AMOUNT_BINS), np.int64)
        self.hour = np.zeros((2, 24), np.int64)
        self.weekday = np.zeros((2, 7), np.int64)
        self.by_day: list[int] = []
        self.category = np.zeros((len(CATEGORIES), 2), np.int64)
        self.country = np.zeros(len(COUNTRIES), np.int64)
        self.merchant = np.zeros(len(population.merchant_category), np.int64)
        self.scenario = np.zeros((_KINDS, 2), np.int64)
        self.scenario_amount = np.zeros((_KINDS, AMOUNT_BINS), np.int64)
        self.category_amount = np.zeros((len(CATEGORIES), AMOUNT_BINS), np.int64)
        self.devices_seen = 0
        self.pays = np.zeros(population.cards, np.bool_)

    def add(self, rows: Rows) -> None:
        """Count the rows of one more day."""
        merchant = self.population.terminal_merchant[rows.terminal]
        category = self.population.merchant_category[merchant]
        since_ms = rows.occurred_at_ms - BEGIN_MS
        bins = amount_bin(rows.amount_minor)
        money = rows.amount_minor.astype(np.float64)
        self.by_day.append(len(rows))
        self.amount += _counted(rows.scenario != 0, bins, self.amount.shape)
        self.hour += _counted(rows.online, since_ms // HOUR_MS % 24, self.hour.shape)
        self.weekday += _counted(rows.online, (since_ms // DAY_MS + date_of(0).weekday()) % 7, self.weekday.shape)
        self.category_amount += _counted(category, bins, self.category_amount.shape)
        self.scenario_amount += _counted(rows.scenario, bins, self.scenario_amount.shape)
        self.country += np.bincount(self.population.merchant_country[merchant], minlength=len(COUNTRIES))
        self.merchant += np.bincount(merchant, minlength=len(self.merchant))
        for table, index in ((self.category, category), (self.scenario, rows.scenario)):
            table[:, 0] += np.bincount(index, minlength=len(table))
            table[:, 1] += np.bincount(index, money, len(table)).astype(np.int64)
        self.devices_seen += int((rows.device >= 0).sum())
        self.pays[rows.card] = True

    @property
    def transactions(self) -> int:
        """All transactions."""
        return sum(self.by_day)

    @property
    def fraud(self) -> int:
        """The fraudulent ones."""
        return int(self.scenario[1:, 0].sum())

    @property
    def zipf_exponent(self) -> float:
        """Of visits to a merchant against its rank, by least squares of the logarithms over the ranks RANK_FROM .. RANK_TO."""
        visits = np.sort(self.merchant)[::-1]
        visits = visits[: int(np.searchsorted(-visits, 0))][RANK_FROM - 1 : RANK_TO]
        if len(visits) < RANK_FROM:
            return float("nan")
        rank = np.arange(RANK_FROM, RANK_FROM + len(visits))
        return -float(np.polyfit(np.log(rank), np.log(visits), 1)[0])

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, for JSON; amounts in cents, delays in days."""
        population, fraud = self.population, self.fraud
        return {
            "seed": population.seed,
            "cards": population.cards,
            "cards_that_pay": int(self.pays.sum()),
            "terminals": population.terminals,
            "merchants": len(self.merchant),
            "days": len(self.by_day),
            "transactions": self.transactions,
            "transactions_by_day": self.by_day,
            "amount_minor": int(self.category[:, 1].sum()),
            "fraud": fraud,
            "fraud_share": fraud / max(1, self.transactions),
            "amount_quantiles_minor": {str(q): amount_quantile(self.amount.sum(axis=0), q) for q in QUANTILES},
            "hours": {"card_present": self.hour[0].tolist(), "online": self.hour[1].tolist()},
            "weekdays": {"card_present": self.weekday[0].tolist(), "online": self.weekday[1].tolist()},
            "device_seen_share": self.devices_seen / max(1, self.transactions),
            "zipf_exponent": None if np.isnan(self.zipf_exponent) else self.zipf_exponent,
            "top_merchants": np.sort(self.merchant)[::-1][:10].tolist(),
            "categories": {c.mcc: int(count) for c, count in zip(CATEGORIES, self.category[:, 0], strict=True)},
            "countries": {c.code: int(count) for c, count in zip(COUNTRIES, self.country, strict=True)},
            "scenarios": {
                name: {"transactions": int(count), "amount_minor": int(money)}
                for name, (count, money) in zip(SCENARIO_NAMES, self.scenario[1:], strict=True)
            },
            "label_delays": LabelSummary(REALISTIC, population.seed).as_dict(),
        }


@dataclass(frozen=True)
class LabelSummary:
    """When LABEL_DRAWS frauds become known by themselves: customers' reports and chargebacks, as configured."""

    delays: LabelDelays
    seed: int

    @cached_property
    def days(self) -> dict[str, Floats]:
        """Days from the fraud to its label, by source."""
        random = generator(self.seed, _LABEL_STREAM)
        at_ms = np.zeros(LABEL_DRAWS, np.int64)
        known = known_later(random, np.ones(LABEL_DRAWS, np.bool_), at_ms, self.delays)
        sources = (CUSTOMER_REPORT, CHARGEBACK)
        return {SOURCES[source]: known.known_at_ms[known.source == source] / DAY_MS for source in sources}

    @property
    def never(self) -> float:
        """The share that is never known."""
        return 1 - sum(len(days) for days in self.days.values()) / LABEL_DRAWS

    def as_dict(self) -> dict[str, Any]:
        """Shares and quantiles, in days."""
        return {
            "never_share": self.never,
            **{
                source: {
                    "share": len(days) / LABEL_DRAWS,
                    "mean_days": float(days.mean()),
                    **{f"p{q}_days": float(np.percentile(days, q)) for q in (5, 50, 95)},
                }
                for source, days in self.days.items()
                if len(days)
            },
        }


def amount_bin(amount_minor: Int64s) -> Int64s:
    """The logarithmic bin of each amount; 0 and 1 cent share the first."""
    return np.asarray(
        np.minimum(np.log(np.maximum(amount_minor, 1)) * BINS_PER_E + 0.5, AMOUNT_BINS - 1).astype(np.int64)
    )


def amount_quantile(bins: Int64s, share: float) -> int | None:
    """The amount in cents below which that share lies; None without any transaction."""
    below = np.cumsum(bins)
    if not below[-1]:
        return None
    return round(float(np.exp(np.searchsorted(below, share * below[-1]) / BINS_PER_E)))


def _counted(row: Any, column: Any, shape: tuple[int, ...]) -> Int64s:
    flat = row.astype(np.int64) * shape[1] + column
    return np.bincount(flat, minlength=shape[0] * shape[1]).reshape(shape)
