"""`fraudstream demo`: from nothing to a live table of alerts, in one command.

    stack up  >  history at full speed  >  first model  >  live world, alerts as they come

Rule 1. What is done is not done again: with a champion in the registry there is no history and no training.
Rule 2. What the demo started, it ends: the producer first, then the stack, within 15 s. A stack that ran before goes on.
"""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from adapters.backends.child import Child, polled, rotate
from adapters.model_store import ModelStore
from adapters.ports import free_port_near
from adapters.settings import StackSettings
from cli import retrain as training
from cli.alert_feed import AlertFeed
from cli.alert_table import line
from cli.alerts import show_live
from cli.background_stack import await_ready, end_stack, prepared, start_runner
from cli.failure import CommandError
from cli.live_status import LiveStatus
from cli.reader import connected
from cli.runner import Supervised
from cli.service_pages import Readings
from cli.services import PRODUCER_PORT, Service, with_code_on_path
from cli.stack_state import ServiceStatus, StackFolder, StackState
from cli.up import folder_of_settings
from fraud import metrics
from fraud.control import Retrain

PRODUCER_STOP_S_MAX: Final = 3.0
ARCHIVED_S_MAX: Final = 120.0
SCORING_S_MAX: Final = 30.0
_STATUS_EVERY_S: Final = 10.0
_POLL_S: Final = 0.25


# What streams a world: arguments of `python -m producer`.
WORLDS: Final = {"generated": ("world", "stream"), "handbook": ("handbook",)}


def demo(plain: bool, history_days: int, speed: float, until_alerts: int | None, world: str) -> int:
    """Run the demo until Ctrl-C, or `until_alerts` live alerts; return the exit code."""
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plain = plain or not sys.stdout.isatty()
    folder = folder_of_settings()
    try:
        with _only_demo(folder), _stack(folder) as state:
            settings = StackSettings.read()
            if history_days and ModelStore(settings.models).champion() is None:
                _stream_history(folder, WORLDS[world], history_days, plain)
                _await_archived(state)
                _train(settings, plain)
                _await_scoring(state, ModelStore(settings.models).champion())
            _live(folder, state, settings, _Wanted(plain, speed, until_alerts, began_s, WORLDS[world]))
    except KeyboardInterrupt:
        print("the demo has ended; the next one goes on where it stopped")
    return 0


class _Wanted:
    """What the person asked for."""

    def __init__(
        self, plain: bool, speed: float, until_alerts: int | None, began_s: float, world: tuple[str, ...]
    ) -> None:
        self.plain = plain
        self.speed = speed
        self.until_alerts = until_alerts
        self.began_s = began_s
        self.world = world


@contextmanager
def _only_demo(folder: StackFolder) -> Iterator[None]:
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / "demo.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CommandError(
                f"a demo runs already in {folder.path}: `fraudstream alerts watch` shows its alerts"
            ) from None
        yield


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C does not leave behind what the first one is ending."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _stack(folder: StackFolder) -> Iterator[StackState]:
    """The stack that runs, or one of our own that ends with us."""
    running = folder.running()
    if running is not None and running.phase == "ready":
        print("fraudstream runs already: the demo uses it, and leaves it running")
        yield running
        return
    prepared(folder, print)
    runner = start_runner(folder, outlives_us=False)
    try:
        yield await_ready(folder, runner, print)
    finally:
        with _uninterrupted():
            if runner.alive():
                print("ending the stack")
            end_stack(folder, lambda _: None)
            runner.stop(1)


def _producer(folder: StackFolder, *arguments: str) -> tuple[list[str], dict[str, str], int]:
    """Command, environment and metrics port of a producer."""
    port = free_port_near(PRODUCER_PORT)
    environment = {
        **with_code_on_path(),
        "FRAUD_STATE_DIR": str(folder.path),
        "FRAUD_METRICS_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
    return [sys.executable, "-m", "producer", *arguments], environment, port


def _stream_history(folder: StackFolder, world: tuple[str, ...], days: int, plain: bool) -> None:
    """Stream the first days of the world at full speed; the progress bar is the producer's own."""
    print(f"streaming a history of {days} simulated days, as fast as it goes")
    command, environment, _ = _producer(folder, *world, "--until-day", str(days), "--speed", "max", "--wait")
    pipe = subprocess.PIPE if plain else None
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=pipe,
        stderr=subprocess.STDOUT if plain else None,
        text=True,
    )
    try:
        for told in process.stdout or ():
            print(told, end="", flush=True)
        code = process.wait()
    except BaseException:
        with _uninterrupted():
            process.terminate()
            try:
                process.wait(PRODUCER_STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        raise
    if code:
        raise CommandError(
            f"the history was not streamed whole (code {code}), the reason stands above; the next start goes on"
        )


def _await_archived(state: StackState) -> None:
    """Wait until the archiver has taken all of the log: training reads the lake."""
    print("waiting until the lake has all of it")
    port = state.services["archiver"].port
    for _ in polled(ARCHIVED_S_MAX, 0.5):
        read = Readings([port])
        if read.any() and read.total(metrics.LAG_RECORDS) == 0:
            return
    raise CommandError(f"the archiver is behind after {ARCHIVED_S_MAX:.0f} s: see {state.services['archiver'].log}")


def _train(settings: StackSettings, plain: bool) -> None:
    print("training the first model")
    request = Retrain(f"demo-{uuid.uuid4().hex[:12]}", int(time.time() * 1000))
    last = training.show(training.ask(settings, request), plain)
    if last["state"] != "promoted":
        print("no model yet: the scorer decides by rules until `fraudstream retrain` succeeds")


def _await_scoring(state: StackState, version: str | None) -> None:
    """Wait until the scorer has checked and taken the new model, so that the first live alerts are its own."""
    if version is None:
        return
    print("waiting until the scorer decides by it")
    for _ in polled(SCORING_S_MAX, 0.5):
        if Readings([state.services["scorer"].port]).total(metrics.MODEL_INFO, version=version):
            return
    print(f"it still decides by what it had: see {state.services['scorer'].log}")


def _live(folder: StackFolder, state: StackState, settings: StackSettings, wanted: _Wanted) -> None:
    command, environment, port = _producer(folder, *wanted.world, "--speed", str(wanted.speed))
    log = folder.logs / "producer.log"
    rotate(log)
    service = Service("producer", tuple(command[2:]), port, ends_with=0)
    producer = Supervised(
        service, Child("producer", command, log, environment=environment), ServiceStatus(port, str(log)), time.monotonic
    )
    with connected(settings.kafka_bootstrap) as consumer:
        feed = AlertFeed(consumer, from_start=False)
        view = _View(folder, state, feed, producer, wanted)
        producer.start()
        try:
            for name, one in state.services.items():
                if one.address:
                    print(f"{name}: {one.address}")
            print(
                f"live after {time.monotonic() - wanted.began_s:.0f} s, at {wanted.speed:g} times real time; Ctrl-C ends it"
            )
            if wanted.plain:
                view.print_lines()
            else:
                show_live(feed, view.status_line, view.finished)
        finally:
            with _uninterrupted():
                producer.child.stop(PRODUCER_STOP_S_MAX)


class _View:
    """The live part: looks after the producer while it shows what comes."""

    def __init__(
        self, folder: StackFolder, state: StackState, feed: AlertFeed, producer: Supervised, wanted: _Wanted
    ) -> None:
        self._folder = folder
        self._feed = feed
        self._producer = producer
        self._wanted = wanted
        self._status = LiveStatus([*(one.port for one in state.services.values()), producer.status.port], feed)
        self._note = ""

    def status_line(self) -> str:
        """The line above the table."""
        return self._status.line(self._note)

    def finished(self) -> bool:
        """Whether enough alerts were shown. Raises CommandError when the stack is gone."""
        if self._producer.child.exit_code() == 0:
            self._note = "the world has ended: nothing more will come"
        else:
            self._producer.step(self._take_note)
        state = self._folder.running()
        if state is None or state.phase in ("stopping", "failed"):
            raise CommandError(
                f"the stack has ended: `fraudstream status` says why, its logs are in {self._folder.logs}"
            )
        stopped = [name for name, one in state.services.items() if one.state == "stopped"]
        if stopped:
            self._note = f"{', '.join(stopped)} STOPPED: see `fraudstream status`"
        return self._wanted.until_alerts is not None and self._feed.alerts >= self._wanted.until_alerts

    def _take_note(self, told: str) -> None:
        self._note = told.splitlines()[0]

    def print_lines(self) -> None:
        """Alerts and labels as lines, the status line now and then."""
        shown_s = time.monotonic()
        self.status_line()  # the first reading: rates are differences
        while not self.finished():
            for shown in self._feed.poll(_POLL_S):
                print(line(shown), flush=True)
            if time.monotonic() - shown_s >= _STATUS_EVERY_S:
                shown_s = time.monotonic()
                print(f"-- {self.status_line()}", flush=True)
