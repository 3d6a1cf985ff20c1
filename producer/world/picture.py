"""A world as a picture: the same numbers as in the terminal, drawn.

Rule 1. One panel, one question; axes carry units.
Rule 2. Drawn without a display, always at the same size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from producer.world.categories import CATEGORIES
from producer.world.days import date_of
from producer.world.describe import WEEKDAYS, zipf_text
from producer.world.geography import COUNTRIES
from producer.world.label_delays import REALISTIC
from producer.world.rows import SCENARIO_NAMES
from producer.world.summary import BINS_PER_E, LABEL_DRAWS, LabelSummary, Summary

GENUINE: Final = "#3b6ea5"
ONLINE: Final = "#e0932f"
FRAUD: Final = "#c0392b"
GREY: Final = "#8a8f98"
STYLE: Final[Any] = {
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
}
_COARSE: Final = BINS_PER_E // 5  # five bars for each factor of e
_thousands: Final = FuncFormatter(lambda value, _: f"{value:,.0f}")


def draw(summary: Summary, path: Path) -> None:
    """Write the picture of a summary as a PNG. Raises OSError when it cannot be written."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(17, 13), dpi=110, layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.1))
        axes = figure.subplots(3, 3)
        panels = (_amounts, _hours, _weekdays, _days, _merchants, _categories, _countries, _scenarios, _label_delays)
        for panel, place in zip(panels, axes.flat, strict=True):
            panel(place, summary)
        days = len(summary.by_day)
        figure.suptitle(
            f"The world of seed {summary.population.seed}: {summary.transactions:,} transactions of "
            f"{summary.population.cards:,} cards, {date_of(0)} to {date_of(days - 1)}",
            fontsize=15,
            x=0.01,
            ha="left",
        )
        figure.savefig(path, format="png")


def _amounts(axes: Axes, summary: Summary) -> None:
    euros = np.exp(np.arange(0, summary.amount.shape[1] + 1, _COARSE) / BINS_PER_E) / 100
    for bins, colour, name in zip(summary.amount, (GENUINE, FRAUD), ("genuine", "fraud"), strict=True):
        if bins.sum():
            counts = np.add.reduceat(bins, np.arange(0, len(bins), _COARSE))
            axes.stairs(counts, euros, color=colour, fill=True, alpha=0.85, label=name)
    used = np.flatnonzero(summary.amount.sum(axis=0)[1:]) + 1  # the first bin is 0 and has no place on this axis
    low, high = np.exp(used[[0, -1]] / BINS_PER_E) / 100 if len(used) else (0.1, 1000.0)
    axes.set(title="Amounts", xlabel="EUR", ylabel="transactions", xscale="log", yscale="log", ylim=(0.8, None))
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_major_formatter(_thousands)
    axes.legend(title=f"and {summary.amount[:, 0].sum():,} of 0 EUR", alignment="left")


def _hours(axes: Axes, summary: Summary) -> None:
    shop, online = summary.hour
    axes.bar(range(24), shop, color=GENUINE, label="in shops")
    axes.bar(range(24), online, bottom=shop, color=ONLINE, label="online")
    axes.set(title="Hours", xlabel="hour of the day, UTC", ylabel="transactions", xticks=range(0, 24, 3))
    axes.yaxis.set_major_formatter(_thousands)
    axes.legend(loc="upper left")


def _weekdays(axes: Axes, summary: Summary) -> None:
    occurs = np.bincount([date_of(day).weekday() for day in range(len(summary.by_day))], minlength=7)
    shop, online = summary.weekday / np.maximum(occurs, 1)
    axes.bar(WEEKDAYS, shop, color=GENUINE, label="in shops")
    axes.bar(WEEKDAYS, online, bottom=shop, color=ONLINE, label="online")
    axes.set(title="Weekdays", ylabel="transactions a day")
    axes.yaxis.set_major_formatter(_thousands)
    axes.set_ylim(0, (shop + online).max() * 1.15)
    axes.legend(loc="upper left", ncols=2)


def _days(axes: Axes, summary: Summary) -> None:
    days = np.arange(len(summary.by_day))
    axes.plot(days, summary.by_day, color=GREY, linewidth=0.8, label="each day", marker="." if len(days) < 3 else "")
    if len(days) >= 7:
        smooth = np.convolve(summary.by_day, np.ones(7) / 7, mode="valid")
        axes.plot(days[3:-3], smooth, color=GENUINE, linewidth=2, label="mean of 7 days")
    axes.set(title="Days: weeks, paydays, seasons", ylabel="transactions", ylim=(0, None))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda day, _: f"{date_of(int(day)):%d %b %y}"))
    axes.yaxis.set_major_formatter(_thousands)
    axes.legend(loc="lower left")


def _merchants(axes: Axes, summary: Summary) -> None:
    visits = np.sort(summary.merchant)[::-1]
    visits = visits[visits > 0]
    axes.plot(np.arange(1, len(visits) + 1), visits, color=GENUINE, linewidth=2)
    title = f"Merchants: {zipf_text(summary)}"
    axes.set(title=title, xlabel="rank", ylabel="visits", xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_thousands)


def _categories(axes: Axes, summary: Summary) -> None:
    counts = summary.category[:, 0]
    order = np.argsort(counts, kind="stable")
    axes.barh([f"{CATEGORIES[i].name} {CATEGORIES[i].mcc}" for i in order], counts[order], color=GENUINE)
    axes.set(title="Categories", xlabel="transactions")
    _numbers_along(axes)


def _countries(axes: Axes, summary: Summary) -> None:
    order = np.argsort(summary.country, kind="stable")
    bars = axes.barh([COUNTRIES[i].code for i in order], summary.country[order], color=GENUINE)
    shares = [f"{100 * summary.country[i] / max(1, summary.transactions):.2g} %" for i in order]
    axes.bar_label(bars, shares, padding=3, fontsize=8)
    axes.set(
        title="Where merchants sell",
        xlabel="transactions, logarithmic",
        xscale="log",
        xlim=(0.8, summary.transactions * 4),
    )
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_major_formatter(_thousands)


def _scenarios(axes: Axes, summary: Summary) -> None:
    counts = summary.scenario[1:, 0]
    share = 100 * summary.fraud / max(1, summary.transactions)
    bars = axes.barh(SCENARIO_NAMES[::-1], counts[::-1], color=FRAUD)
    axes.bar_label(bars, [f"{count:,}" for count in counts[::-1]], padding=3, fontsize=8)
    axes.set(
        title=f"Fraud by scenario: {share:.2f} % of all", xlabel="transactions", xlim=(0, max(1, counts.max()) * 1.15)
    )
    _numbers_along(axes)


def _label_delays(axes: Axes, summary: Summary) -> None:
    labels = LabelSummary(REALISTIC, summary.population.seed)
    everything = np.concatenate(list(labels.days.values()))
    lines = [
        ("all", everything, "black"),
        *zip(("customer reports", "chargebacks"), labels.days.values(), (GENUINE, ONLINE), strict=True),
    ]
    for name, days, colour in lines:
        known = 100 * np.arange(1, len(days) + 1) / LABEL_DRAWS
        axes.step(np.sort(days), known, where="post", color=colour, linewidth=2, label=name)
    within = 100 * (everything <= 7).sum() / LABEL_DRAWS
    axes.axvline(7, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        f"{within:.0f} % within 7 days", (7, within), (-8, 8), textcoords="offset points", ha="right", color="black"
    )
    title = f"When fraud becomes known by itself: {labels.never:.0%} never"
    axes.set(
        title=title,
        xscale="log",
        xlim=(1 / 24, 150),
        ylim=(0, 100),
        xlabel="after the transaction",
        ylabel="% of frauds",
    )
    axes.set_xticks([1 / 24, 0.25, 1, 3, 10, 30, 120], ["1 hour", "6 hours", "1 day", "3", "10", "30", "120 days"])
    axes.minorticks_off()
    axes.legend(loc="upper left")


def _numbers_along(axes: Axes) -> None:
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(_thousands)
