"""`fraudstream up | down | status`.

Rule 1. `up` and `down` may be given again: what is there already is said, and the exit code is 0.
"""

from __future__ import annotations

import json
import os
import threading
import time

import msgspec
from kafka.errors import KafkaError
from rich.console import Console
from rich.table import Column, Table

from adapters.settings import StackSettings
from cli.background_stack import LineReader, await_ready, end_stack, prepared, start_runner
from cli.break_it import switches_now
from cli.failure import CommandError
from cli.runner import run_stack
from cli.service_pages import Readings
from cli.services import PRODUCER_PORT, services_with
from cli.stack_state import StackFolder, StackState
from fraud import metrics


def folder_of_settings() -> StackFolder:
    """The state folder that the settings name."""
    return StackFolder(StackSettings.read().state_dir.resolve())


def up(foreground: bool, workers: int | None = None) -> int:
    """Start the stack unless it runs; return the exit code. workers: in the place of FRAUD_FEATURE_WORKERS."""
    if workers is not None:
        os.environ["FRAUD_FEATURE_WORKERS"] = str(workers)  # the runner reads it, here or in its own process
    folder = folder_of_settings()
    running = folder.running()
    if running is not None:
        print(f"fraudstream runs already ({running.phase}); `fraudstream status` shows it, `fraudstream down` ends it")
        return 0
    settings = StackSettings.read()
    services_with(settings.feature_workers, settings.partitions)
    prepared(folder, print)
    if foreground:
        return _in_foreground(folder)
    began_s = time.monotonic()
    runner = start_runner(folder, outlives_us=True)
    try:
        await_ready(folder, runner, print)
    except KeyboardInterrupt:
        runner.stop(15)
        raise
    print(f"ready in {time.monotonic() - began_s:.0f} s; logs are in {folder.logs}; `fraudstream down` ends it")
    return 0


def _in_foreground(folder: StackFolder) -> int:
    """The runner in this process, and every log on the console, each line with its service's name."""
    ended = threading.Event()

    def show_logs() -> None:
        readers: dict[str, LineReader] = {}
        while not ended.wait(0.2):
            for path in sorted(folder.logs.glob("*.log")):
                reader = readers.setdefault(path.name, LineReader(path))
                for line in reader.lines():
                    print(f"{path.stem:>15} | {line}", flush=True)

    for old in folder.logs.glob("*.log"):
        old.replace(old.with_name(f"{old.name}.1"))
    printer = threading.Thread(target=show_logs, name="logs", daemon=True)
    printer.start()
    try:
        return run_stack(StackSettings.read(), lambda line: print(f"{'fraudstream':>15} | {line}", flush=True))
    finally:
        ended.set()
        printer.join(1)


def down() -> int:
    """End the stack; return the exit code."""
    folder = folder_of_settings()
    print("fraudstream is down" if end_stack(folder, print) else f"nothing runs in {folder.path}")
    return 0


def status(as_json: bool) -> int:
    """Show what runs, where, and how far it is; return 0 when all of it is ready, 1 otherwise."""
    folder = folder_of_settings()
    state = folder.running()
    if state is None:
        return _not_running(folder, as_json)
    for one in state.services.values():
        if one.state == "ready" and not Readings([one.port]).any():
            one.state, one.detail = "unready", "/metrics does not answer"
    ready = state.phase == "ready" and all(one.state == "ready" for one in state.services.values())
    if as_json:
        print(
            json.dumps(
                {"running": True, "ready": ready, **msgspec.to_builtins(state), "progress": progress(state)}, indent=1
            )
        )
    else:
        _show(state)
    return 0 if ready else 1


def _not_running(folder: StackFolder, as_json: bool) -> int:
    last = folder.read()
    leftovers = [] if last is None else [f"{name} (pid {identity.pid})" for name, identity in last.leftovers()]
    detail = "" if last is None or last.phase != "failed" else last.detail
    if as_json:
        print(json.dumps({"running": False, "ready": False, "leftovers": leftovers, "last_failure": detail}, indent=1))
        return 1
    print(f"nothing runs in {folder.path}: `fraudstream up` starts it")
    if leftovers:
        print(f"left over from a runner that died: {', '.join(leftovers)}; `fraudstream up` or `down` ends them")
    if detail:
        print(f"the last stack failed: {detail}")
    return 1


def progress(state: StackState) -> dict[str, object]:
    """How far the stack is, from its services' metrics."""
    read = Readings([*(one.port for one in state.services.values()), PRODUCER_PORT])
    versions = [name for name, value in read.by(metrics.MODEL_INFO, "version").items() if value]
    return {
        "scored": int(read.total(metrics.SCORES_TOTAL)),
        "alerts": int(read.total(metrics.ALERTS_TOTAL)),
        "dead_letters": int(read.total(metrics.DEAD_LETTERS_TOTAL)),
        "lag_records": {stage: int(lag) for stage, lag in sorted(read.by(metrics.LAG_RECORDS, "stage").items())},
        "model": versions[0] if versions else None,
        "switches": _switches_on(state),
    }


def _switches_on(state: StackState) -> list[str] | None:
    """The break-it switches that are on; None when `control` does not say."""
    if "kafka" not in state.servers:
        return None
    try:
        return list(switches_now(state.servers["kafka"].address).on)
    except KafkaError:
        return None


def _show(state: StackState) -> None:
    console = Console()
    where = Column("where", overflow="fold")
    table = Table("what", "state", where, "pid", "restarts", "detail", box=None, pad_edge=False)
    for name, server in state.servers.items():
        pid = str(server.process.pid) if server.process else "-"
        table.add_row(name, "up", server.address.rpartition("@")[2], pid, "", server.description)
    for name, one in state.services.items():
        pid = str(one.process.pid) if one.process else "-"
        table.add_row(name, one.state, one.where(), pid, str(one.restarts), one.detail)
    console.print(f"fraudstream: {state.phase}, partitions {state.partitions}")
    console.print(table)
    seen = progress(state)
    lags = seen["lag_records"]
    assert isinstance(lags, dict)
    lag = ", ".join(f"{stage} {count:,}" for stage, count in lags.items()) or "-"
    console.print(
        f"since their start: scored {seen['scored']:,}, alerts {seen['alerts']:,}, dead letters {seen['dead_letters']:,}; "
        f"model {seen['model'] or '-'}; lag in records: {lag}"
    )
    switches = seen["switches"]
    if isinstance(switches, list) and switches:
        console.print(f"BROKEN ON PURPOSE: {', '.join(switches)} (`fraudstream break list`)", style="bold red")


def running_stack() -> StackState:
    """The running stack. Raises CommandError with the remedy when none runs."""
    folder = folder_of_settings()
    state = folder.running()
    if state is None:
        raise CommandError(f"no stack runs in {folder.path}: start one with `fraudstream up`, or set FRAUD_STATE_DIR")
    return state
