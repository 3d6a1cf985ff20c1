"""The commands of the world refuse what is impossible by name and range, before anything is connected.

Rule 1. Nothing here has a broker: a refusal must come first. One test asks for the stack, and gets the remedy.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from producer.__main__ import app
from producer.clock import MAX
from producer.world_commands import parse_drift, parse_world_speed, world_plan

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAUD_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("FRAUD_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["world", "stream", "--speed", "0"], "--speed 0"),
        (["world", "stream", "--speed", "20000"], "1 .. 14400"),
        (["world", "stream", "--speed", "fast"], "--speed fast"),
        (["world", "stream", "--cards", "0"], "cards"),
        (["world", "stream", "--cards", "99999999"], "cards is 99999999"),
        (["world", "stream", "--seed", "-1"], "seed"),
        (["world", "stream", "--until-day", "731"], "until-day"),
        (["world", "stream", "--share", "3/2"], "share 3/2"),
        (["world", "stream", "--share", "half"], "--share half"),
        (["world", "stream", "--drift", "weather=1"], "there is no weather"),
        (["world", "stream", "--drift", "sales_day=soon"], "a whole number"),
        (["world", "stream", "--drift", "sales_day=9999"], "sales_day is 9999"),
        (["world", "stream", "--drift", "late_share=-0.1"], "late_share is -0.1"),
        (["world", "stream", "--drift", "late_minutes_max=9999"], "late_minutes_max"),
        (["world", "stream", "--drift", "new_country=XX"], "new_country is XX"),
        (["world", "stream", "--without", "magic"], "there is no scenario magic"),
        (["clock", "speed", "0"], "greater than or equal to 1"),
        (["clock", "speed", "14401"], "less than or equal to 14400"),
        (["scenario", "start", "magic"], "there is no scenario magic"),
        (["scenario", "start", "card-testing", "--cards", "0"], "cards"),
        (["scenario", "start", "card-testing", "--minutes", "0"], "minutes"),
        (["scenario", "start", "card-testing", "--set", "small_count"], "NAME=NUMBER"),
        (["scenario", "start", "card-testing", "--set", "size=3"], "has no parameter size"),
        (["scenario", "start", "card-testing", "--set", "small_count=-1"], "small_count of card-testing is -1"),
    ],
)
def test_what_is_impossible_is_refused_by_name(arguments: list[str], told: str) -> None:
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 2
    assert told in result.output and "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments", [["clock", "show"], ["scenario", "status"], ["scenario", "start", "card-testing"]]
)
def test_without_a_broker_there_is_a_remedy(arguments: list[str]) -> None:
    result = RUNNER.invoke(app, arguments)
    assert result.exit_code == 1
    assert "start the stack (fraudstream up)" in result.output


def test_every_scenario_is_listed_with_its_parameters() -> None:
    result = RUNNER.invoke(app, ["scenario", "list", "--json"])
    assert result.exit_code == 0
    assert '"name": "card-testing"' in result.output and '"small_count"' in result.output


def test_speeds_and_drifts_are_read_as_numbers() -> None:
    assert (parse_world_speed("1"), parse_world_speed("1440"), parse_world_speed("max")) == (1.0, 1440.0, MAX)
    drift = parse_drift(["sales_day=30", "sales_factor=1.5", "new_country=US"])
    assert (drift.sales_day, drift.sales_factor, drift.new_country) == (30, 1.5, "US")


def test_a_plan_names_the_world_that_it_is_of() -> None:
    plain, other = world_plan(0, 100), world_plan(0, 100, drift=["sales_day=3"], without=["bust-out"])
    assert plain.world.settings != other.world.settings
    assert "bust-out" in other.world.settings and "sales_day=3" in other.world.settings
