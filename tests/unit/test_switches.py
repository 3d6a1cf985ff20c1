"""Switches as a fold over `control`, and as a stage takes them: from which offset on, and named in what it writes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from adapters.state_store import StageState
from adapters.telemetry import gauge
from fraud import metrics, packed
from fraud.control import Retrain, SetSwitch, parse_control_request
from fraud.dead_letters import BadMessageError
from fraud.switches import (
    META,
    SWITCHES,
    Side,
    SwitchBoard,
    TurnedOn,
    UnknownSwitchError,
    in_words,
    names_in,
    switch_named,
)
from fraud.transaction import Transaction
from monitoring.console.timeline import Timeline
from stream_features.card_stage import CardStage
from stream_features.terminal_stage import TerminalStage
from stream_features.wrong_folds import InForce

T = 1_530_000_000_000


def asked(name: str, on: bool) -> SetSwitch:
    return SetSwitch("a", T, name, on)


def test_what_is_on_is_what_was_turned_on_last_since_it_was_first() -> None:
    board = SwitchBoard()
    for offset, (name, on) in enumerate(
        [
            ("float-sums", True),
            ("wall-clock", True),
            ("float-sums", True),
            ("wall-clock", False),
            ("random-split", True),
        ]
    ):
        board.apply(asked(name, on), 1_000 + offset, offset)
    board.apply(Retrain("r", T), 2_000, 9)
    assert board.on == {"float-sums": TurnedOn(1_000, 0), "random-split": TurnedOn(1_004, 4)}
    assert board.names(Side.SERVING) == ("float-sums",)
    assert board.names(Side.METER) == ()
    assert board.names(*Side) == ("float-sums", "random-split")


def test_a_switch_of_another_release_is_passed_over_and_one_that_is_asked_for_by_hand_is_refused() -> None:
    board = SwitchBoard()
    board.apply(asked("of-the-next-release", True), 1_000, 0)
    assert board.on == {}
    with pytest.raises(UnknownSwitchError, match=r"of-the-next-release.*wall-clock.*random-split"):
        switch_named("of-the-next-release")


def test_a_request_whose_name_is_no_name_is_refused() -> None:
    assert parse_control_request(asked("float-sums", True).to_json()) == asked("float-sums", True)
    with pytest.raises(BadMessageError):
        parse_control_request(asked("../sums", True).to_json())


def test_names_survive_the_lakes_column() -> None:
    names = tuple(switch.name for switch in SWITCHES)
    assert names_in(in_words(names)) == names


def test_the_console_tells_what_is_on_and_what_was_asked() -> None:
    timeline = Timeline()
    timeline.control(asked("float-sums", True), 5_000, 3)
    found = timeline.values(6_000)
    assert found["switches"] == {"float-sums": {"since_ms": 5_000, "offset": 3}}
    assert found["steered"][-1]["what"] == "break it: float-sums on"


def record(offset: int) -> Any:
    one = Transaction(f"t{offset}", "c1", "m1", 100 + offset, "EUR", T + offset, T + offset)
    return SimpleNamespace(offset=offset, key=b"c1", value=one.to_json(), timestamp=7_000 + offset)


def written(stage: CardStage | TerminalStage, records: list[Any], kind: str) -> list[bytes]:
    step = stage.step(stage.decode(records))
    stage.settle(step.effect)
    return [value for _, _, of_topic in step.writes for _, value, _ in of_topic if packed.unpack(value, (kind,)).rows]


def test_a_stage_names_the_switches_in_what_it_writes_from_an_offset_on_that_is_shown() -> None:
    on: list[tuple[str, ...]] = [(), ("float-sums",), ("float-sums",), ()]
    ways = InForce("card", 0, lambda: on[0])
    cards = CardStage(0, 1, StageState(), 100, clock=lambda: 42, ways=ways)
    terminals = TerminalStage(0, StageState(), 100, clock=lambda: 42)
    told: list[tuple[list[str], list[str], bool]] = []
    for offset in range(4):
        (vectors,) = written(cards, [record(offset)], packed.CARD_VECTORS)
        (whole,) = written(terminals, [SimpleNamespace(offset=offset, key=None, value=vectors)], packed.VECTORS)
        shown = {
            sample.labels["switch"]: sample.value for sample in gauge(metrics.SWITCH_FROM_OFFSET).collect()[0].samples
        }
        metas = (packed.unpack(vectors, (packed.CARD_VECTORS,)).meta, packed.unpack(whole, (packed.VECTORS,)).meta)
        told.append((metas[0].get(META, []), metas[1].get(META, []), shown.get("float-sums") == 1))
        on.pop(0)
    marked = (["float-sums"], ["float-sums"], True)
    assert told == [([], [], False), marked, marked, ([], [], False)]
