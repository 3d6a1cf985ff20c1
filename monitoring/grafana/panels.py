"""The few kinds of panels that the dashboards are made of.

Rule 1. Every panel says in one sentence what it shows and what is well.
Rule 2. Every panel has its unit, and names which clock its times are of where that is not wall time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

DATA_SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="prometheus")
SECONDS, BYTES, SHARE, COUNT, PER_SECOND = "s", "bytes", "percentunit", "short", "reqps"
WIDTH: Final = 24
_HEIGHT: Final = 8
_HEIGHT_OF_NUMBER: Final = 5
_GREEN, _RED = "green", "red"

Panel = timeseries.Panel | stat.Panel
_P = TypeVar("_P", timeseries.Panel, stat.Panel)


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and how its series are called; legend: Grafana's {{label}} form."""

    expr: str
    legend: str = ""


def timeline(
    title: str, meaning: str, unit: str, *queries: Query, span: int = 12, limit: float | None = None
) -> timeseries.Panel:
    """Lines over time; limit: a red line where it is no longer well."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(meaning)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .span(span)
        .height(_HEIGHT)
        .line_width(1)
        .fill_opacity(8)
        .show_points(common_models.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if limit is not None:
        panel.thresholds(_from(limit)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.LINE)
        )
    return _with(panel, queries)


def number(
    title: str,
    meaning: str,
    unit: str,
    query: Query,
    span: int = 4,
    limit: float | None = None,
    by_name: bool = False,
) -> stat.Panel:
    """The newest value, or `by_name` what its series is called; red from `limit` on."""
    panel = (
        stat.Panel()
        .title(title)
        .description(meaning)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .span(span)
        .height(_HEIGHT_OF_NUMBER)
        .no_value("no data yet")
        .graph_mode(common_models.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if by_name:
        panel.text_mode(common_models.BigValueTextMode.NAME)
    if limit is not None:
        panel.thresholds(_from(limit))
    return _with(panel, (query,))


def board(uid: str, title: str, meaning: str, *rows: tuple[str, tuple[Panel, ...]]) -> models.Dashboard:
    """A dashboard of rows of panels, each row as wide as it is."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(meaning)
        .tags(["fraudstream"])
        .timezone("browser")
        .refresh("5s")
        .time("now-30m", "now")
        .readonly()
        .link(dashboard.DashboardLink("fraudstream").type(models.DashboardLinkType.DASHBOARDS).tags(["fraudstream"]))
    )
    for name, panels in rows:
        made.with_row(dashboard.Row(name))
        for panel in panels:
            made.with_panel(panel)
    return made.build()


def _with(panel: _P, queries: tuple[Query, ...]) -> _P:
    for query, ref in zip(queries, "ABCDEFGH", strict=False):
        panel.with_target(
            prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).datasource(DATA_SOURCE)
        )
    return panel


def _from(limit: float) -> Builder[models.ThresholdsConfig]:
    steps = [models.Threshold(value=None, color=_GREEN), models.Threshold(value=limit, color=_RED)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)
