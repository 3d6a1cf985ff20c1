"""Honest behaviour: its shapes within stated bounds, on a fixed seed, each with a control that the check would catch.

Rule 1. Bounds are stated where they are checked, and are those of docs/world.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from fraud.windows import DAY_MS, HOUR_MS
from producer.world.categories import CASH
from producer.world.days import BEGIN_MS, begin_of, date_of
from producer.world.geography import distance_km
from producer.world.habits import honest_day
from producer.world.journeys import ON_THE_WAY, place_at
from producer.world.population import Population
from producer.world.rows import NO_DEVICE, NO_PLACE, TYPES, Rows, concatenate, frame
from producer.world.summary import Summary

DAYS = 84
DIGEST = "a4b5e2c1dd068e38f51189b995f4ad58b998d9b371ea3dc3a433166cde019159"


@dataclass(frozen=True)
class Lived:
    population: Population
    rows: Rows
    summary: Summary


@pytest.fixture(scope="module")
def lived() -> Lived:
    """Twelve weeks of 5,000 cards."""
    population = Population.make(0)
    summary, parts = Summary(population), []
    for day in range(DAYS):
        parts.append(honest_day(population, day))
        summary.add(parts[-1])
    return Lived(population, concatenate(parts), summary)


def digest(rows: Rows) -> str:
    return hashlib.sha256(b"".join(getattr(rows, name).tobytes() for name in TYPES)).hexdigest()


# -- a pure function of seed and day ----------------------------------------------------------------------------------


def test_a_fixed_seed_gives_the_committed_bytes():
    population = Population.make(7, 400)
    assert digest(concatenate([honest_day(population, day) for day in (0, 1, 200)])) == DIGEST


def test_another_seed_gives_other_bytes():
    one, other = Population.make(7, 400), Population.make(8, 400)
    ids = pl.col("transaction_id")
    first = frame(honest_day(one, 0), one).with_columns(ids.str.replace("w7", "w8"))
    assert not first.equals(frame(honest_day(other, 0), other))
    assert (one.trips_per_day != other.trips_per_day).all()


def test_a_day_alone_is_the_day_in_a_run(lived: Lived):
    alone = honest_day(Population.make(0), 41)
    within = (lived.rows.occurred_at_ms - BEGIN_MS) // DAY_MS == 41
    assert len(alone) > 5000
    for name in TYPES:
        assert np.array_equal(getattr(alone, name), getattr(lived.rows, name)[within]), name


def test_a_day_is_in_order_of_time_numbered_and_within_its_midnights():
    population = Population.make(0, 2000)
    for day in (0, 58, 364, 729):
        rows = honest_day(population, day)
        assert (np.diff(rows.occurred_at_ms) >= 0).all()
        assert rows.number.tolist() == list(range(len(rows)))
        assert begin_of(day) <= rows.occurred_at_ms[0]
        assert rows.occurred_at_ms[-1] < begin_of(day) + DAY_MS


def test_a_world_of_one_card_has_days():
    population = Population.make(4, 1)
    rows = concatenate([honest_day(population, day) for day in range(60)])
    assert 5 < len(rows) < 500


# -- how often, and when ----------------------------------------------------------------------------------------------


def test_a_card_pays_once_or_twice_a_day(lived: Lived):
    per_card = np.bincount(lived.rows.card, minlength=lived.population.cards) / DAYS
    assert 1 < len(lived.rows) / DAYS / lived.population.cards < 2
    assert np.quantile(per_card[lived.population.opened_at_ms == BEGIN_MS], 0.99) > 5


def test_shops_are_busy_in_the_afternoon_and_empty_at_night_and_online_peaks_in_the_evening(lived: Lived):
    shop, online = (hours / hours.sum() for hours in lived.summary.hour)
    assert shop[0:4].sum() < 0.02
    assert shop[15:18].sum() > 0.20
    assert int(shop.argmax()) in (15, 16, 17)
    assert int(online.argmax()) in (18, 19, 20)
    assert online[0:4].sum() < 0.15


def test_shops_are_full_on_saturday_and_closed_on_sunday_and_online_is_not(lived: Lived):
    shop, online = lived.summary.weekday / (DAYS / 7)
    wednesday, saturday, sunday = 2, 5, 6
    assert 1.15 < shop[saturday] / shop[wednesday] < 1.45
    assert 0.40 < shop[sunday] / shop[wednesday] < 0.65
    assert 1.0 < online[sunday] / online[wednesday] < 1.3


def test_people_go_more_often_after_their_payday_and_others_do_not(lived: Lived):
    day = (lived.rows.occurred_at_ms - BEGIN_MS) // DAY_MS
    of_month = np.array([date_of(d).day for d in range(DAYS)])
    after, before = np.isin(of_month, (15, 16, 17)), np.isin(of_month, (10, 11, 12))

    def rise(payday: int) -> float:
        trips = np.bincount(day[lived.population.payday[lived.rows.card] == payday], minlength=DAYS)
        return float(trips[after].mean() / trips[before].mean())

    # Three months: the weekdays of both spans differ alike for all, so people of another payday are the measure.
    assert 1.15 < rise(15) / rise(25) < 1.6
    assert 0.9 < rise(1) / rise(25) < 1.1


def test_december_is_stronger_than_february():
    population = Population.make(0, 2000)

    def a_card(first_day: int) -> float:
        counts = [len(honest_day(population, first_day + day)) for day in range(7)]
        noon = begin_of(first_day + 3)
        return sum(counts) / float(population.is_open(np.arange(population.cards), noon).sum())

    february, december = 38, 341  # whole weeks, at the same days of the month
    assert 1.2 < a_card(december) / a_card(february) < 1.5


def test_nobody_pays_before_the_card_is_open_or_after_it_is_closed(lived: Lived):
    assert lived.population.is_open(lived.rows.card, lived.rows.occurred_at_ms).all()
    late = lived.population.opened_at_ms[lived.rows.card] > BEGIN_MS + 20 * DAY_MS
    assert late.any()


# -- how much ---------------------------------------------------------------------------------------------------------


def tail(amounts: np.ndarray) -> tuple[float, float, float]:
    """99 % over median, share of the money in the largest percent, Hill's exponent of the largest half percent.

    Hill: B. M. Hill, "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3, 1975.
    """
    largest = np.sort(amounts)[::-1]
    percent, half = len(largest) // 100, len(largest) // 200
    hill = 1 / np.log(largest[:half] / largest[half]).mean()
    return (
        float(np.quantile(amounts, 0.99) / np.median(amounts)),
        float(largest[:percent].sum() / largest.sum()),
        float(hill),
    )


def heavy(amounts: np.ndarray) -> bool:
    over_median, share, hill = tail(amounts)
    return 15 < over_median < 35 and 0.12 < share < 0.25 and 1.7 < hill < 3.0


def test_amounts_are_heavy_tailed_and_a_bell_of_the_same_mean_is_not(lived: Lived):
    amounts = lived.rows.amount_minor
    assert heavy(amounts), tail(amounts)
    bell = np.random.default_rng(0).normal(amounts.mean(), amounts.mean() / 3, len(amounts)).clip(1)
    assert not heavy(bell)


def test_amounts_are_whole_cents_above_zero_but_for_verifications_online(lived: Lived):
    zero = lived.rows.amount_minor == 0
    assert lived.rows.amount_minor.min() == 0
    assert lived.rows.online[zero].all()
    assert 0.0005 < zero.sum() / lived.rows.online.sum() < 0.004


def test_cash_is_whole_tens(lived: Lived):
    merchant = lived.population.terminal_merchant[lived.rows.terminal]
    cash = lived.population.merchant_category[merchant] == CASH
    assert cash.sum() > 1000
    assert (lived.rows.amount_minor[cash] % 1000 == 0).all()
    assert lived.rows.amount_minor[cash].min() >= 1000


# -- to whom, from where, with what -----------------------------------------------------------------------------------


def test_visits_fall_with_the_rank_as_zipf_says_and_even_visits_do_not(lived: Lived):
    assert 0.75 < lived.summary.zipf_exponent < 1.1
    even = Summary(lived.population)
    terminal = np.random.default_rng(0).integers(0, lived.population.terminals, 200_000)
    even.add(Rows.make(np.full(len(terminal), BEGIN_MS), terminal=terminal))
    assert even.zipf_exponent < 0.6


def test_cards_are_loyal_to_a_few_merchants(lived: Lived):
    """More than a quarter of a card's purchases in shops is made at three merchants; by chance far less would be."""

    def share_of_three(merchant: np.ndarray) -> float:
        visits = pl.DataFrame({"card": lived.rows.card[shops], "merchant": merchant}).group_by("card", "merchant").len()
        top = visits.group_by("card").agg(pl.col("len").top_k(3).sum().alias("top"), pl.col("len").sum().alias("all"))
        top = top.filter(pl.col("all") >= 60)
        return float((top["top"] / top["all"]).mean() or 0)

    shops = ~lived.rows.online
    merchant = lived.population.terminal_merchant[lived.rows.terminal[shops]]
    loyal, shuffled = share_of_three(merchant), share_of_three(np.random.default_rng(0).permutation(merchant))
    assert loyal > 0.25
    assert loyal > 1.5 * shuffled


def test_most_shopping_is_near_home_and_some_abroad(lived: Lived):
    rows = lived.rows.take(~lived.rows.online)
    home = lived.population.latitude_cdeg[rows.card], lived.population.longitude_cdeg[rows.card]
    far = distance_km(*home, rows.latitude_cdeg, rows.longitude_cdeg) > 100
    assert 0.01 < far.mean() < 0.08


def test_nobody_shops_in_two_places_at_once_and_a_fraudster_would(lived: Lived):
    def too_fast(rows: Rows) -> int:
        rows = rows.take(np.lexsort((rows.occurred_at_ms, rows.card)))
        one, next_one = rows.take(slice(None, -1)), rows.take(slice(1, None))
        km = distance_km(one.latitude_cdeg, one.longitude_cdeg, next_one.latitude_cdeg, next_one.longitude_cdeg)
        hours = (next_one.occurred_at_ms - one.occurred_at_ms) / HOUR_MS
        return int(((one.card == next_one.card) & (km > 100) & (km > 900 * hours)).sum())

    shops = lived.rows.take(~lived.rows.online)
    assert too_fast(shops) == 0
    copied = shops.take(np.arange(0, len(shops), 1000))
    elsewhere = Rows.make(copied.occurred_at_ms + HOUR_MS, card=copied.card, latitude_cdeg=655, longitude_cdeg=340)
    assert too_fast(concatenate([shops, elsewhere])) > 100


def test_a_journey_leaves_stays_and_comes_home(lived: Lived):
    card = int(np.argmax(lived.population.journeys))
    at = BEGIN_MS + np.arange(0, 400 * DAY_MS, HOUR_MS // 2)
    place = place_at(lived.population, np.full(len(at), card), at)
    changes = np.flatnonzero(np.diff(place))
    assert len(changes) >= 4
    for change in changes:
        assert (place[change] == ON_THE_WAY) != (place[change + 1] == ON_THE_WAY), "places change only by travelling"
    assert (place == lived.population.home[card]).mean() > 0.5


def test_devices_online_are_the_cards_own_and_some_are_not_seen(lived: Lived):
    rows = lived.rows
    seen = rows.device != NO_DEVICE
    assert (rows.device[seen] // 4 * 4 == lived.population.first_device[rows.card[seen]]).all()
    assert 0.70 < seen[rows.online].mean() < 0.95
    assert 0.15 < seen[~rows.online].mean() < 0.60
    assert lived.population.wallet[rows.card[seen & ~rows.online]].all()


def test_some_places_are_not_seen_online_and_all_are_in_shops(lived: Lived):
    unseen = lived.rows.latitude_cdeg == NO_PLACE
    assert (unseen == (lived.rows.longitude_cdeg == NO_PLACE)).all()
    assert not unseen[~lived.rows.online].any()
    assert 0.02 < unseen[lived.rows.online].mean() < 0.25


def test_a_subscription_is_paid_every_month_alike(lived: Lived):
    night = lived.rows.online & (lived.rows.device == NO_DEVICE) & (lived.rows.latitude_cdeg == NO_PLACE)
    rows = lived.rows.take(night)
    months = np.array([date_of(int(day)).month for day in (rows.occurred_at_ms - BEGIN_MS) // DAY_MS])
    key = ["card", "terminal", "amount"]
    paid = pl.DataFrame({"card": rows.card, "terminal": rows.terminal, "amount": rows.amount_minor, "month": months})
    january, february = (paid.filter(pl.col("month") == month).select(key) for month in (1, 2))
    again = january.join(february, on=key, how="semi").height
    assert again > 0.9 * january.height
    assert january.height > 1000
