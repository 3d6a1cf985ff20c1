"""The evaluation for a terminal.

Rule 1. What is not known is a dash, never a zero; each delivered measure has its promise beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from fraud.model import Promise
from monitoring.evaluation import Contrast, Delivered, Evaluation, Shadowed, promised
from monitoring.evaluation_store import STREAMING

_MEASURES = {
    "auc": "AUC",
    "ap": "average precision",
    "card_precision": "card precision at the budget",
    "precision": "precision at the budget",
    "recall": "recall at the budget",
}


_COMPARED = ("ap", "card_precision", "precision", "recall")


def as_text(evaluation: Evaluation, promises: Mapping[str, Promise]) -> str:
    """Lines for a terminal, a block for each path and version."""
    days = f"{_day(evaluation.from_ms)} .. {_day(evaluation.to_ms)}, labels mature"
    blocks = [_block(each, promises.get(each.version)) for each in evaluation.delivered]
    contrast = [] if evaluation.contrast is None else [_contrast(evaluation.contrast)]
    beside = [_beside(each, promises.get(each.version)) for each in evaluation.shadowed]
    return "\n\n".join([days, *blocks, *beside, *contrast])


def _beside(each: Shadowed, promise: Promise | None) -> str:
    """A challenger and whoever decided, on the same transactions."""
    told = _told(promise)
    lines = [
        f"in shadow, {each.version}: {each.fraud:,} fraud, {each.genuine:,} genuine",
        f"  {'':<30}{'delivered':>10}{'promised':>10}{'champion':>10}",
    ]
    lines += _measures(each.quality, told, each.champion)
    return "\n".join(lines)


def _contrast(contrast: Contrast) -> str:
    """Both paths side by side, where each may look at equally many transactions a day."""
    paths = list(contrast.by_path.items())
    names = sorted({name for _, found in paths for name in found.scenario_recall})
    lines = [
        f"the same {contrast.transactions:,} transactions, all versions of a path together",
        _line("", [path for path, _ in paths]),
        *[_line(_MEASURES[name], [_number(found.quality[name]) for _, found in paths]) for name in _COMPARED],
        *[_line(f"recall of {name}", [f"{found.scenario_recall[name]:.1%}" for _, found in paths]) for name in names],
        _line("features are as of", [_age(path, found.feature_age_s) for path, found in paths]),
    ]
    return "\n".join(lines)


def _line(label: str, cells: list[str]) -> str:
    return f"  {label:<30}" + "".join(f"{cell:>16}" for cell in cells)


def _age(path: str, age_s: float | None) -> str:
    """How old what a path knows is when it is used."""
    if path == STREAMING:
        return "the transaction"
    return "-" if age_s is None else f"{age_s / 3600:.1f} h before"


def _told(promise: Promise | None) -> dict[str, float | None]:
    """What was promised of each measure; None where nothing was."""
    return dict.fromkeys(_MEASURES) | ({} if promise is None else promised(promise))


def _measures(*columns: Mapping[str, float | None]) -> list[str]:
    """A line for each measure, with its value in every column."""
    return [
        f"  {label:<30}" + "".join(f"{_number(column[name]):>10}" for column in columns)
        for name, label in _MEASURES.items()
    ]


def _block(each: Delivered, promise: Promise | None) -> str:
    told = _told(promise)
    hidden = f", {each.censored:,} declined and never labelled" if each.censored else ""
    lines = [
        f"{each.path}, {each.version}: {each.fraud:,} fraud, {each.genuine:,} genuine{hidden}",
        f"  {'':<30}{'delivered':>10}{'promised':>10}",
    ]
    lines += _measures(each.quality, told)
    lines += [
        f"  {'cards detected':<30}{_share(each.detected_share):>10}",
        f"  {'time to detect, median':<30}{_hours(each.time_to_detect_s['0.5']):>10}",
        f"  {'saved, lost, spent':<30}{_money(each.money.saved_minor)}, {_money(each.money.lost_minor)}, "
        f"{_money(each.money.spent_minor)}",
    ]
    lines += [f"  {'recall of ' + name:<30}{share:>10.1%}" for name, share in each.scenario_recall.items()]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _hours(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds / 3600:.1f} h"


def _money(minor: int) -> str:
    return f"{minor / 100:,.2f}"


def _day(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d}"
