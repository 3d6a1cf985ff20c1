"""Fraud in the world: what each scenario leaves behind, and that any day of it can be made alone.

Rule 1. A check that counts has a control that it would refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from fraud.features import NAMES
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS
from producer.world.categories import CATEGORIES
from producer.world.days import BEGIN_MS, begin_of
from producer.world.draws import generator
from producer.world.geography import distance_km
from producer.world.habits import honest_day
from producer.world.population import Population
from producer.world.rows import GENUINE, NO_DEVICE, NO_PLACE, SCENARIO_NAMES, TYPES, Rows, concatenate
from producer.world.scenarios import SCENARIOS, Episode
from producer.world.schedule import episodes, world_day

CARDS = 4000
DAYS = 60
DIGEST = "08d5c898f5a698f62134dc6645eebaf775ecaf1929c370d7f4cb65f71ebe5b1a"
NUMBER = {name: 1 + index for index, name in enumerate(SCENARIO_NAMES)}


@pytest.fixture(scope="module")
def population() -> Population:
    return Population.make(0, CARDS)


@pytest.fixture(scope="module")
def days(population: Population) -> list[Rows]:
    return [world_day(population, day) for day in range(DAYS)]


@pytest.fixture(scope="module")
def lived(days: list[Rows]) -> Rows:
    return concatenate(days)


def digest(rows: Rows) -> str:
    return hashlib.sha256(b"".join(getattr(rows, name).tobytes() for name in TYPES)).hexdigest()


def episode(population: Population, name: str, cards: int = 20, random: int = 0, **parameters: float) -> Rows:
    """What a scenario makes on the first cards that are open, from noon of day 100 on."""
    begin_ms = begin_of(100) + DAY_MS // 2
    is_open = population.is_open(np.arange(population.cards), begin_ms)
    scenario = SCENARIOS[name].with_parameters(parameters)
    end_ms = begin_ms + int(scenario.days * DAY_MS)
    return scenario.run(
        Episode(population, generator(random, 0), np.flatnonzero(is_open)[:cards], begin_ms, end_ms)
    ).sorted_by_time()


def of_each_card(rows: Rows) -> Iterator[Rows]:
    return (rows.take(rows.card == card) for card in np.unique(rows.card))


# -- days ------------------------------------------------------------------------------------------------------------


def test_a_fixed_seed_gives_the_committed_bytes() -> None:
    population = Population.make(7, 1000)
    assert digest(concatenate([world_day(population, day) for day in (0, 33, 200)])) == DIGEST


def test_another_seed_gives_other_frauds(lived: Rows) -> None:
    other = concatenate([world_day(Population.make(1, CARDS), day) for day in range(20)])
    moments = [set(rows.occurred_at_ms[rows.scenario != GENUINE].tolist()) for rows in (lived, other)]
    assert len(moments[1]) > 200
    assert len(moments[0] & moments[1]) < 5


@pytest.mark.parametrize("day", [0, 17, 41])
def test_a_day_alone_is_the_day_in_a_run(days: list[Rows], day: int) -> None:
    assert digest(world_day(Population.make(0, CARDS), day)) == digest(days[day])
    assert digest(days[day]) != digest(days[day + 1])


def test_an_episode_that_lasts_weeks_is_the_same_whichever_of_its_days_is_made(
    population: Population, lived: Rows
) -> None:
    scenario = SCENARIOS["leaked-card"]
    begun = [each for day in range(20) for each in episodes(population, scenario, day) if len(each.cards)]
    assert len(begun) >= 5
    for each in begun:
        rows = scenario.run(each)
        rows = rows.take(population.is_open(rows.card, rows.occurred_at_ms))
        mine = (lived.card == each.cards[0]) & (lived.scenario == scenario.number)
        assert set(rows.occurred_at_ms.tolist()) <= set(lived.occurred_at_ms[mine].tolist())


def test_a_day_is_in_order_of_time_numbered_and_within_its_midnights(days: list[Rows]) -> None:
    for day, rows in enumerate(days):
        assert (np.diff(rows.occurred_at_ms) >= 0).all()
        assert rows.number.tolist() == list(range(len(rows)))
        assert begin_of(day) <= rows.occurred_at_ms[0] and rows.occurred_at_ms[-1] < begin_of(day) + DAY_MS


def test_between_a_fifth_of_a_percent_and_one_percent_is_fraud(lived: Rows) -> None:
    share = float((lived.scenario != GENUINE).mean())
    assert 0.002 < share < 0.01, share


def test_every_scenario_happens_and_none_is_half_of_all(lived: Rows) -> None:
    count = np.bincount(lived.scenario, minlength=len(SCENARIO_NAMES) + 1)[1:]
    assert (count > 10).all(), dict(zip(SCENARIO_NAMES, count.tolist(), strict=True))
    assert count.max() < 0.5 * count.sum()


def test_nobody_defrauds_a_card_that_is_not_open(population: Population, lived: Rows) -> None:
    assert population.is_open(lived.card, lived.occurred_at_ms).all()
    young = lived.take((lived.scenario != GENUINE) & (population.opened_at_ms[lived.card] > BEGIN_MS))
    assert len(young) > 10, "some are of young cards"
    earlier = replace(young, occurred_at_ms=young.occurred_at_ms - 100 * DAY_MS)
    assert not population.is_open(earlier.card, earlier.occurred_at_ms).any()


def test_fraud_adds_rows_and_marks_some_but_leaves_every_honest_row_as_it_was(
    population: Population, days: list[Rows]
) -> None:
    for day in (5, 40):
        honest = honest_day(population, day)
        among = days[day].take(
            np.isin(days[day].scenario, [GENUINE, NUMBER["terminal-compromise"], NUMBER["friendly-fraud"]])
        )
        key = np.rec.fromarrays([among.occurred_at_ms, among.card, among.terminal, among.amount_minor, among.device])
        before = np.rec.fromarrays(
            [honest.occurred_at_ms, honest.card, honest.terminal, honest.amount_minor, honest.device]
        )
        assert np.isin(before, key).all()
        assert len(days[day]) > len(honest)


def test_a_world_without_a_scenario_has_all_the_rest(population: Population, days: list[Rows]) -> None:
    for name in ("card-testing", "terminal-compromise"):
        rest = world_day(population, 40, without=(name,))
        assert not (rest.scenario == NUMBER[name]).any()
        others = [r.take((r.scenario != GENUINE) & (r.scenario != NUMBER[name])) for r in (rest, days[40])]
        assert np.array_equal(others[0].occurred_at_ms, others[1].occurred_at_ms) and len(others[0]) > 5
    assert (concatenate(days[35:45]).scenario == NUMBER["card-testing"]).any()


# -- scenarios ---------------------------------------------------------------------------------------------------------


def test_the_registry_has_every_scenario_once() -> None:
    assert set(SCENARIOS) == set(SCENARIO_NAMES)
    assert all(SCENARIOS[name].number == NUMBER[name] for name in SCENARIO_NAMES)


@pytest.mark.parametrize("name", SCENARIO_NAMES)
def test_the_features_meant_to_catch_a_scenario_exist(name: str) -> None:
    assert SCENARIOS[name].caught_by
    for prefix in SCENARIOS[name].caught_by:
        assert any(feature.startswith(prefix) for feature in NAMES), prefix


@pytest.mark.parametrize("name", SCENARIO_NAMES)
def test_an_episode_is_marked_on_its_cards_within_its_period_and_the_same_each_time(
    population: Population, name: str
) -> None:
    rows = episode(population, name)
    assert len(rows) >= 10
    assert (rows.scenario == NUMBER[name]).all()
    begin_ms = begin_of(100) + DAY_MS // 2
    assert rows.occurred_at_ms.min() >= begin_ms
    assert rows.occurred_at_ms.max() < begin_ms + SCENARIOS[name].days * DAY_MS
    assert (rows.amount_minor > 0).all()
    assert digest(rows) == digest(episode(population, name))
    assert digest(rows) != digest(episode(population, name, random=1))


@pytest.mark.parametrize("name", SCENARIO_NAMES)
def test_an_episode_of_no_card_has_no_rows(population: Population, name: str) -> None:
    assert len(episode(population, name, cards=0)) == 0


@pytest.mark.parametrize("name", SCENARIO_NAMES)
def test_parameters_out_of_range_or_unknown_are_refused_by_name(name: str) -> None:
    scenario = SCENARIOS[name]
    for parameter, (low, high) in scenario.ranges.items():
        for value in (low - 1, high + 1, float("nan")):
            with pytest.raises(ValueError, match=f"{parameter} of {name} is .* it must be .* \\.\\. "):
                scenario.with_parameters({parameter: value})
        assert getattr(scenario.with_parameters({parameter: high}), parameter) == high
    with pytest.raises(ValueError, match=f"{name} has no parameter wrong; it has: "):
        scenario.with_parameters({"wrong": 1.0})


def test_card_testing_is_many_small_amounts_within_minutes_then_often_a_large_one(population: Population) -> None:
    cards = list(of_each_card(episode(population, "card-testing")))
    for rows in cards:
        assert rows.occurred_at_ms[-1] - rows.occurred_at_ms[0] <= 10 * MINUTE_MS
        assert (rows.amount_minor[:-1] <= 300).all()
    assert 0.5 < np.mean([rows.amount_minor[-1] > 5000 for rows in cards]) < 1
    assert np.mean([len(np.unique(population.terminal_merchant[rows.terminal])) / len(rows) for rows in cards]) > 0.6


def test_an_account_taker_uses_one_device_that_is_nobodys_and_buys_for_more(population: Population) -> None:
    for rows in of_each_card(episode(population, "account-takeover")):
        devices = np.unique(rows.device[rows.device != NO_DEVICE])
        assert len(devices) <= 1 and (devices >= population.devices).all()
        assert rows.online.all()
        assert rows.occurred_at_ms[-1] - rows.occurred_at_ms[0] <= 2 * HOUR_MS
    usual, more = (np.median(episode(population, "account-takeover", amount_factor=f).amount_minor) for f in (1, 3))
    assert more > 2 * usual


def test_a_copied_card_pays_in_shops_far_from_home(population: Population) -> None:
    rows = episode(population, "impossible-travel")
    home = population.latitude_cdeg[rows.card], population.longitude_cdeg[rows.card]
    assert (distance_km(*home, rows.latitude_cdeg, rows.longitude_cdeg) > 300).all()
    assert not rows.online.any() and (rows.device == NO_DEVICE).all()


def test_a_compromised_terminal_defrauds_a_share_of_what_is_paid_there_for_four_weeks(population: Population) -> None:
    all_of_it = SCENARIOS["terminal-compromise"].with_parameters({"share": 1.0})
    first, last = {}, {}
    for day in range(70):
        marked = all_of_it.converted(population, honest_day(population, day), day)
        for terminal in np.unique(marked.terminal[marked.scenario == all_of_it.number]).tolist():
            first.setdefault(terminal, day)
            last[terminal] = day
    lasted = [last[terminal] - first[terminal] for terminal in first]
    assert len(first) > 10
    assert max(lasted) > 15 and np.mean(np.array(lasted) < 28) > 0.9
    half, none = (SCENARIOS["terminal-compromise"].with_parameters({"share": share}) for share in (0.5, 0.0))
    honest = honest_day(population, 40)
    counts = [int((s.converted(population, honest, 40).scenario != GENUINE).sum()) for s in (all_of_it, half, none)]
    assert counts[0] > counts[1] > counts[2] == 0


def test_a_leaked_card_pays_multiplied_amounts_at_an_ordinary_pace(population: Population) -> None:
    rows = episode(population, "leaked-card", cards=100)
    per_day = len(rows) / 100 / SCENARIOS["leaked-card"].days
    assert 0.4 < per_day < 1.0
    usual = episode(population, "leaked-card", cards=100, amount_factor=1)
    assert 4.4 < np.median(rows.amount_minor) / np.median(usual.amount_minor) < 5.6


def test_a_ring_is_one_device_with_many_cards(population: Population) -> None:
    rows = episode(population, "device-ring")
    assert len(np.unique(rows.device[rows.device != NO_DEVICE])) == 1
    assert len(np.unique(rows.card)) == 20
    assert np.bincount(rows.terminal).max() > 0.3 * len(rows)


@pytest.mark.parametrize("name", ["bust-out", "friendly-fraud"])
def test_who_is_his_own_fraudster_is_at_home_with_his_own_device_of_the_day(population: Population, name: str) -> None:
    rows = episode(population, name, cards=300)
    seen = rows.device != NO_DEVICE
    assert 0.7 < seen.mean() < 1
    own = population.first_device[rows.card] + np.arange(4)[:, None]
    assert (rows.device == own).any(axis=0)[seen].all()
    phone = population.device_at(rows.card, 100, np.ones(len(rows)))
    assert (rows.device == phone)[seen].mean() > 0.8, "the phone of the day, not of the world's first"
    first = population.device_at(rows.card, 0, np.ones(len(rows)))
    assert (rows.device == first)[seen].mean() < (rows.device == phone)[seen].mean() - 0.1
    placed = rows.latitude_cdeg != NO_PLACE
    assert (rows.latitude_cdeg == population.latitude_cdeg[rows.card])[placed].all()


def test_an_obvious_amount_is_above_what_honest_people_pay(population: Population, lived: Rows) -> None:
    rows = episode(population, "obvious-amount")
    assert rows.amount_minor.min() >= 300_000
    assert (lived.amount_minor[lived.scenario == GENUINE] > 300_000).mean() < 0.001


def test_a_few_customers_dispute_their_own_purchases_again_and_again(population: Population) -> None:
    scenario = SCENARIOS["friendly-fraud"].with_parameters({"share": 1.0})
    marked = concatenate([scenario.converted(population, honest_day(population, day), day) for day in range(10)])
    disputed = marked.take(marked.scenario == scenario.number)
    assert disputed.online.all() and disputed.amount_minor.min() >= 1000
    customers = np.unique(disputed.card)
    assert 0.01 < len(customers) / population.cards < 0.04
    theirs = marked.online & np.isin(marked.card, customers) & (marked.amount_minor >= 1000)
    assert len(disputed) == theirs.sum()


def test_amounts_end_in_99_as_often_as_honest_ones(lived: Rows) -> None:
    def share(rows: Rows) -> float:
        return float((rows.amount_minor[rows.online & (rows.amount_minor >= 100)] % 100 == 99).mean())

    fraud, honest = (share(lived.take(mask)) for mask in (lived.scenario != GENUINE, lived.scenario == GENUINE))
    assert abs(fraud - honest) < 0.08, (fraud, honest)
    assert share(Rows.make(np.zeros(1000), amount_minor=np.arange(100, 1100), online=True)) < honest - 0.2


def test_fraudsters_buy_what_others_buy(population: Population, lived: Rows) -> None:
    category = population.merchant_category[population.terminal_merchant[lived.terminal]]
    bought = [np.bincount(category[lived.scenario == number], minlength=len(CATEGORIES)) for number in range(10)]
    for number, name in enumerate(SCENARIO_NAMES, 1):
        assert (bought[0][bought[number] > 0] > 100).all(), name
