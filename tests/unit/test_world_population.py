"""Who lives in the world: cards, merchants, devices, subscriptions, whatever the size of the world."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from producer.world.categories import CATEGORIES
from producer.world.days import BEGIN_MS, END_MS
from producer.world.draws import hashed, zipf_rank
from producer.world.geography import CITIES, CITY_COUNTRY, CITY_LATITUDE_CDEG, HOME, ONLINE, PLACES, distance_km
from producer.world.lifestyles import LIFESTYLES, mix
from producer.world.merchants import EXPONENT, sells
from producer.world.population import DEVICES_PER_CARD, PHONE_DAYS, Population


@pytest.fixture(scope="module")
def population() -> Population:
    return Population.make(0, 5000)


def bytes_of(value: object) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if is_dataclass(value):
        return sum(bytes_of(getattr(value, field.name)) for field in fields(value))
    return 0


def test_the_tables_are_shares():
    assert sum(style.share for style in LIFESTYLES) == pytest.approx(1)
    assert sum(category.shop_share for category in CATEGORIES) == pytest.approx(1)
    assert sum(category.online_share for category in CATEGORIES) == pytest.approx(1)
    assert len({category.mcc for category in CATEGORIES}) == len(CATEGORIES)
    for online in (False, True):
        assert mix(online).sum(axis=1) == pytest.approx(np.ones(len(LIFESTYLES)))


def test_a_million_cards_keep_less_than_250_bytes_each():
    assert bytes_of(Population.make(0, 1_000_000)) < 250e6


@pytest.mark.parametrize("cards", [1, 2, 77, 5000])
def test_every_place_sells_what_is_sold_there_in_a_world_of_any_size(cards: int):
    merchants = Population.make(1, cards).merchants
    counts = np.diff(merchants.group_first).reshape(PLACES, len(CATEGORIES))
    for place in range(PLACES):
        assert ((counts[place] > 0) == sells(place)).all()
    assert (np.diff(merchants.first_terminal) >= 1).all()
    assert merchants.first_terminal[-1] == len(merchants.terminal_merchant)


def test_a_chosen_terminal_belongs_to_the_place_and_category_asked_for(population: Population):
    random = np.random.default_rng(1)
    place, category = np.divmod(random.integers(0, PLACES * len(CATEGORIES), 20_000), len(CATEGORIES))
    possible = np.stack([sells(p) for p in range(PLACES)])[place, category]
    place, category = place[possible], category[possible]
    terminal = population.merchants.chosen(place, category, random.random(len(place)), random.random(len(place)))
    merchant = population.terminal_merchant[terminal]
    assert (population.merchants.place[merchant] == place).all()
    assert (population.merchant_category[merchant] == category).all()
    shops = place != ONLINE
    assert (population.merchant_country[merchant[shops]] == CITY_COUNTRY[place[shops]]).all()


def test_ranks_follow_zipf_and_evenly_drawn_ranks_do_not():
    count, random = 500, np.random.default_rng(2)

    def exponent(rank: np.ndarray) -> float:
        visits = np.bincount(rank, minlength=count)[9:200]
        return -float(np.polyfit(np.log(np.arange(10, 201)), np.log(visits), 1)[0])

    drawn = zipf_rank(random.random(400_000), np.full(400_000, count), EXPONENT)
    assert exponent(drawn) == pytest.approx(EXPONENT, abs=0.1)
    assert drawn.min() == 0
    assert drawn.max() == count - 1
    assert abs(exponent(random.integers(0, count, 400_000))) < 0.1


def test_a_rank_among_one_is_the_first():
    assert zipf_rank(np.array([0.0, 0.999999999999]), np.array([1, 1]), EXPONENT).tolist() == [0, 0]


def test_popular_merchants_have_more_terminals(population: Population):
    groups = population.merchants.group_first
    terminals = np.diff(population.merchants.first_terminal)
    largest = int(np.argmax(np.diff(groups)))
    mine = terminals[groups[largest] : groups[largest + 1]]
    assert mine[:5].mean() > 2 * mine[-20:].mean()


def test_homes_are_in_the_home_country_and_near_their_city(population: Population):
    assert (CITY_COUNTRY[population.home] == HOME).all()
    off = population.latitude_cdeg - CITY_LATITUDE_CDEG[population.home]
    assert 5 < off.std() < 15


def test_most_cards_live_through_the_world_and_some_open_or_close_in_it(population: Population):
    opens = (population.opened_at_ms > BEGIN_MS).mean()
    closes = (population.closed_at_ms < END_MS).mean()
    assert 0.25 < opens < 0.35
    assert 0.08 < closes < 0.16
    assert (population.closed_at_ms - population.opened_at_ms).min() >= 30 * 86_400_000
    assert population.is_open(np.array([0]), population.opened_at_ms[:1]).all()
    assert not population.is_open(np.array([0]), population.opened_at_ms[:1] - 1).any()


def test_a_device_is_its_cards_or_its_households_and_phones_are_replaced(population: Population):
    card = np.arange(population.cards)
    first, later = (population.device_at(card, day, np.ones(len(card))) for day in (0, PHONE_DAYS))
    assert (later == first + 1).all()
    assert later.max() < population.devices
    _, users = np.unique(first, return_counts=True)
    assert users.max() == 2
    assert 0.05 < (users == 2).mean() < 0.12
    second = population.device_at(card, 0, np.zeros(len(card)))
    assert set(np.unique(second % DEVICES_PER_CARD)) <= {0, 1, 2, 3}
    assert (second % DEVICES_PER_CARD == 3).sum() == population.second_device.sum()


def test_subscriptions_of_a_day_of_the_month_are_a_slice_and_all_are_in_one(population: Population):
    due = population.subscriptions
    counts = [len(due.card[due.on(day)]) for day in range(1, 32)]
    assert sum(counts) == len(due.card)
    assert counts[28:] == [0, 0, 0]
    assert min(counts[:28]) > 100
    assert (population.merchants.place[population.terminal_merchant[due.terminal]] == ONLINE).all()


def test_a_hash_is_even_and_depends_on_every_key():
    key = np.arange(100_000)
    values = hashed(1, 2, key, 3)
    assert np.histogram(values, 20, (0, 1))[0] == pytest.approx(np.full(20, 5000), rel=0.06)
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02
    for other in (hashed(2, 2, key, 3), hashed(1, 3, key, 3), hashed(1, 2, key + 1, 3), hashed(1, 2, key, 4)):
        assert abs(np.corrcoef(values, other)[0, 1]) < 0.02


def test_the_distance_from_berlin_to_munich_is_known():
    berlin, munich = (np.array([[round(c.latitude * 100)], [round(c.longitude * 100)]]) for c in (CITIES[0], CITIES[2]))
    assert distance_km(*berlin, *munich)[0] == pytest.approx(504, abs=3)
