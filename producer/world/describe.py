"""`python -m producer world describe`: a world for a person's eyes, in the terminal.

Rule 1. Everything shown is counted from the generated transactions (producer/world/summary.py), except the label delays,
        which are drawn from their distributions.
Rule 2. A bar's full length is the largest value of its own table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from rich import box
from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table

from producer.world.categories import CATEGORIES
from producer.world.days import date_of
from producer.world.geography import COUNTRIES
from producer.world.label_delays import REALISTIC
from producer.world.rows import SCENARIO_NAMES
from producer.world.summary import BINS_PER_E, RANK_FROM, RANK_TO, LabelSummary, Summary, amount_quantile

BAR: Final = 24
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
AMOUNT_STEPS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Lower ends in euros of the amounts' bars."""
DELAY_STEPS: Final = (0, 1, 2, 4, 7, 14, 30, 60, 90, 120)
"""Lower ends in days of the label delays' bars."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def show(console: Console, summary: Summary) -> None:
    """Print the summary."""
    console.print(_head(summary))
    console.print(Columns([_amounts(summary), _hours(summary)]))
    console.print(Columns([_weekdays(summary), _merchants(summary)]))
    console.print(Columns([_categories(summary), _countries(summary)]))
    console.print(Columns([_scenarios(summary), _label_delays(summary)]))


def bar(value: float, largest: float, width: int = BAR) -> str:
    """A bar of `value`, full at `largest`, in eighths of a character; anything above 0 shows."""
    eighths = 0 if largest <= 0 else max(round(value / largest * width * 8), int(value > 0))
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def euros(minor: float | None) -> str:
    """An amount in euros; a dash for none."""
    return "-" if minor is None else f"{minor / 100:,.2f}"


def percent(part: float, whole: float) -> str:
    """A share in percent, with the digits that a small one needs; a dash of nothing."""
    if not whole:
        return "-"
    share = 100 * part / whole
    if 0 < share < 0.01:
        return "< 0.01 %"
    return f"{share:.1f} %" if share >= 1 or not part else f"{share:.2f} %"


def zipf_text(summary: Summary) -> str:
    """The Zipf exponent in words."""
    if np.isnan(summary.zipf_exponent):
        return "too few for a Zipf exponent"
    return f"Zipf exponent {summary.zipf_exponent:.2f} over ranks {RANK_FROM} to {RANK_TO:,}"


def amount_steps(bins: Sequence[int] | np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> list[int]:
    """Transactions between each two of AMOUNT_STEPS, from logarithmic bins."""
    cents = np.exp((np.arange(len(bins))) / BINS_PER_E)
    counts, _ = np.histogram(cents, [*(step * 100 for step in AMOUNT_STEPS), np.inf], weights=bins)
    return [int(count) for count in counts]


def _table(title: str, heads: Iterable[str], rows: Iterable[Sequence[str]]) -> RenderableType:
    """A table whose first column and bars stand left, and numbers right; a head that ends in `|` is a bar's."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, head in enumerate(heads):
        left = position == 0 or head.endswith("|")
        style = "cyan" if head.endswith("|") else None
        table.add_column(head.rstrip("|"), justify="left" if left else "right", style=style, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return Panel(table, title=title, title_align="left", border_style="dim", expand=False)


def _head(summary: Summary) -> RenderableType:
    population, days = summary.population, len(summary.by_day)
    pays = int(summary.pays.sum())
    per_card = summary.transactions / max(1, pays) / days
    lines = (
        f"[bold]{summary.transactions:,}[/] transactions, {euros(float(summary.category[:, 1].sum()))} EUR; "
        f"fraud {percent(summary.fraud, summary.transactions)}",
        f"{date_of(0)} to {date_of(days - 1)}, {days} day(s); seed {population.seed}",
        f"[bold]{pays:,}[/] of {population.cards:,} cards paid, {per_card:.2f} a card and day",
        f"{len(summary.merchant):,} merchants, {population.terminals:,} terminals",
    )
    return Panel("\n".join(lines), title="The world", title_align="left", border_style="dim", expand=False)


def _amounts(summary: Summary) -> RenderableType:
    counts = amount_steps(summary.amount.sum(axis=0))
    rows = [
        (f"from {step:,}", f"{count:,}", percent(count, summary.transactions), bar(count, max(counts)))
        for step, count in zip(AMOUNT_STEPS, counts, strict=True)
    ]
    both = summary.amount.sum(axis=0)
    quantiles = ", ".join(f"{q:.0%} {euros(amount_quantile(both, q))}" for q in (0.25, 0.5, 0.75, 0.99))
    return _table(f"Amounts, EUR ({quantiles})", ("amount", "transactions", "share", "|"), rows)


def _hours(summary: Summary) -> RenderableType:
    shop, online = summary.hour
    largest = max(shop.max(), online.max())
    rows = [
        (
            f"{hour:02d}",
            f"{shop[hour]:,}",
            bar(shop[hour], largest, 16),
            f"{online[hour]:,}",
            bar(online[hour], largest, 16),
        )
        for hour in range(24)
    ]
    return _table("Hours, UTC", ("hour", "in shops", "|", "online", " |"), rows)


def _weekdays(summary: Summary) -> RenderableType:
    shop, online = summary.weekday
    occurs = np.bincount([date_of(day).weekday() for day in range(len(summary.by_day))], minlength=7)
    mean = [(shop[day] + online[day]) / occurs[day] if occurs[day] else 0.0 for day in range(7)]
    rows = [
        (name, f"{mean[day]:,.0f}", bar(mean[day], max(mean)), percent(online[day], shop[day] + online[day]))
        for day, name in enumerate(WEEKDAYS)
    ]
    return _table("Weekdays", ("day", "a day", "|", "online"), rows)


def _merchants(summary: Summary) -> RenderableType:
    visits = np.sort(summary.merchant)[::-1]
    all_of_them = int(visits.sum())
    ranks = [rank for rank in (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000) if rank <= len(visits) and visits[rank - 1]]
    heights = np.log1p([float(visits[rank - 1]) for rank in ranks])
    rows = [
        (f"{rank:,}", f"{visits[rank - 1]:,}", bar(height, max(heights)), percent(visits[:rank].sum(), all_of_them))
        for rank, height in zip(ranks, heights, strict=True)
    ]
    title = f"Merchants by rank: {zipf_text(summary)}"
    return _table(title, ("rank", "visits", "logarithmic |", "share up to here"), rows)


def _categories(summary: Summary) -> RenderableType:
    counts = summary.category[:, 0]
    rows = [
        (
            f"{CATEGORIES[index].mcc} {CATEGORIES[index].name}",
            f"{counts[index]:,}",
            bar(counts[index], counts.max(), 12),
            euros(amount_quantile(summary.category_amount[index], 0.5)),
            euros(amount_quantile(summary.category_amount[index], 0.99)),
        )
        for index in np.argsort(-counts, kind="stable")
    ]
    return _table("Categories", ("MCC", "transactions", "|", "median EUR", "99 % EUR"), rows)


def _countries(summary: Summary) -> RenderableType:
    rows = [
        (COUNTRIES[index].code, f"{summary.country[index]:,}", percent(summary.country[index], summary.transactions))
        for index in np.argsort(-summary.country, kind="stable")
    ]
    return _table("Where merchants sell", ("country", "transactions", "share"), rows)


def _scenarios(summary: Summary) -> RenderableType:
    counts = summary.scenario[1:, 0]
    rows = [
        (
            name,
            f"{counts[index]:,}",
            bar(counts[index], counts.max(), 16),
            percent(counts[index], summary.transactions),
            euros(amount_quantile(summary.scenario_amount[1 + index], 0.5)),
        )
        for index, name in enumerate(SCENARIO_NAMES)
    ]
    return _table("Fraud by scenario", ("scenario", "transactions", "|", "of all", "median EUR"), rows)


def _label_delays(summary: Summary) -> RenderableType:
    labels = LabelSummary(REALISTIC, summary.population.seed)
    names = list(labels.days)
    counts = [np.histogram(labels.days[name], [*DELAY_STEPS, np.inf])[0] for name in names]
    largest = max(int(count.max()) for count in counts)
    rows = []
    for position, step in enumerate(DELAY_STEPS[:-1]):
        cells = [f"{step} to {DELAY_STEPS[position + 1]}"]
        for count in counts:
            cells += [f"{count[position]:,}", bar(count[position], largest, 12)]
        rows.append(cells)
    heads = ["days later", *(head for name in names for head in (name.replace("_", " "), "|"))]
    drawn = sum(int(count.sum()) for count in counts)
    return _table(f"Labels known by themselves ({percent(drawn, drawn / (1 - labels.never))} of frauds)", heads, rows)
