"""`fraudstream break list | on NAME | off NAME`: the switches of "Break it" (docs/break-it.md), as the console's page has them.

Rule 1. A request is a message of `control`; what is on is read from there, so that every terminal and the console say the same.
Rule 2. Exit codes: 0 done, 2 there is no such switch, 1 no Kafka.
"""

from __future__ import annotations

import json
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

from kafka import KafkaProducer
from rich.console import Console

from adapters.kafka_admin import refuse_silence
from adapters.settings import StackSettings
from adapters.switch_feed import read_switches
from cli.failure import CommandError
from fraud import topics
from fraud.control import SetSwitch
from fraud.switches import SWITCHES, Switch, SwitchBoard, UnknownSwitchError, switch_named

_SEND_S_MAX: Final = 15


def list_switches(as_json: bool) -> int:
    """Show every switch, and whether it is on; return the exit code."""
    board = switches_now(StackSettings.read().kafka_bootstrap)
    if as_json:
        print(json.dumps([_values(switch, board) for switch in SWITCHES], indent=1))
        return 0
    console = Console(highlight=False)
    for switch in SWITCHES:
        turned = board.on.get(switch.name)
        state = "[dim]off[/]" if turned is None else f"[bold red]ON[/] since {_moment(turned.since_ms)}"
        console.print(f"[bold]{switch.name}[/]  {state}")
        console.print(f"    {switch.effect}", soft_wrap=False)
        console.print(f"    [dim]shown by {switch.panel}; guide {switch.guide}[/]")
    return 0


def turn(name: str, on: bool, as_json: bool) -> int:
    """Turn a switch on or off; return the exit code. Raises CommandError for a name that there is not."""
    try:
        switch = switch_named(name)
    except UnknownSwitchError as error:
        raise CommandError(str(error), 2) from None
    bootstrap = StackSettings.read().kafka_bootstrap
    refuse_silence(bootstrap)
    request = SetSwitch(f"cli-{uuid.uuid4().hex[:12]}", int(time.time() * 1000), switch.name, on)
    with closing(KafkaProducer(bootstrap_servers=bootstrap, acks="all", bootstrap_timeout_ms=8_000)) as producer:
        producer.send(topics.CONTROL.name, request.to_json()).get(timeout=_SEND_S_MAX)
    board = switches_now(bootstrap)
    if as_json:
        print(json.dumps({"request_id": request.request_id, **_values(switch, board)}, indent=1))
    elif on:
        print(
            f"{switch.name} is ON. {switch.effect}\nWatch: {switch.panel}; guide: {switch.guide}; `fraudstream break off {name}`"
        )
    else:
        print(f"{switch.name} is off: what comes from now on is exact again. {_left(board)}")
    return 0


def switches_now(bootstrap: str) -> SwitchBoard:
    """What is on. Raises KafkaError at once when nobody listens there."""
    refuse_silence(bootstrap)
    return read_switches(bootstrap)


def _values(switch: Switch, board: SwitchBoard) -> dict[str, Any]:
    turned = board.on.get(switch.name)
    return {
        "name": switch.name,
        "side": switch.side,
        "on": turned is not None,
        "since_ms": None if turned is None else turned.since_ms,
        "control_offset": None if turned is None else turned.offset,
        "effect": switch.effect,
        "panel": switch.panel,
        "guide": switch.guide,
    }


def _left(board: SwitchBoard) -> str:
    return f"Still on: {', '.join(board.on)}." if board.on else "No switch is on."


def _moment(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC, wall clock"
