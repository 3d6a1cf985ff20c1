"""How a command of the producer runs: its stop, its exit code, its words when the stack is not there.

Rule 1. Exit codes: 0 done or stopped on request, 1 not all of it came through, 2 a bad file, argument or setting,
        70 restart me (a broker away while streaming), 130 a replay was interrupted.
Rule 2. Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated, Final, NoReturn, TypeVar

import typer

from fraud import topics
from producer.clock import MAX
from producer.outcome import StackMissingError, StalledError, connect, end_offsets
from producer.position import PositionError
from producer.replay import Summary, Target
from producer.settings import ProducerSettings
from producer.steering import NoClockError
from producer.streamer import SEND_ERRORS
from producer.transaction_file import BadFileError
from producer.world_position import WorldPositionError

EXIT_INCOMPLETE: Final = 1
EXIT_BAD_INPUT: Final = 2
EXIT_RESTART: Final = 70
EXIT_INTERRUPTED: Final = 130
_T = TypeVar("_T")

SpeedOption = Annotated[str, typer.Option(help="`max`, or event time per real time: 1440 is a day per minute")]
JsonOption = Annotated[bool, typer.Option("--json", help="print the result as one JSON object")]


def fail(message: str, code: int) -> NoReturn:
    """Say what is wrong on standard error, and end."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def parse_speed(text: str) -> float:
    """`max` or a number above 0."""
    try:
        speed = MAX if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        fail(f"--speed {text}: it must be `max` or a number above 0, such as 1440", EXIT_BAD_INPUT)
    return speed


def parse_time_ms(text: str) -> int:
    """An ISO date or time (UTC unless it says otherwise), or epoch milliseconds."""
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail(
            f"--until {text}: an ISO date or time, or epoch milliseconds, is expected, such as 2018-06-01",
            EXIT_BAD_INPUT,
        )
    return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def target_of(settings: ProducerSettings) -> Target:
    """Where the settings say that the stack is."""
    return Target(
        bootstrap=settings.kafka_bootstrap,
        redis_url=settings.redis_url,
        partitions=settings.partitions,
        scorer_group=settings.scorer_group,
        stall_seconds_max=settings.stall_seconds_max,
    )


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def on_the_stack(work: Callable[[], _T], settings: ProducerSettings, code_without_broker: int) -> _T:
    """Do `work`; turn what can be wrong with the stack into a message and an exit code."""
    try:
        return work()
    except (StackMissingError, NoClockError) as error:
        fail(str(error), EXIT_BAD_INPUT)
    except StalledError as error:
        fail(str(error), EXIT_INCOMPLETE)
    except SEND_ERRORS as error:
        fail(
            f"the broker at {settings.kafka_bootstrap} does not answer or refuses ({type(error).__name__}: {error}): "
            "start the stack (fraudstream up), or set FRAUD_KAFKA_BOOTSTRAP to where it listens",
            code_without_broker,
        )


def checked_topics(settings: ProducerSettings) -> None:
    """Refuse a broker without the stack's topics."""
    with closing(connect(settings.kafka_bootstrap)) as consumer:
        for topic in (topics.TRANSACTIONS, topics.LABELS):
            end_offsets(consumer, topic, settings.partitions)


def show(summary: Summary, as_json: bool) -> None:
    """Print what a run did."""
    typer.echo(json.dumps(summary.as_dict()) if as_json else "\n".join(summary.lines()))


def streamed(settings: ProducerSettings, work: Callable[[], _T]) -> _T:
    """Do `work` as a service does: a broker that is away is healed by a restart."""
    try:
        return on_the_stack(work, settings, EXIT_RESTART)
    except (PositionError, WorldPositionError) as error:
        fail(str(error), EXIT_BAD_INPUT)
    except BadFileError as error:
        fail(
            f"the generated world in {settings.worlds} cannot be used: {error}; remove it, and it is made again",
            EXIT_BAD_INPUT,
        )
    except OSError as error:
        fail(f"FRAUD_STATE_DIR {settings.state_dir}: {error}; it needs a folder that can be written", EXIT_BAD_INPUT)
