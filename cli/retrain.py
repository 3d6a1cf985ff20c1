"""`fraudstream retrain`: ask the running trainer for a model, and follow its progress.

Rule 1. The request has an id of its own; only its progress is shown.
Rule 2. Exit codes: 0 promoted (or asked, with --no-wait), 1 rejected, failed, or nobody answers.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Final

import redis
from kafka import KafkaProducer
from kafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from adapters.settings import StackSettings
from cli.failure import CommandError
from fraud import topics
from fraud.control import Retrain

# The trainer writes it; the name is the contract between the two.
PROGRESS_STREAM: Final = "fraudstream:train:progress"
FINAL: Final = frozenset({"promoted", "rejected", "failed"})
ANSWER_S_MAX: Final = 30.0
SILENCE_S_MAX: Final = 900.0
_SEND_S_MAX: Final = 15

Step = dict[str, str]


def retrain(as_of: str | None, wait: bool, as_json: bool) -> int:
    """Send the request and show how it goes; return the exit code."""
    settings = StackSettings.read()
    request = Retrain(f"cli-{uuid.uuid4().hex[:12]}", int(time.time() * 1000), _as_of_ms(as_of))
    steps = ask(settings, request)
    if not wait:
        print(
            json.dumps({"request_id": request.request_id}) if as_json else f"asked for a training: {request.request_id}"
        )
        return 0
    last = _show_json(steps) if as_json else show(steps)
    return 0 if last["state"] == "promoted" else 1


def _as_of_ms(text: str | None) -> int | None:
    if text is None or text.isdecimal():
        return None if text is None else int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"--as-of {text}: an ISO date or time, or epoch milliseconds, is expected, such as 2018-06-01", 2
        ) from None
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def ask(settings: StackSettings, request: Retrain) -> Iterator[Step]:
    """Send the request; give the steps of its progress, the last one final. Raises CommandError when nobody answers."""
    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=10, socket_connect_timeout=3, decode_responses=True
    )
    newest: Any = client.xrevrange(PROGRESS_STREAM, count=1)
    after = newest[0][0] if newest else "0-0"
    _send(settings, request)
    return _steps(client, request.request_id, after)


def _send(settings: StackSettings, request: Retrain) -> None:
    try:
        with closing(
            KafkaProducer(bootstrap_servers=settings.kafka_bootstrap, acks="all", bootstrap_timeout_ms=8_000)
        ) as producer:
            producer.send(topics.CONTROL.name, request.to_json()).get(timeout=_SEND_S_MAX)
    except KafkaError as error:
        raise CommandError(
            f"Kafka at {settings.kafka_bootstrap} did not take the request ({type(error).__name__}): "
            "start the stack with `fraudstream up`"
        ) from None


def _steps(client: redis.Redis, request_id: str, after: str) -> Iterator[Step]:
    deadline_s = time.monotonic() + ANSWER_S_MAX
    while time.monotonic() < deadline_s:
        read: Any = client.xread({PROGRESS_STREAM: after}, count=100, block=1000)
        # One stream was asked for: a list of pairs, or a mapping with the newer protocol.
        streams = read.items() if isinstance(read, dict) else read or ()
        for _, entries in streams:
            for entry_id, step in _flat(entries):
                after = entry_id
                if step.get("request_id") == request_id:
                    deadline_s = time.monotonic() + SILENCE_S_MAX
                    yield step
                    if step["state"] in FINAL:
                        return
    raise CommandError(
        "the trainer did not answer: `fraudstream status` shows whether it runs, and where its log is; the request stays in the log, "
        "and is served when the trainer is back"
    )


def _flat(entries: Any) -> list[tuple[str, Step]]:
    """Entries of one stream; the newer protocol wraps them once more."""
    nested = (
        bool(entries) and isinstance(entries[0], list) and bool(entries[0]) and isinstance(entries[0][0], (list, tuple))
    )
    return (
        [(entry[0], entry[1]) for group in entries for entry in group]
        if nested
        else [(entry[0], entry[1]) for entry in entries]
    )


def _show_json(steps: Iterator[Step]) -> Step:
    last: Step = {}
    for last in steps:
        print(json.dumps({**last, "percent": int(last["percent"])}), flush=True)
    return last


def show(steps: Iterator[Step], plain: bool = False) -> Step:
    """A progress bar on a terminal, lines otherwise; return the last step."""
    if plain or not sys.stdout.isatty():
        last: Step = {}
        for last in steps:
            print(f"training: {words(last)}", flush=True)
        return last
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console()) as bar:
        task = bar.add_task("asked", total=100)
        for last in steps:
            bar.update(task, completed=int(last["percent"]), description=words(last))
    print(words(last))
    return last


def words(step: Step) -> str:
    """A step for a person."""
    what = step["state"] if step["stage"] == step["state"] else f"{step['state']}, {step['stage']}"
    return f"{what} ({step['percent']} %): {step['detail']}" if step["detail"] else f"{what} ({step['percent']} %)"
