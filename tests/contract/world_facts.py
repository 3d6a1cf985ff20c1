"""docs/world-facts.md: the world's tables, and what comes out of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields

from producer.world.categories import CATEGORIES
from producer.world.days import DAYS_MAX, date_of
from producer.world.drift import USUAL
from producer.world.geography import CITIES, COUNTRIES
from producer.world.habits import DEVICE_UNSEEN, LOYALTY, PLACE_AT_HUB, PLACE_UNSEEN, WALLET_USE
from producer.world.lifestyles import LIFESTYLES
from producer.world.population import CLOSED_SHARE, OPENED_SHARE, SHARED_DEVICE_SHARE
from producer.world.subscriptions import PER_CARD
from producer.world.summary import Summary
from producer.world.world import World

DAYS = 60
Table = Callable[[Sequence[str], Iterable[Sequence[object]]], str]


def facts_page(note: str, table: Table) -> str:
    """The page; `note` says that it is generated, `table` makes a Markdown table."""
    return "\n".join(
        [
            f"# The world's tables\n\n{note}",
            f"## What comes out\n\nSeed 0, 5,000 cards, the first {DAYS} days "
            f"(`python -m producer world describe --days {DAYS} --json`):\n\n{_outcome(table)}",
            f"## Shares\n\n{_shares(table)}",
            f"## Categories\n\n{_categories(table)}",
            f"## Lifestyles\n\n{_lifestyles(table)}",
            f"## Countries\n\n{_countries(table)}",
            f"## Drift\n\n{_drift(table)}",
        ]
    )


def _outcome(table: Table) -> str:
    world = World()
    summary = Summary(world.population)
    for rows in world.days(DAYS):
        summary.add(rows)
    found = summary.as_dict()
    quantiles = found["amount_quantiles_minor"]
    rows = [
        ("transactions", f"{found['transactions']:,}"),
        ("fraud", f"{100 * found['fraud_share']:.2f} %"),
        ("merchants, terminals", f"{found['merchants']:,}, {found['terminals']:,}"),
        ("cards that paid", f"{found['cards_that_pay']:,}"),
        ("amount: median, 99 %, 99.9 %", ", ".join(f"{quantiles[q] / 100:,.0f} EUR" for q in ("0.5", "0.99", "0.999"))),
        ("online", f"{100 * sum(found['hours']['online']) / found['transactions']:.0f} %"),
        ("in the home country", f"{100 * found['countries']['DE'] / found['transactions']:.0f} %"),
        ("Zipf exponent of merchants", f"{found['zipf_exponent']:.2f}"),
    ]
    return table(("fact", "value"), rows)


def _shares(table: Table) -> str:
    rows = [
        ("days of the world", f"{DAYS_MAX}, from {date_of(0)}"),
        ("cards that are opened within them", f"{OPENED_SHARE:.0%}"),
        ("cards that are closed within them, or would be", f"{CLOSED_SHARE:.0%}"),
        ("purchases at a favourite merchant", f"{LOYALTY:.0%}"),
        ("subscriptions a card", f"{PER_CARD:g}"),
        ("purchases in shops by phone, of those who do so at all", f"{WALLET_USE:.0%}"),
        ("online purchases without a device", f"{DEVICE_UNSEEN:.0%}"),
        (
            "online purchases without a place; seemingly at the mobile network's hub",
            f"{PLACE_UNSEEN:.0%}; {PLACE_AT_HUB:.0%}",
        ),
        ("cards that share a device with another of the household", f"{SHARED_DEVICE_SHARE:.0%}"),
    ]
    return table(("what", "share"), rows)


def _categories(table: Table) -> str:
    rows = [
        (
            c.mcc,
            c.name,
            f"{c.amount:g}",
            f"{c.sigma:g}",
            c.hours,
            f"{c.shop_share:.1%}",
            f"{c.online_share:.1%}",
            f"{c.sunday:g}",
        )
        for c in CATEGORIES
    ]
    heads = (
        "MCC",
        "name",
        "median EUR",
        "sigma of its logarithm",
        "hours",
        "of trips in shops",
        "of trips online",
        "Sunday",
    )
    return table(heads, rows)


def _lifestyles(table: Table) -> str:
    rows = [
        (s.name, f"{s.share:.0%}", f"{s.trips_per_day:g}", f"{s.amount:g}", f"{s.later_hours:+g} h", f"{s.online_share:.0%}",
         f"{s.journeys:.0%}")
        for s in LIFESTYLES
    ]  # fmt: skip
    heads = ("lifestyle", "of the cards", "trips a day", "amounts", "later", "online", "a journey in 30 days")
    return table(heads, rows)


def _countries(table: Table) -> str:
    rows = [
        (c.code, f"{c.utc_hours:+d}", ", ".join(city.name for city in CITIES if city.country == c.code),
         f"{c.journeys:.1%}", f"{c.online:.1%}")
        for c in COUNTRIES
    ]  # fmt: skip
    return table(("country", "UTC", "cities", "of journeys", "of online merchants"), rows)


def _drift(table: Table) -> str:
    rows = [(f"`{field.name}`", f"`{getattr(USUAL, field.name)}`") for field in fields(USUAL)]
    return table(("setting", "default"), rows)
