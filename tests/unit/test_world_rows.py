"""Rows of the world: columns in, columns out, and the table with ids that they become."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest

from fraud.transaction import LEDGER_CURRENCY, PLACED_VERSION, Transaction, parse_transaction
from producer.world.days import BEGIN_MS
from producer.world.population import Population
from producer.world.rows import (
    COLUMNS,
    NO_DEVICE,
    NO_PLACE,
    SCENARIO_NAMES,
    TYPES,
    Rows,
    concatenate,
    device_token,
    frame,
)
from producer.world.world import World


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=3, cards=300)


def test_a_column_that_is_left_out_has_its_stated_default():
    rows = Rows.make([5, 6], card=7)
    assert rows.card.tolist() == [7, 7]
    assert rows.device.tolist() == [NO_DEVICE] * 2
    assert rows.latitude_cdeg.tolist() == rows.longitude_cdeg.tolist() == [NO_PLACE] * 2
    assert rows.scenario.tolist() == [0, 0]
    assert rows.run.tolist() == [-1, -1]
    assert rows.number.tolist() == [0, 1]
    assert {name: getattr(rows, name).dtype.type for name in TYPES} == TYPES


def test_a_column_that_rows_do_not_have_is_refused_by_name():
    with pytest.raises(TypeError, match="no column merchant"):
        Rows.make([5], merchant=1)


def test_sorting_goes_by_time_then_run_then_number():
    rows = Rows.make([9, 5, 5, 5], run=[-1, 2, -1, -1], number=[0, 0, 8, 3], card=[1, 2, 3, 4])
    assert rows.sorted_by_time().card.tolist() == [4, 3, 2, 1]
    assert rows.sorted_by_time().numbered().number.tolist() == [0, 1, 2, 3]


def test_concatenating_keeps_order_and_types():
    rows = concatenate([Rows.make([3], card=1), concatenate([]), Rows.make([1, 2], card=[2, 3])])
    assert rows.occurred_at_ms.tolist() == [3, 1, 2]
    assert rows.take(rows.card > 1).card.tolist() == [2, 3]
    assert rows.online.dtype == np.bool_


def test_the_table_has_ids_texts_and_nulls(world: World):
    rows = Rows.make(
        BEGIN_MS + np.array([0, 86_400_000, 7]),
        card=[1, 2, 3],
        terminal=[0, 1, 2],
        online=[False, True, False],
        device=[NO_DEVICE, 4, 5],
        latitude_cdeg=[NO_PLACE, 1, 2],
        longitude_cdeg=[NO_PLACE, -1, 2],
        scenario=[0, 1, len(SCENARIO_NAMES)],
        run=[-1, -1, 1],
        number=[10, 11, 12],
    )
    table = frame(rows, world.population, ["first", "second"])
    assert tuple(table.columns) == COLUMNS
    assert table["transaction_id"].to_list() == ["w3-0-10", "w3-1-11", "second-12"]
    assert table["device_id"].to_list() == [None, *(f"d{token}" for token in device_token(rows.device[1:]))]
    assert table["latitude_cdeg"].to_list() == [None, 1, 2]
    assert table["longitude_cdeg"].to_list() == [None, -1, 2]
    assert table["channel"].to_list() == ["card_present", "online", "card_present"]
    assert table["scenario"].to_list() == ["", SCENARIO_NAMES[0], SCENARIO_NAMES[-1]]
    assert table["is_fraud"].to_list() == [False, True, True]
    assert table["merchant_id"][0] == f"m{world.population.terminal_merchant[0]}"


def test_each_device_has_a_token_of_its_own_that_does_not_tell_whose_it_is():
    own, nobodys = np.arange(20_000, dtype=np.int32), np.arange(10**9, 10**9 + 20_000, dtype=np.int32)
    token = device_token(np.concatenate([own, nobodys]))
    assert len(np.unique(token)) == 40_000
    assert 0.45 < (token[:20_000, None] < np.quantile(token[20_000:], 0.5)).mean() < 0.55
    assert (own[:, None] < np.quantile(nobodys, 0.5)).all(), "the numbers themselves would tell"


def test_no_rows_are_a_table_without_rows(world: World):
    table = frame(concatenate([]), world.population)
    assert table.shape == (0, len(COLUMNS))
    assert table.schema == world.frame(world.day(0)).schema


def test_every_row_of_a_day_is_a_valid_message_of_version_2(world: World):
    for row in world.frame(world.day(40)).drop("is_fraud", "scenario").iter_rows(named=True):
        sent = {"currency": LEDGER_CURRENCY, "sent_at_ms": row["occurred_at_ms"], "schema_version": PLACED_VERSION}
        message = msgspec.convert({**row, **sent}, Transaction)
        assert parse_transaction(message.to_json(), message.card_id.encode()) == message


def test_ids_are_unique_over_days(world: World):
    ids = pl.concat([world.frame(rows) for rows in world.days(10)])["transaction_id"]
    assert ids.is_unique().all()


@pytest.mark.parametrize(("seed", "cards"), [(0, 0), (0, -1), (0, 10_000_001), (-1, 5), (2**31, 5)])
def test_an_impossible_population_is_refused_with_name_and_range(seed: int, cards: int):
    with pytest.raises(ValueError, match=r"(cards|seed) is -?\d+, it must be \d+ \.\. "):
        Population.make(seed, cards)


@pytest.mark.parametrize("day", [-1, 730])
def test_a_day_outside_the_world_is_refused(world: World, day: int):
    with pytest.raises(ValueError, match=r"day is -?\d+, the world has the days 0 \.\. 729"):
        world.day(day)


@pytest.mark.parametrize("days", [0, 731])
def test_a_number_of_days_outside_the_world_is_refused(world: World, days: int):
    with pytest.raises(ValueError, match=r"days is \d+, it must be 1 \.\. 730"):
        world.days(days)
