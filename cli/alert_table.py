"""How alerts look: a table, newest first, or one line each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice

from rich.table import Table
from rich.text import Text

from cli.alert_feed import AlertFeed, ShownAlert

_OUTCOME = {None: "", True: "fraud", False: "genuine"}
_STYLE = {"decline": "bold red", "review": "yellow", "fraud": "bold red", "genuine": "green"}
_REASONS_SHOWN = 3


def event_time(epoch_ms: int) -> str:
    """Event time for a person."""
    return f"{datetime.fromtimestamp(epoch_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"


def amount(minor: int, currency: str) -> str:
    """An amount for a person: the ledger's currency has cents."""
    return f"{minor // 100:,}.{minor % 100:02d} {currency}"


def line(shown: ShownAlert) -> str:
    """An alert, or its label when that has come, as one line."""
    alert = shown.alert
    if shown.is_fraud is not None:
        return f"{event_time(alert.occurred_at_ms)}  card {alert.card_id}  alert {alert.alert_id} was {_OUTCOME[shown.is_fraud]}"
    return (
        f"{event_time(alert.occurred_at_ms)}  card {alert.card_id}  {amount(alert.amount_minor, alert.currency)}  "
        f"score {alert.score:.3f}  {alert.decision}  {' '.join(alert.reason_codes)}  "
        f"model {alert.model_version}  alert {alert.alert_id}"
    )


def table(feed: AlertFeed, rows: int) -> Table:
    """The newest alerts."""
    made = Table(box=None, pad_edge=False, expand=True)
    for title, justify in (
        ("event time", "left"),
        ("card", "left"),
        ("amount", "right"),
        ("score", "right"),
        ("decision", "left"),
    ):
        made.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # a literal in the tuple above
    made.add_column("reasons", no_wrap=True, overflow="ellipsis", ratio=1)
    made.add_column("label", no_wrap=True)
    made.add_column("model", no_wrap=True)
    for shown in islice(reversed(feed.shown.values()), rows):
        made.add_row(*_cells(shown))
    return made


def _cells(shown: ShownAlert) -> Sequence[Text]:
    alert = shown.alert
    outcome = _OUTCOME[shown.is_fraud]
    return (
        Text(event_time(alert.occurred_at_ms)),
        Text(alert.card_id),
        Text(amount(alert.amount_minor, alert.currency)),
        Text(f"{alert.score:.3f}"),
        Text(alert.decision, _STYLE[alert.decision]),
        Text(" ".join(alert.reason_codes[:_REASONS_SHOWN])),
        Text(outcome, _STYLE.get(outcome, "")),
        Text(alert.model_version),
    )
