"""What a feature is: the feature views as data. Names, order and the version hash derive from them.

Rule 1. A vector is read before its own transaction is added.
Rule 2. Windows are those of fraud/windows.py: open on the left, closed on the right, at the transaction's event time.
Rule 3. Nothing older than an entity's span, its longest window, exists for a vector: 30 days of a card, 35 of a terminal.
Rule 4. A feature without a value (nothing earlier, nothing to divide by, no place, no device) is NaN; counts and sums are 0.
Rule 5. Changing anything here changes FEATURE_HASH, and state or models of another hash are never read.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from fraud.windows import DAY_MS, DAYS_1, DAYS_7, DAYS_28, DAYS_30, HOUR, HOURS_24, MINUTES_5, Window


class Entity(StrEnum):
    """Whose history a feature reads: the transaction's own fields, its card's, or its terminal's."""

    REQUEST = "request"
    CARD = "card"
    TERMINAL = "terminal"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One number over an entity's history; `windowed` ones exist once per window of their view."""

    name: str
    unit: str
    low: float
    high: float
    default: float
    meaning: str
    windowed: bool = True


@dataclass(frozen=True, slots=True)
class FeatureView:
    """The aggregates of one entity over its windows.

    `delay_ms` ends the windows that long before the transaction: only transactions whose label could be known count.
    """

    entity: Entity
    windows: tuple[Window, ...]
    aggregates: tuple[Aggregate, ...]
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the vector. `default` is its value for an entity without history; NaN means no value."""

    name: str
    entity: Entity
    unit: str
    low: float
    high: float
    default: float
    meaning: str


INF: Final = float("inf")
NAN: Final = float("nan")

SMALL_AMOUNT_MINOR: Final = 500  # below 5 EUR: what a stolen card is tried with, and coffee
NIGHT_HOURS: Final = 6  # night is 00:00 .. 05:59 UTC
RECENT_AMOUNTS: Final = 16  # of how many amounts the median is taken: a few weeks of a card, sorted in no time
USUAL_ALWAYS: Final = 3  # so many amounts are usual whatever they are: with fewer none can be compared
USUAL_TIMES_MAX: Final = 3  # an amount above 3 times the typical one says nothing about what is typical
TYPICAL_MINOR_MIN: Final = 100  # 1 EUR: below, a ratio says more about the small amounts before than about this one
RECENT_RATIOS: Final = 32  # of how many transactions the largest ratio is taken: a week of a busy person's card
RATIO_MAX: Final = 320  # what the ratio of an event is kept up to: in hundredths it fits into 15 bits
STRIKING_RATIO: Final = 2.5  # a fraud with such an amount is explained by it, and says nothing about its terminal
STRIKING_AMOUNT_MINOR: Final = 22_000  # nor does one above 220 EUR
SPEED_MS_MIN: Final = 60_000  # places are a kilometre coarse: two seconds apart is no speed

_LAST: Final = "the newest transaction not after this one, of 30 days"
_NOT_SEEN: Final = "not seen with this card in 30 days; no value without one"
_FRAUD: Final = "known fraud not after this one, of 35 days"

# The order of the aggregates is the order in which the kernel of fraud/fold.py writes them.
REQUEST: Final = FeatureView(
    Entity.REQUEST,
    (),
    (
        Aggregate("amount_minor", "minor units", 0, 1e12, NAN, "amount of this transaction", windowed=False),
        Aggregate("hour", "hour of the day, UTC", 0, 23, NAN, "hour of occurred_at_ms", windowed=False),
        Aggregate("weekday", "day, Monday = 0", 0, 6, NAN, "weekday of occurred_at_ms", windowed=False),
    ),
)
_COUNT: Final = Aggregate("count", "transactions", 0, INF, 0, "earlier transactions in the window")
_SUM: Final = Aggregate("sum_amount_minor", "minor units", 0, INF, 0, "sum of their amounts")
_SMALL: Final = Aggregate(
    "small_share", "share", 0, 1, NAN, f"share of them with an amount below {SMALL_AMOUNT_MINOR} minor units"
)
CARD_HISTORY: Final = FeatureView(
    Entity.CARD,
    (MINUTES_5, HOUR, HOURS_24, DAYS_7, DAYS_30),
    (
        _COUNT,
        _SUM,
        Aggregate("mean_amount_minor", "minor units", 0, 1e12, NAN, "mean of their amounts"),
        Aggregate("std_amount_minor", "minor units", 0, 1e12, NAN, "standard deviation of their amounts (population)"),
        Aggregate("max_amount_minor", "minor units", 0, 1e12, NAN, "largest of their amounts"),
        Aggregate("distinct_terminals", "terminals", 0, INF, 0, "how many different terminals they were paid at"),
        Aggregate("distinct_merchants", "merchants", 0, INF, 0, "how many different merchants; an absent one is none"),
        Aggregate("distinct_devices", "devices", 0, INF, 0, "how many different devices; an absent one is none"),
        Aggregate("distinct_countries", "countries", 0, INF, 0, "how many different countries; an absent one is none"),
        _SMALL,
    ),
)
CARD_HABIT: Final = FeatureView(
    Entity.CARD,
    (DAYS_30,),
    (
        Aggregate("amount_over_mean", "ratio", 0, INF, NAN, "this amount divided by the mean of the window"),
        Aggregate(
            "amount_deviations",
            "standard deviations",
            -INF,
            INF,
            NAN,
            "this amount's distance from the mean of the window",
        ),
        Aggregate(
            "night_share",
            "share",
            0,
            1,
            NAN,
            f"share of the transactions in the window before {NIGHT_HOURS} o'clock UTC",
        ),
        Aggregate(
            "amount_over_recent_median",
            "ratio",
            0,
            INF,
            NAN,
            f"this amount divided by the median of the newest {RECENT_AMOUNTS} amounts not after this one, of 30 days",
            windowed=False,
        ),
        Aggregate("seconds_since_last", "s", 0, 2.592e6, NAN, f"since {_LAST}", windowed=False),
        Aggregate(
            "distance_km_since_last", "km", 0, 20_016, NAN, f"great-circle distance from {_LAST}", windowed=False
        ),
        Aggregate(
            "speed_kmh_since_last",
            "km/h",
            0,
            1.201e6,
            NAN,
            f"that distance divided by the time between, at least {SPEED_MS_MIN // 1000} s",
            windowed=False,
        ),
        Aggregate("new_device", "0 or 1", 0, 1, NAN, f"1: the device was {_NOT_SEEN}", windowed=False),
        Aggregate("new_country", "0 or 1", 0, 1, NAN, f"1: the country was {_NOT_SEEN}", windowed=False),
        Aggregate("new_merchant", "0 or 1", 0, 1, NAN, f"1: the merchant was {_NOT_SEEN}", windowed=False),
        Aggregate("age_days", "days", 0, 30, NAN, "since the card's first transaction in 30 days", windowed=False),
    ),
)
CARD_TYPICAL: Final = FeatureView(
    Entity.CARD,
    (DAYS_7,),
    (
        Aggregate(
            "max_amount_over_typical",
            "ratio",
            0,
            RATIO_MAX,
            NAN,
            "the largest amount_over_typical that an earlier transaction in the window had as it arrived, in whole hundredths, "
            f"a larger one as {RATIO_MAX}; of the newest {RECENT_RATIOS} in the window",
        ),
        Aggregate(
            "amount_over_typical",
            "ratio",
            0,
            INF,
            NAN,
            f"this amount divided by the typical one, the mean of the usual amounts of 30 days, at least {TYPICAL_MINOR_MIN} "
            f"minor units; an amount is usual that, as it arrived, was at most {USUAL_TIMES_MAX} times that mean, or had fewer "
            f"than {USUAL_ALWAYS} usual ones before it",
            windowed=False,
        ),
    ),
)
TERMINAL_HISTORY: Final = FeatureView(
    Entity.TERMINAL,
    (MINUTES_5, HOUR, HOURS_24, DAYS_7),
    (
        _COUNT,
        _SUM,
        Aggregate("distinct_cards", "cards", 0, INF, 0, "how many different cards paid"),
        _SMALL,
    ),
)
TERMINAL_RISK: Final = FeatureView(
    Entity.TERMINAL,
    (DAYS_1, DAYS_7, DAYS_28),
    (
        Aggregate(
            "matured_count", "transactions", 0, INF, 0, "transactions in the window, which ends the label delay before"
        ),
        Aggregate("fraud_count", "transactions", 0, INF, 0, "those of them that are known to be fraud"),
        Aggregate("fraud_share", "share", 0, 1, NAN, "fraud_count divided by matured_count"),
        Aggregate("days_since_first_fraud", "days", 0, 35, NAN, f"since the oldest {_FRAUD}", windowed=False),
        Aggregate("days_since_last_fraud", "days", 0, 35, NAN, f"since the newest {_FRAUD}", windowed=False),
        Aggregate(
            "fraud_streak",
            "transactions",
            0,
            INF,
            0,
            "how many of the newest matured transactions, one after the other, are known to be fraud (28 days)",
            windowed=False,
        ),
        Aggregate(
            "unexplained_fraud_streak",
            "transactions",
            0,
            INF,
            0,
            "those of fraud_streak whose amount was not striking: neither above "
            f"{STRIKING_AMOUNT_MINOR} minor units nor with a card_amount_over_typical above {STRIKING_RATIO}",
            windowed=False,
        ),
        Aggregate(
            "days_since_last_genuine",
            "days",
            7,
            35,
            NAN,
            "since the newest matured transaction that is not known to be fraud (28 days)",
            windowed=False,
        ),
    ),
    delay_ms=7 * DAY_MS,
)
VIEWS: Final = (REQUEST, CARD_HISTORY, CARD_HABIT, CARD_TYPICAL, TERMINAL_HISTORY, TERMINAL_RISK)


def _features(view: FeatureView) -> list[Feature]:
    named = [(f"{a.name}_{w.name}", a) for w in view.windows for a in view.aggregates if a.windowed]
    named += [(a.name, a) for a in view.aggregates if not a.windowed]
    return [
        Feature(f"{view.entity}_{name}", view.entity, a.unit, a.low, a.high, a.default, a.meaning) for name, a in named
    ]


def _span_ms(entity: Entity) -> int:
    return max(w.length_ms + view.delay_ms for view in VIEWS if view.entity is entity for w in view.windows)


FEATURES: Final[tuple[Feature, ...]] = tuple(f for view in VIEWS for f in _features(view))
NAMES: Final[tuple[str, ...]] = tuple(f.name for f in FEATURES)
REQUEST_NAMES: Final = tuple(f.name for f in FEATURES if f.entity is Entity.REQUEST)
CARD_NAMES: Final = tuple(f.name for f in FEATURES if f.entity is Entity.CARD)
TERMINAL_NAMES: Final = tuple(f.name for f in FEATURES if f.entity is Entity.TERMINAL)

# How far back a vector can look, in ms; a transaction further behind its entity's newest than this is TOO_LATE.
CARD_SPAN_MS: Final = _span_ms(Entity.CARD)
TERMINAL_SPAN_MS: Final = _span_ms(Entity.TERMINAL)

# Raised by hand when the kernel computes something else under an unchanged name.
KERNEL_VERSION: Final = 2
FEATURE_HASH: Final = hashlib.sha256(
    json.dumps([KERNEL_VERSION, [asdict(view) for view in VIEWS]], sort_keys=True).encode()
).hexdigest()[:12]
