"""One picture of the results: sustained rates beside each other, latency over rate, and cost over size.

Rule 1. Drawn from the results only; log scales, because the peers would not be seen otherwise.
"""

from __future__ import annotations

import io
from typing import Any, Final

from benchmarks.harness.result import Results

DRAWN: Final = ("throughput", "latency", "growth")  # commands whose results are in the picture


def picture(results: Results) -> bytes:
    """The plot as SVG. Raises ValueError when neither throughput nor latency was measured."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "fraudstream"
    throughput, latency, growth = (results.runs.get(name) for name in DRAWN)
    if throughput is None and latency is None and growth is None:
        raise ValueError("nothing to draw: measure throughput, latency or growth first")
    figure, (left, right, last) = pyplot.subplots(1, 3, figsize=(16, 4))
    if throughput is not None:
        _rates(left, throughput.throughput)
    if latency is not None:
        _latencies(right, latency.latency)
    if growth is not None:
        _costs(last, growth.growth)
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return file.getvalue()


def _rates(axes: Any, told: Any) -> None:
    rates = [max(one.confirmed_per_s, 1.0) for one in told]
    axes.barh([one.subject for one in told], rates)
    axes.set_xscale("log")
    axes.set_xlabel("sustained transactions/s (log)")
    for place, one in enumerate(told):
        axes.text(rates[place], place, f" {one.confirmed_per_s:,.0f}", va="center")
    axes.set_xlim(right=max(rates) * 5)
    axes.invert_yaxis()


def _latencies(axes: Any, told: Any) -> None:
    for subject in dict.fromkeys(one.subject for one in told):
        mine = sorted((one for one in told if one.subject == subject), key=lambda one: one.rate)
        rates = [one.rate for one in mine]
        (line,) = axes.plot(rates, [one.p50_ms.median for one in mine], "o-", label=f"{subject} p50")
        axes.plot(rates, [one.p99_ms.median for one in mine], "o--", color=line.get_color(), label=f"{subject} p99")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("transactions/s (log)")
    axes.set_ylabel("intended send to score, ms (log)")
    axes.legend(fontsize=8)


def _costs(axes: Any, told: Any) -> None:
    for axis in dict.fromkeys(one.axis for one in told):
        mine = [one for one in told if one.axis == axis]
        times = [one.at / mine[0].at for one in mine]
        label = f"{axis}, from {mine[0].at:,.0f}"
        axes.plot(times, [one.us_all / mine[0].us_all for one in mine], "o-", label=label)
    axes.set_xscale("log")
    axes.set_xlabel("times as many (log)")
    axes.set_ylabel("CPU a transaction, times the first")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
