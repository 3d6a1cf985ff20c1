"""Scenarios that a person starts: planned the same by everybody, within their minutes, and refused when they cannot be."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from fraud.windows import DAY_MS, MINUTE_MS
from producer.world.days import begin_of
from producer.world.live_run import MINUTES_MAX, LiveRun, checked, rows
from producer.world.population import Population
from producer.world.rows import BACKGROUND, SCENARIO_NAMES, TYPES, frame

BEGIN_MS = begin_of(50) + DAY_MS // 3
RUN = LiveRun("run-a", "card-testing", {}, 20, 10.0, BEGIN_MS)


@pytest.fixture(scope="module")
def population() -> Population:
    return Population.make(0, 2000)


@pytest.mark.parametrize("name", SCENARIO_NAMES)
def test_a_run_is_on_its_cards_within_its_minutes_in_order_with_ids_of_its_own(
    population: Population, name: str
) -> None:
    run = replace(RUN, scenario=name, parameters={"purchases_per_day": 1000} if name == "leaked-card" else {})
    made = rows(population, run)
    assert made.occurred_at_ms[0] >= BEGIN_MS and made.occurred_at_ms[-1] < BEGIN_MS + 10 * MINUTE_MS
    assert (np.diff(made.occurred_at_ms) >= 0).all()
    assert len(np.unique(made.card)) == 20
    assert (made.scenario == 1 + SCENARIO_NAMES.index(name)).all() and (made.run != BACKGROUND).all()
    table = frame(made, population, [run.run_id])
    assert table["transaction_id"].to_list() == [f"run-a-{number}" for number in range(len(made))]
    assert set(table["scenario"]) == {name}


def test_a_run_is_the_same_for_everybody_and_another_run_another(population: Population) -> None:
    def differ(one: LiveRun, other: LiveRun, of: Population = population) -> bool:
        first, second = rows(population, one), rows(of, other)
        return any(not np.array_equal(getattr(first, name), getattr(second, name)) for name in TYPES)

    assert not differ(RUN, RUN, Population.make(0, 2000))
    assert differ(RUN, replace(RUN, run_id="run-b"))
    assert differ(RUN, RUN, Population.make(1, 2000))


def test_a_run_goes_through_json_unchanged() -> None:
    run = replace(RUN, parameters={"small_count": 3.0})
    assert msgspec.json.decode(msgspec.json.encode(run), type=LiveRun) == run


def test_a_run_takes_open_cards_only(population: Population) -> None:
    everybody = replace(RUN, cards=2000)
    cards = np.unique(rows(population, everybody).card)
    assert population.is_open(cards, BEGIN_MS).all()
    assert len(cards) == population.is_open(np.arange(2000), BEGIN_MS).sum() < 2000


def test_parameters_of_a_run_are_the_scenarios(population: Population) -> None:
    small = rows(population, replace(RUN, parameters={"small_count": 50, "large_minor": 0}))
    assert len(small) > 2 * len(rows(population, RUN))
    assert small.amount_minor.max() <= 300


@pytest.mark.parametrize(("change", "said"), [
    ({"cards": 2001}, "cards is 2001, it must be 1 .. 2000"), ({"cards": 0}, "cards is 0, it must be 1 .. 2000"),
    ({"minutes": 0}, "minutes is 0, it must be above 0"), ({"minutes": -1}, "minutes is -1, it must be above 0"),
    ({"minutes": float("nan")}, "minutes is nan"), ({"minutes": MINUTES_MAX + 1}, "minutes is 86401, it must be above 0 and at most"),
    ({"scenario": "theft"}, "there is no scenario theft; there are: card-testing"),
    ({"parameters": {"small_count": 1.0}}, "small_count of card-testing is 1, it must be 2 .. 100"),
    ({"parameters": {"share": 1.0}}, "card-testing has no parameter share; it has: small_count"),
])  # fmt: skip
def test_a_run_that_cannot_be_is_refused_with_name_and_range(
    population: Population, change: dict[str, object], said: str
) -> None:
    run = replace(RUN, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        checked(run, population.cards)
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        rows(population, run)


def test_a_run_where_no_card_is_open_has_no_rows() -> None:
    alone = next(
        p for p in (Population.make(seed, 1) for seed in range(50)) if not p.is_open(np.array([0]), BEGIN_MS)[0]
    )
    for name in SCENARIO_NAMES:
        assert len(rows(alone, replace(RUN, scenario=name, cards=1))) == 0
