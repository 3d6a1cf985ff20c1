"""Looking at a world: the numbers are counted from its transactions, and every wrong option is refused by its name."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from producer.__main__ import app
from producer.world.describe import AMOUNT_STEPS, amount_steps, bar, percent
from producer.world.label_delays import LabelDelays
from producer.world.rows import SCENARIO_NAMES, Rows
from producer.world.summary import LabelSummary, Summary, amount_bin, amount_quantile
from producer.world.world import World

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def world() -> World:
    return World(seed=5, cards=400)


def describe(*options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["world", "describe", *options])
    return result.exit_code, result.stdout, result.stderr


def test_the_summary_counts_what_the_table_holds(world: World):
    summary, tables = Summary(world.population), []
    for rows in world.days(3):
        summary.add(rows)
        tables.append(world.frame(rows))
    table, found = pl.concat(tables), summary.as_dict()
    assert found["transactions"] == table.height == sum(found["transactions_by_day"])
    assert found["amount_minor"] == table["amount_minor"].sum()
    assert found["cards_that_pay"] == table["card_id"].n_unique()
    online = table.filter(pl.col("channel") == "online")
    assert sum(found["hours"]["online"]) == sum(found["weekdays"]["online"]) == online.height
    moment = pl.from_epoch("occurred_at_ms", "ms")
    assert found["hours"]["online"][20] == online.filter(moment.dt.hour() == 20).height
    assert found["weekdays"]["online"][3] == online.filter(moment.dt.weekday() == 4).height
    assert found["countries"]["DE"] == table.filter(pl.col("country") == "DE").height
    assert found["categories"]["5411"] == table.filter(pl.col("mcc") == "5411").height
    assert found["top_merchants"][0] == table["merchant_id"].value_counts()["count"].max()
    for quantile, amount in found["amount_quantiles_minor"].items():
        exact = np.sort(table["amount_minor"].to_numpy())[math.ceil(float(quantile) * table.height) - 1]
        assert amount == pytest.approx(exact, rel=0.006), quantile


def test_fraud_is_counted_by_scenario(world: World):
    summary = Summary(world.population)
    moments = np.full(4, world.day(0).occurred_at_ms[0])
    summary.add(Rows.make(moments, scenario=[0, 2, 2, 9], amount_minor=[100, 200, 300, 400]))
    found = summary.as_dict()
    assert found["fraud"] == 3
    assert found["fraud_share"] == 0.75
    assert found["scenarios"][SCENARIO_NAMES[1]] == {"transactions": 2, "amount_minor": 500}
    assert found["scenarios"][SCENARIO_NAMES[8]] == {"transactions": 1, "amount_minor": 400}


def test_the_label_delays_shown_are_those_configured():
    delays = LabelDelays(report_share=0.6, report_days_mean=4, report_sigma=0.8, chargeback_share=0.3)
    found = LabelSummary(delays, 1).as_dict()
    assert found["never_share"] == pytest.approx(0.1, abs=0.01)
    assert found["customer_report"]["share"] == pytest.approx(0.6, abs=0.02)
    assert found["customer_report"]["mean_days"] == pytest.approx(4, rel=0.05)
    assert found["customer_report"]["p50_days"] == pytest.approx(4 / np.exp(0.8**2 / 2), rel=0.05)
    assert found["chargeback"]["p50_days"] == pytest.approx(75, rel=0.05)
    assert LabelSummary(LabelDelays(), 1).as_dict()["customer_report"]["share"] > 0.65


def test_bars_are_as_long_as_their_values():
    assert bar(0, 10) == ""
    assert bar(10, 10, 4) == "████"
    assert bar(5, 10, 4) == "██"
    assert bar(1e-9, 10, 4) == "▏"
    assert bar(0, 0) == ""
    assert percent(1, 3) == "33.3 %"
    assert percent(1, 1000) == "0.10 %"
    assert percent(1, 1_000_000) == "< 0.01 %"
    assert percent(0, 10) == "0.0 %"
    assert percent(0, 0) == "-"


def test_amounts_fall_between_their_steps():
    amounts = np.array([0, 99, 100, 1999, 2000, 10**9])
    counts = amount_steps(np.bincount(amount_bin(amounts), minlength=5000))
    assert sum(counts) == len(amounts)
    assert counts[-1] == 1
    assert dict(zip(AMOUNT_STEPS, counts, strict=True))[0] >= 1
    assert amount_quantile(np.zeros(10, np.int64), 0.5) is None


def test_describe_prints_every_table():
    code, out, _ = describe("--cards", "50", "--days", "2")
    assert code == 0
    titles = ("The world", "Amounts", "Hours", "Weekdays", "Merchants", "Categories", "Where", "Fraud", "Labels")
    for title in titles:
        assert title in out
    assert "…" not in out, "something does not fit into 80 columns"


def test_describe_gives_one_json_object_and_a_picture(tmp_path: Path):
    path = tmp_path / "world.png"
    code, out, err = describe("--cards", "50", "--days", "2", "--seed", "9", "--json", "--png", str(path))
    assert code == 0
    assert json.loads(out)["seed"] == 9
    assert path.read_bytes().startswith(PNG)
    assert len(path.read_bytes()) > 50_000
    assert str(path) in err
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_world_without_any_transaction_is_described_too(tmp_path: Path):
    world = ("--cards", "1", "--days", "1", "--seed", "1")
    code, out, _ = describe(*world)
    assert code == 0
    assert "0 transactions" in out
    code, _, err = describe(*world, "--png", str(tmp_path / "empty.png"))
    assert code == 2
    assert "nothing to draw" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cards", "0"), "--cards is 0, it must be 1 .. 10,000,000"),
        (("--cards", "-3"), "--cards is -3, it must be 1 .. 10,000,000"),
        (("--days", "0"), "--days is 0, it must be 1 .. 730"),
        (("--days", "731"), "--days is 731, it must be 1 .. 730"),
        (("--seed", "-1"), "--seed is -1, it must be 0 .. 2147483647"),
        (("--png", "world.jpg"), "--png world.jpg: a name that ends in .png"),
        (("--png", "nowhere/world.png"), "in a folder that exists"),
        (("--drift", "sales_factor=99"), "sales_factor is 99.0, it must be 1 .. 10"),
        (("--drift", "nonsense=1"), "there is no nonsense; there are: fraud_moves_day"),
    ],
)
def test_an_impossible_option_is_refused_with_its_name_and_range(options: tuple[str, ...], said: str):
    code, out, err = describe("--days", "1", "--cards", "5", *options)
    assert code == 2
    assert said in err
    assert out == ""
