"""The model card's pictures: precision and recall, calibration, cost, importance; PNG bytes.

Rule 1. A picture shows what was measured on the validation rows, and says in its title what is good.
Rule 2. The same numbers give the same bytes: no date, no display, no fonts but matplotlib's own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fraud.decision import APPROVE, decide
from fraud.model import Floats
from trainer.measures import JudgedRows, cost_minor
from trainer.model_card import CALIBRATION_FILE, COST_FILE, IMPORTANCE_FILE, PRECISION_RECALL_FILE

_COLOURS: Final = ("#999999", "#d98c00", "#6aa7d6", "#1b4f8a")
_POINTS: Final = 400
_BINS: Final = 15
_FEATURES: Final = 15


def pictures(
    rows: JudgedRows, scores: Mapping[str, Floats], served: str, importances: Sequence[tuple[str, float]]
) -> dict[str, bytes]:
    """Every picture by its file name. importances: feature and mean |SHAP value| in log-odds, largest first."""
    return {
        PRECISION_RECALL_FILE: _drawn(lambda axes: _precision_recall(axes, rows, scores)),
        CALIBRATION_FILE: _drawn(lambda axes: _calibration(axes, rows, scores)),
        COST_FILE: _drawn(lambda axes: _cost(axes, rows, scores, served)),
        IMPORTANCE_FILE: _drawn(lambda axes: _importance(axes, importances)),
    }


def _drawn(draw: Callable[[Axes], None]) -> bytes:
    figure = Figure(figsize=(6.4, 4.4), dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    figure.subplots_adjust(left=0.42 if axes.get_yscale() == "linear" and axes.patches else 0.13, bottom=0.12, top=0.92)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _thinned(length: int) -> npt.NDArray[np.intp]:
    """Positions on a logarithmic scale: the few highest scores matter most."""
    return np.unique(np.geomspace(1, max(length, 1), _POINTS).astype(np.intp)) - 1


def _precision_recall(axes: Axes, rows: JudgedRows, scores: Mapping[str, Floats]) -> None:
    for colour, (name, score) in zip(_COLOURS, scores.items(), strict=False):
        order = np.argsort(-score, kind="stable")
        ends = np.flatnonzero(np.r_[score[order][1:] != score[order][:-1], True])
        ends = ends[_thinned(len(ends))]
        found = np.cumsum(rows.is_fraud[order])[ends]
        axes.plot(found / max(rows.is_fraud.sum(), 1), found / (ends + 1), color=colour, label=name)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Further up and right is better")
    axes.legend(frameon=False)


def _calibration(axes: Axes, rows: JudgedRows, scores: Mapping[str, Floats]) -> None:
    low = 0.5 / max(len(rows.is_fraud), 1)
    axes.plot([low, 1], [low, 1], color="#cccccc", linestyle=":")
    for colour, (name, score) in list(zip(_COLOURS, scores.items(), strict=False))[1:]:  # rules give no probability
        order = np.argsort(score, kind="stable")
        cut = np.unique(len(order) - np.geomspace(1, len(order), _BINS + 1).astype(int))  # more bins among high scores
        parts = [part for part in np.split(order, cut[1:-1]) if len(part) >= 10]
        mean = [float(score[part].mean()) for part in parts]
        share = [max(float(rows.is_fraud[part].mean()), low) for part in parts]
        axes.plot(np.maximum(mean, low), share, marker="o", markersize=4, color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlabel="score", ylabel="share of fraud", title="On the dotted line is better")
    axes.legend(frameon=False)


def _cost(axes: Axes, rows: JudgedRows, scores: Mapping[str, Floats], served: str) -> None:
    per_day = 1 / (100 * rows.days)
    for colour, (name, score) in zip(_COLOURS, scores.items(), strict=False):
        order = np.argsort(-score, kind="stable")
        decided = cost_minor(rows, decide(score, rows.amount_minor, 0.0, rows.costs))[order]
        passed = cost_minor(rows, np.full(len(order), APPROVE, np.uint8))[order]
        total = passed.sum() - np.r_[0.0, np.cumsum(passed - decided)]
        at = np.r_[0, _thinned(len(order)) + 1]
        width = 2.0 if name == served else 1.2
        axes.plot(at / rows.days, total[at] * per_day, color=colour, label=name, linewidth=width)
    axes.axvline(rows.alerts_per_day_max, color="#cccccc", linestyle=":")
    axes.set_xscale("symlog", linthresh=1)
    axes.set(
        xlim=(0, None),
        ylim=(0, None),
        xlabel="transactions looked at a day, highest scores first",
        ylabel="cost a day, EUR",
    )
    axes.set_title("Lower is better; dotted: the alert budget")
    axes.legend(frameon=False)


def _importance(axes: Axes, importances: Sequence[tuple[str, float]]) -> None:
    shown = list(reversed(importances[:_FEATURES]))
    axes.barh([name for name, _ in shown], [value for _, value in shown], color=_COLOURS[-1])
    axes.tick_params(axis="y", labelsize=7)
    axes.set(xlabel="mean |SHAP value|, log-odds", title="What moves the score")
