"""The picture of docs/handbook.md: ceiling and our model against the label delay.

Rule 1. The same result gives the same bytes.
"""

from __future__ import annotations

import io

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.handbook.published import CEILING
from benchmarks.handbook.result import Result

_MEASURES = ("AUC", "average precision", "card precision at 100")
_CEILING, _OURS = "#555555", "#0072b2"


def curve_svg(result: Result) -> bytes:
    """An SVG of three panels, one per measure."""
    ours = sorted((float(days), row) for days, row in result.by_delay.items())
    ceiling = sorted(CEILING.items())
    with mpl.rc_context({"svg.hashsalt": "handbook", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 3), layout="constrained")
        for i, (axes, measure) in enumerate(zip(figure.subplots(1, 3), _MEASURES, strict=True)):
            axes.plot(
                [d for d, _ in ceiling], [row[i] for _, row in ceiling], "o--", color=_CEILING, label="ceiling (oracle)"
            )
            axes.plot([d for d, _ in ours], [row[i] for _, row in ours], "o-", color=_OURS, label="ours")
            axes.set(title=measure, xlabel="label delay, days", xticks=[d for d, _ in ours])
            axes.invert_xaxis()
            axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        buffer = io.BytesIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]  # matplotlib has types, this method has not
    return buffer.getvalue()
