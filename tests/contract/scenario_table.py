"""docs/scenarios.md: the kinds of fraud in the world, their parameters and what is meant to catch them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fraud.features import NAMES
from producer.world.live_run import MINUTES_MAX
from producer.world.scenarios import SCENARIOS, Scenario

Table = Callable[[Sequence[str], Iterable[Sequence[object]]], str]


def scenarios_page(note: str, table: Table) -> str:
    """The page; `note` says that it is generated, `table` makes a Markdown table."""
    kinds = [(f"`{s.name}`", s.time_scale, s.signal, _features(s), _background(s)) for s in SCENARIOS.values()]
    parameters = [
        (f"`{s.name}`", f"`{p['name']}`", f"{p['default']:g}", f"{p['low']:g} .. {p['high']:g}", _meaning(s, p["name"]))
        for s in SCENARIOS.values()
        for p in s.described()["parameters"]
    ]
    head = ("scenario", "time scale", "signal it leaves", "features meant to catch it", "in the background")
    return "\n".join(
        [
            f"# Scenarios of fraud\n\n{note}",
            "Each scenario is a small class in `producer/world/scenarios/`. The background of the world holds all of them; a person",
            "can start one in the running world, with other parameters, and see whether it is caught:\n",
            "```sh",
            "fraudstream scenario list",
            "fraudstream scenario start card-testing --cards 20 --minutes 10",
            "```\n",
            f"A run is on at least one card and at most all cards of the world, and lasts more than 0 and at most {MINUTES_MAX:,.0f}",
            "minutes of event time. How well each is caught: `python -m tests.world_realism`, and [measured.md](measured.md).\n",
            f"## What each is\n\nA name that ends in `*` stands for all features that begin so.\n\n{table(head, kinds)}",
            f"## Parameters\n\n{table(('scenario', 'parameter', 'default', 'range', 'meaning'), parameters)}",
        ]
    )


def _features(scenario: Scenario) -> str:
    return ", ".join(f"`{prefix}`" if prefix in NAMES else f"`{prefix}*`" for prefix in scenario.caught_by)


def _background(scenario: Scenario) -> str:
    rate = f"{scenario.per_100_000_cards_a_day:g} begin a day for 100,000 cards"
    cards = f", each on {scenario.cards_mean:g} card{'s' if scenario.cards_mean != 1 else ''} on average"
    lasts = f"{scenario.days:g} days" if scenario.days > 1 else f"{24 * scenario.days:g} hours"
    return f"{rate}{cards if scenario.cards_mean else ''}, within {lasts}"


def _meaning(scenario: Scenario, parameter: str) -> str:
    """What the class's docstring says after the parameter's name and a colon."""
    text = " ".join((type(scenario).__doc__ or "").split())
    meaning = text.split(f"{parameter}: ", 1)[1]
    for other in scenario.ranges:
        meaning = meaning.split(f" {other}: ", 1)[0]
    return meaning.rstrip(".")
