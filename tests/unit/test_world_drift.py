"""Drift: each changes what it says and nothing else, from its day on, and makes nothing fraud or honest.

Rule 1. A drifted day is held against the same day of a calm world, column by column.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from fraud.simulation import ScenarioRun
from fraud.transaction import BARE_VERSION, PLACED_FIELDS, PLACED_VERSION, parse_transaction
from fraud.windows import HOUR_MS, MINUTE_MS
from producer.messages import placed_transaction_values
from producer.streamed_world import GeneratedWorld
from producer.world.categories import CATEGORIES
from producer.world.days import begin_of
from producer.world.drift import CALM, LATE_MINUTES_MAX, USUAL, Drift, arrivals
from producer.world.geography import COUNTRIES
from producer.world.population import Population
from producer.world.rows import GENUINE, NO_DEVICE, NO_PLACE, SCENARIO_NAMES, TYPES, Rows, concatenate, frame
from producer.world.scenarios.purchases import MOVED_TO
from producer.world.schedule import world_day
from producer.world.world import World
from producer.world_delivery import Disorder
from producer.world_stream import transaction_of

DAY = 40
OFF = {"late_share": 0.0, "copied_share": 0.0}


@pytest.fixture(scope="module")
def population() -> Population:
    return Population.make(0, 6000)


@pytest.fixture(scope="module")
def calm(population: Population) -> Rows:
    return world_day(population, DAY)


def day(population: Population, day: int = DAY, **settings: float | str) -> Rows:
    return world_day(population, day, Drift(**(OFF | settings)))  # type: ignore[arg-type]


def changed(one: Rows, other: Rows) -> set[str]:
    """The columns that differ."""
    assert len(one) == len(other)
    return {name for name in TYPES if not np.array_equal(getattr(one, name), getattr(other, name))}


def codes(population: Population, rows: Rows) -> np.ndarray:
    mcc = np.array([category.mcc for category in CATEGORIES])
    return mcc[population.merchant_category[population.terminal_merchant[rows.terminal]]]


def countries(population: Population, rows: Rows) -> np.ndarray:
    code = np.array([country.code for country in COUNTRIES])
    return code[population.merchant_country[population.terminal_merchant[rows.terminal]]]


EVERY = {
    "fraud_moves_day": {},
    "under_threshold_day": {"threshold_minor": 5000},
    "sales_day": {},
    "inflation_day": {"inflation_a_month": 0.5},
    "country_opens_day": {},
    "silent_device_day": {},
    "silent_place_day": {},
}


@pytest.mark.parametrize("name", EVERY)
def test_before_its_day_nothing_changes_and_on_it_something_does(population: Population, calm: Rows, name: str) -> None:
    assert changed(day(population, **EVERY[name], **{name: DAY + 1}), calm) == set()
    on_the_day = day(population, **EVERY[name], **{name: DAY})
    assert len(on_the_day) != len(calm) or changed(on_the_day, calm)


@pytest.mark.parametrize("name", EVERY)
def test_no_drift_makes_a_row_fraud_or_honest(population: Population, calm: Rows, name: str) -> None:
    drifted = day(population, **EVERY[name], **{name: DAY})
    frauds, others = (rows.take(rows.scenario != GENUINE) for rows in (calm, drifted))
    if name == "fraud_moves_day":  # the same episodes on the same cards; what they buy is another draw
        assert abs(len(frauds) - len(others)) < 0.1 * len(frauds)
        return
    assert changed(frauds, others) & {"occurred_at_ms", "card", "scenario"} == set()
    assert len(frauds) > 20


def test_fraud_that_moves_buys_elsewhere_and_honest_people_do_not(population: Population, calm: Rows) -> None:
    moved = day(population, fraud_moves_day=0)
    honest, as_ever = (rows.take(rows.scenario == GENUINE) for rows in (moved, calm))
    assert changed(honest, as_ever) <= {"number"}
    online = moved.take((moved.scenario != GENUINE) & moved.online)
    before = calm.take((calm.scenario != GENUINE) & calm.online)
    assert np.isin(codes(population, online), MOVED_TO).mean() > 0.8
    assert np.isin(codes(population, before), MOVED_TO).mean() < 0.2


def test_fraud_under_the_threshold_is_just_under_it_and_honest_amounts_stay(population: Population, calm: Rows) -> None:
    under = day(population, under_threshold_day=DAY, threshold_minor=5000)
    assert changed(under, calm) == {"amount_minor"}
    moved = under.amount_minor != calm.amount_minor
    assert moved.sum() > 10
    assert (calm.scenario[moved] != GENUINE).all() and (calm.amount_minor[moved] >= 5000).all()
    assert ((under.amount_minor[moved] < 5000) & (under.amount_minor[moved] >= 4700)).all()


def test_rising_prices_do_not_lift_fraud_over_the_threshold(population: Population) -> None:
    both = day(population, under_threshold_day=0, threshold_minor=5000, inflation_day=0, inflation_a_month=0.5)
    turned = [1 + SCENARIO_NAMES.index(name) for name in ("terminal-compromise", "friendly-fraud")]
    added = both.take((both.scenario != GENUINE) & ~np.isin(both.scenario, turned))
    assert len(added) > 10
    assert added.amount_minor.max() < 5000
    assert both.amount_minor[both.scenario == GENUINE].max() > 5000


def test_a_sales_day_has_more_and_cheaper_purchases_online_and_no_more_fraud(
    population: Population, calm: Rows
) -> None:
    sale = day(population, sales_day=DAY, sales_factor=2.0)
    online, usual = (rows.take(rows.online & (rows.scenario == GENUINE)) for rows in (sale, calm))
    assert 1.9 < len(online) / len(usual) <= 2.0
    assert 0.75 < np.median(online.amount_minor) / np.median(usual.amount_minor) < 0.85
    shops, as_ever = (rows.take(~rows.online & (rows.scenario == GENUINE)) for rows in (sale, calm))
    assert changed(shops, as_ever) <= {"number"}
    assert population.is_open(sale.card, sale.occurred_at_ms).all()
    assert changed(day(population, DAY + 1, sales_day=DAY), world_day(population, DAY + 1)) == set()


def test_prices_rise_for_all_alike_by_the_stated_rate(population: Population, calm: Rows) -> None:
    risen = day(population, inflation_day=DAY - 29, inflation_a_month=0.10)
    assert changed(risen, calm) == {"amount_minor"}
    large = calm.amount_minor > 1000
    assert np.allclose(risen.amount_minor[large] / calm.amount_minor[large], 1.10, atol=0.001)


def test_a_country_that_opens_takes_a_share_of_the_honest_purchases_online(population: Population, calm: Rows) -> None:
    opened = day(population, country_opens_day=DAY, new_country="TH", country_share=0.2)
    assert changed(opened, calm) == {"terminal"}
    moved = opened.terminal != calm.terminal
    assert calm.online[moved].all()
    assert (countries(population, opened)[moved] == "TH").all()
    online = calm.online & (calm.scenario == GENUINE)
    assert 0.17 < (countries(population, opened)[online] == "TH").mean() < 0.24
    assert (countries(population, calm)[online] == "TH").mean() < 0.05
    place = population.merchants.place[population.terminal_merchant[opened.terminal[moved]]]
    assert len(np.unique(place)) == 1, "of the merchants there, those that sell online"


@pytest.mark.parametrize(("name", "columns", "null"), [
    ("silent_device_day", {"device"}, NO_DEVICE), ("silent_place_day", {"latitude_cdeg", "longitude_cdeg"}, NO_PLACE),
])  # fmt: skip
def test_a_silent_sensor_is_null_in_its_share_of_the_rows(
    population: Population, calm: Rows, name: str, columns: set[str], null: int
) -> None:
    silent = day(population, **{name: DAY}, silent_share=0.5)
    assert changed(silent, calm) == columns
    for column in columns:
        had = getattr(calm, column) != null
        assert 0.47 < (getattr(silent, column)[had] == null).mean() < 0.53
    whole = day(population, **{name: DAY})
    assert all((getattr(whole, column) == null).all() for column in columns)


def test_before_a_change_of_the_schema_messages_have_no_merchant_place_or_device_and_after_it_they_do() -> None:
    changes = World(0, 500, Drift(schema_change_day=DAY))
    as_ever = World(0, 500)
    before, after = (changes.frame(changes.day(each)) for each in (DAY - 1, DAY))
    assert after.equals(as_ever.frame(as_ever.day(DAY)))
    assert before.select(PLACED_FIELDS).null_count().row(0) == (before.height,) * len(PLACED_FIELDS)
    rest = pl.exclude(PLACED_FIELDS)
    assert before.select(rest).equals(as_ever.frame(as_ever.day(DAY - 1)).select(rest))
    versions = set()
    for table in (before, after):
        rows = table.head(50).with_columns(clock_ms="occurred_at_ms")
        single = [transaction_of(row, row["clock_ms"]) for row in rows.iter_rows(named=True)]
        assert placed_transaction_values(rows) == [message.to_json() for message in single]
        assert all(parse_transaction(message.to_json(), message.card_id.encode()) == message for message in single)
        versions |= {message.schema_version for message in single}
    assert versions == {BARE_VERSION, PLACED_VERSION}


def test_a_scenario_run_has_messages_of_the_version_of_its_time() -> None:
    streamed = GeneratedWorld(World(0, 500, Drift(schema_change_day=DAY)))
    for each, bare in ((DAY - 1, True), (DAY, False)):
        run = ScenarioRun("run-a", "card-testing", 3, 10.0, {}, begin_of(each), begin_of(each) + 10 * MINUTE_MS)
        assert streamed.run_frame(run)["merchant_id"].is_null().all() == bare


# -- delivery ----------------------------------------------------------------------------------------------------------


def delivered(rows: Rows, population: Population, **settings: float) -> pl.DataFrame:
    return Disorder(0, Drift(**settings))(frame(rows, population), DAY)  # type: ignore[arg-type]


def test_a_share_arrives_late_within_the_stated_minutes_and_the_rest_in_time(
    population: Population, calm: Rows
) -> None:
    rows = delivered(calm, population, late_share=0.1, late_minutes_max=60, copied_share=0)
    late_ms = (rows["clock_ms"] - rows["occurred_at_ms"]).to_numpy()
    assert rows.height == len(calm) and (late_ms >= 0).all()
    assert 0.08 < (late_ms > 0).mean() < 0.12
    assert 55 * MINUTE_MS < late_ms.max() <= 60 * MINUTE_MS


def test_a_share_arrives_twice_the_second_time_within_an_hour(population: Population, calm: Rows) -> None:
    rows = delivered(calm, population, late_share=0.1, copied_share=0.05)
    copies = rows.filter("is_copy")
    assert 0.04 < copies.height / len(calm) < 0.06
    once = rows.filter(~pl.col("is_copy"))
    both = copies.join(once, on="transaction_id", suffix="_first", validate="1:1")
    assert both.height == copies.height
    after_ms = both["clock_ms"] - both["clock_ms_first"]
    assert after_ms.min() > 0 and after_ms.max() <= HOUR_MS
    same = [name for name in once.columns if name not in ("clock_ms", "is_copy", "transaction_id")]
    assert all(both[name].equals(both[f"{name}_first"], null_equal=True, check_names=False) for name in same)


def test_delivery_is_the_same_each_time_and_other_on_another_day(population: Population, calm: Rows) -> None:
    drift = Drift(late_share=0.1, copied_share=0.1)
    at_ms = calm.occurred_at_ms
    (one, copied), (again, copied_again) = (arrivals(0, len(calm), at_ms, DAY, drift) for _ in range(2))
    assert np.array_equal(one, again) and np.array_equal(copied, copied_again)
    assert not np.array_equal(one, arrivals(0, len(calm), at_ms, DAY + 1, drift)[0])
    assert not np.array_equal(one, arrivals(1, len(calm), at_ms, DAY, drift)[0])


def test_a_calm_world_delivers_in_order_and_the_usual_one_nearly(population: Population, calm: Rows) -> None:
    in_order, _ = arrivals(0, len(calm), calm.occurred_at_ms, DAY, CALM)
    assert np.array_equal(in_order, calm.occurred_at_ms)
    usual, copied = arrivals(0, len(calm), calm.occurred_at_ms, DAY, USUAL)
    assert 0 < (usual != calm.occurred_at_ms).mean() < 0.01
    assert 0 < copied.mean() < 0.005


def test_disorder_does_not_touch_what_happened(population: Population) -> None:
    drift = Drift(late_share=0.5, copied_share=0.5)
    assert changed(world_day(population, 3, drift), world_day(population, 3)) == set()


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {"sales_day": -1}, {"inflation_day": 730}, {"schema_change_day": 730},
    {"silent_share": 1.1}, {"late_share": -0.1}, {"copied_share": 2},
    {"threshold_minor": 1}, {"sales_factor": 0.5}, {"inflation_a_month": 2}, {"late_minutes_max": LATE_MINUTES_MAX + 1},
    {"late_share": float("nan")}, {"sales_factor": float("nan")}, {"new_country": "XX"},
])  # fmt: skip
def test_an_impossible_setting_is_refused_with_its_name_and_range(settings: dict[str, float]) -> None:
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} is .*, it must be "):
        Drift(**settings)  # type: ignore[arg-type]


def test_a_world_of_one_card_can_drift() -> None:
    one = Population.make(4, 1)
    settings = {name: 0 for name in EVERY if name != "sales_day"}
    days = [world_day(one, each, Drift(**settings, sales_day=each, sales_factor=3)) for each in range(30)]  # type: ignore[arg-type]
    assert len(concatenate(days)) < 300
