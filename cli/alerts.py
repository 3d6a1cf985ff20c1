"""`fraudstream alerts watch`.

Rule 1. A live table on a terminal, one line per alert otherwise; --json prints the messages as they stand in the log.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from adapters.settings import StackSettings
from cli.alert_feed import AlertFeed, ShownAlert
from cli.alert_table import line, table
from cli.reader import connected

_POLL_S: Final = 0.25
_REDRAW_S: Final = 0.5
_LINES_AROUND: Final = 4


def watch(plain: bool, as_json: bool, from_start: bool, limit: int | None) -> int:
    """Show alerts until `limit` of them, or Ctrl-C; return the exit code."""
    settings = StackSettings.read()
    with connected(settings.kafka_bootstrap) as consumer:
        feed = AlertFeed(consumer, from_start)
        try:
            if as_json:
                _print(feed, limit, lambda shown: shown.raw.decode() if shown.is_fraud is None else None)
            elif plain or not sys.stdout.isatty():
                _print(feed, limit, line)
            else:
                show_live(feed, lambda: f"alerts {feed.alerts:,}, {precision_words(feed)}", lambda: _full(feed, limit))
        except KeyboardInterrupt:
            return 0
    return 0


def precision_words(feed: AlertFeed) -> str:
    """The precision so far, for a person."""
    if feed.precision is None:
        return "precision: no label yet"
    return f"precision {100 * feed.precision:.0f} % of {feed.labelled:,} labelled"


def _full(feed: AlertFeed, limit: int | None) -> bool:
    return limit is not None and feed.alerts >= limit


def _print(feed: AlertFeed, limit: int | None, form: Callable[[ShownAlert], str | None]) -> None:
    printed = 0
    while limit is None or printed < limit:
        for shown in feed.poll(_POLL_S):
            text = form(shown)
            if text is None or (limit is not None and printed >= limit):
                continue
            print(text, flush=True)
            printed += shown.is_fraud is None


def show_live(feed: AlertFeed, status_line: Callable[[], str], finished: Callable[[], bool]) -> None:
    """The table and a status line, redrawn until `finished`."""
    console = Console()
    drawn_s = 0.0
    with Live(console=console, screen=False, auto_refresh=False, transient=False) as live:
        while not finished():
            for _ in feed.poll(_POLL_S):
                pass
            if time.monotonic() - drawn_s >= _REDRAW_S:
                drawn_s = time.monotonic()
                rows = max(3, console.height - _LINES_AROUND)
                waiting = Text("no alert yet", "dim") if not feed.shown else Text("")
                live.update(Group(Text(status_line(), "bold"), waiting, table(feed, rows)), refresh=True)
