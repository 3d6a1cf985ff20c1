"""`fraudstream bench throughput | latency | hold | features | train | growth | all`.

Rule 1. Exit codes: 0 measured, 1 something failed while measuring, 2 an option that cannot be. Bars are shown, not enforced.
Rule 2. The tables go to stdout, what happens meanwhile to stderr.
Rule 3. With --docs the run replaces its predecessor in docs/performance.json, and the pages are written from it.
"""

from __future__ import annotations

import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import msgspec
import psutil
import typer
from kafka.errors import KafkaError

from adapters.backends.server import BackendFailedError, BackendMissingError
from adapters.settings import StackSettings
from benchmarks.harness import features, growth, latency, page, throughput, train
from benchmarks.harness.bounded import LAG_S_MAX, Bound
from benchmarks.harness.equal import NotEqualError
from benchmarks.harness.hold import Held
from benchmarks.harness.loader import LoadFailedError
from benchmarks.harness.ours import SubjectEndedError
from benchmarks.harness.peers import PEERS, Peer
from benchmarks.harness.plot import DRAWN, picture
from benchmarks.harness.receiver import ReceiverFailedError
from benchmarks.harness.result import Results, Run, machine, read_results, write_results
from benchmarks.harness.servers import FolderInUseError
from benchmarks.harness.session import WARM_S, NotWarmError, Session, peers_named, session
from cli.failure import CommandError
from producer import handbook

EXIT_FAILED: Final = 1
EXIT_OPTION: Final = 2
CARDS: Final = 20_000
CARDS_MAX: Final = 10_000_000
RATE_MAX: Final = 200_000
FAILURES: Final = (
    BackendFailedError,
    BackendMissingError,
    CommandError,
    FolderInUseError,
    KafkaError,
    LoadFailedError,
    NotEqualError,
    NotWarmError,
    ReceiverFailedError,
    SubjectEndedError,
    train.TrainFailedError,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure throughput, latency, features and training, with what a person would build instead beside it.",
)

Seconds = Annotated[float, typer.Option(min=1, max=600, help="seconds of a hold; in throughput, of the confirmation")]
Rounds = Annotated[int, typer.Option(min=1, max=20, help="interleaved rounds; one round gives no interval")]
Peers = Annotated[str, typer.Option(help=f"peers to measure too: {', '.join(p.name for p in PEERS)}, all or none")]
Cards = Annotated[int, typer.Option(min=1_000, max=CARDS_MAX, help="cards of the generated world")]
Partitions = Annotated[int, typer.Option(min=1, max=64, help="partitions of the data topics")]
Warm = Annotated[float, typer.Option(min=1, max=600, help="seconds of a warm-up, before each subject's measurement")]
Lag = Annotated[float, typer.Option(min=0.1, max=60, help="lag above which a rate is not held")]
Docs = Annotated[bool, typer.Option("--docs", help="write docs/performance.{json,md,svg} and README's table")]
Json = Annotated[bool, typer.Option("--json", help="print the result as one JSON object")]


@app.command("throughput")
def throughput_command(
    seconds: Seconds = 60,
    peer_seconds: Annotated[float, typer.Option(min=1, max=600, help="seconds of a peer's confirmation")] = 30,
    rounds: Rounds = 3,
    peers: Peers = "all",
    probe_seconds: Annotated[float, typer.Option(min=1, max=120, help="seconds of a hold within a search")] = 12,
    start: Annotated[float, typer.Option(min=20, max=RATE_MAX, help="rate that ours is tried at first")] = 10_000,
    lag_seconds_max: Lag = LAG_S_MAX,
    cards: Cards = CARDS,
    partitions: Partitions = 1,
    warm_seconds: Warm = WARM_S,
    docs: Docs = False,
    as_json: Json = False,
) -> None:
    """The highest paced rate that is held with bounded lag, found by search, ours and the peers' in turns."""
    plan = throughput.Plan(seconds, peer_seconds, probe_seconds, rounds, start)
    settings = {**_plain(plan), "lag_seconds_max": lag_seconds_max, "cards": cards, "peers": peers}

    def measure(made: Session) -> dict[str, Any]:
        return {"throughput": throughput.sustained(made, plan)}

    _stack_run(
        "throughput", settings, _peers(peers), partitions, cards, lag_seconds_max, warm_seconds, measure, docs, as_json
    )


@app.command("latency")
def latency_command(
    seconds: Seconds = 30,
    rounds: Rounds = 3,
    rates: Annotated[str, typer.Option(help="transactions a second, with commas")] = "100,1000,5000",
    peers: Peers = "all",
    cards: Cards = CARDS,
    partitions: Partitions = 1,
    warm_seconds: Warm = WARM_S,
    idle_seconds: Annotated[
        float, typer.Option(min=0, max=600, help="seconds at 1 transaction a second, ours alone; 0: none")
    ] = 60,
    docs: Docs = False,
    as_json: Json = False,
) -> None:
    """Percentiles from the intended send to the score, at fixed rates, and in which hop the time goes."""
    plan = latency.Plan(seconds, _rates(rates), rounds, idle_seconds=idle_seconds)
    settings = {**_plain(plan), "cards": cards, "peers": peers}

    def measure(made: Session) -> dict[str, Any]:
        return {"latency": latency.latencies(made, plan)}

    _stack_run("latency", settings, _peers(peers), partitions, cards, LAG_S_MAX, warm_seconds, measure, docs, as_json)


@app.command("hold")
def hold_command(
    rates: Annotated[str, typer.Option(help="transactions a second, with commas")] = "20000",
    seconds: Seconds = 60,
    rounds: Rounds = 1,
    lag_seconds_max: Lag = LAG_S_MAX,
    cards: Cards = CARDS,
    partitions: Partitions = 1,
    warm_seconds: Warm = WARM_S,
    as_json: Json = False,
) -> None:
    """Ours alone at given rates, as often as there are rounds: was each held, and with which lag, latency and CPU; no page."""
    wanted = _rates(rates)
    held: list[Held] = []
    with _reported(), session(_folder(), partitions, cards, [], Bound(lag_seconds_max), warm_seconds, _say) as made:
        (ours,) = made.subjects
        for _ in range(rounds):
            with made.measured(ours) as receiver:
                for rate in wanted:
                    held.append(made.bench.hold(ours, receiver, rate, seconds))
                    made.told(held[-1])
    print(msgspec.json.encode(held).decode() if as_json else page.holds_table(held))


@app.command("features")
def features_command(
    rows: Annotated[int, typer.Option(min=10_000, max=10_000_000, help="rows of the backfill")] = features.ROWS,
    naive_rows: Annotated[
        int, typer.Option(min=500, max=100_000, help="rows that plain Python folds")
    ] = features.NAIVE_ROWS,
    rounds: Rounds = 3,
    docs: Docs = False,
    as_json: Json = False,
) -> None:
    """The fold in batches of 500 rows beside plain Python, and the whole backfill; no stack."""
    settings = {"rows": rows, "naive_rows": naive_rows, "rounds": rounds}
    _alone("features", settings, lambda: {"features": features.measured(rows, naive_rows, rounds, _say)}, docs, as_json)


@app.command("train")
def train_command(
    days: Annotated[int, typer.Option(min=30, max=handbook.DAYS, help="days of the Handbook world")] = handbook.DAYS,
    docs: Docs = False,
    as_json: Json = False,
) -> None:
    """The nightly run: backfill, dataset, fit, evaluate, publish; no stack."""
    folder = _folder() / "night"
    _alone("train", {"days": days}, lambda: {"train": train.measured(folder, days, _say)}, docs, as_json)


@app.command("growth")
def growth_command(
    rows: Annotated[int, typer.Option(min=20_000, max=5_000_000, help="transactions of each size")] = growth.ROWS,
    docs: Docs = False,
    as_json: Json = False,
) -> None:
    """CPU a transaction by number of cards, by span of their histories, and by partitions and workers."""
    _alone("growth", {"rows": rows}, lambda: {"growth": growth.measured(rows, _say)}, docs, as_json)


@app.command("all")
def all_command(
    quick: Annotated[bool, typer.Option("--quick", help="short holds and one round: for trying it out")] = False,
    peers: Peers = "all",
    docs: Docs = False,
    as_json: Json = False,
) -> None:
    """All five of the pages, one round each: under 40 minutes on two CPUs. For intervals run them alone, with --rounds."""
    if quick:
        features_command(100_000, 1_000, 1, docs, as_json)
        train_command(60, docs, as_json)
        growth_command(20_000, docs, as_json)
        latency_command(8, 1, "100,1000", peers, CARDS, 1, 4, 10, docs, as_json)
        throughput_command(10, 10, 1, peers, 6, 2_000, LAG_S_MAX, CARDS, 1, 4, docs, as_json)
        return
    features_command(features.ROWS, features.NAIVE_ROWS, 3, docs, as_json)
    train_command(handbook.DAYS, docs, as_json)
    growth_command(growth.ROWS, docs, as_json)
    latency_command(15, 1, "100,1000,5000", peers, CARDS, 1, WARM_S, 60, docs, as_json)
    throughput_command(60, 30, 1, peers, 8, 16_000, LAG_S_MAX, CARDS, 1, WARM_S, docs, as_json)


@app.command("pages")
def pages_command() -> None:
    """Write the pages and the plot from docs/performance.json again; nothing is measured."""
    _write_pages(read_results(page.DOCS / page.RESULTS_FILE))


def _plain(plan: Any) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(plan)
    return told


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(one) for one in text.split(","))
    except ValueError:
        rates = ()
    if not rates or not all(1 <= rate <= RATE_MAX for rate in rates):
        _end(EXIT_OPTION, f"--rates {text!r}: give rates of 1 .. {RATE_MAX} with commas, such as 100,1000,5000")
    return rates


def _peers(text: str) -> list[Peer]:
    try:
        return peers_named({"all": [peer.name for peer in PEERS], "none": []}.get(text, text.split(",")))
    except ValueError as error:
        _end(EXIT_OPTION, f"--peers {text!r}: {error}")


def _folder() -> Path:
    return StackSettings.read().state_dir.resolve() / "bench"


def _stack_run(
    name: str,
    settings: dict[str, Any],
    peers: list[Peer],
    partitions: int,
    cards: int,
    lag_s_max: float,
    warm_s: float,
    measure: Callable[[Session], dict[str, Any]],
    docs: bool,
    as_json: bool,
) -> None:
    """Run a measurement that needs the stack."""
    began_s = time.monotonic()
    with _reported(), session(_folder(), partitions, cards, peers, Bound(lag_s_max), warm_s, _say) as made:
        measured = measure(made)
        servers = made.servers.describe()
    foreign = statistics.median([one.foreign_cores for told in measured.values() for one in told])
    _finish(name, settings, measured, servers, foreign, time.monotonic() - began_s, docs, as_json)


@contextmanager
def _reported() -> Iterator[None]:
    """What stops a measurement of the stack ends the program with one line."""
    try:
        yield
    except FAILURES as error:
        _end(EXIT_FAILED, f"the benchmark stopped: {error}")
    except ValueError as error:
        _end(EXIT_FAILED, str(error))


def _alone(
    name: str, settings: dict[str, Any], measure: Callable[[], dict[str, Any]], docs: bool, as_json: bool
) -> None:
    """Run a measurement of this process (and its children) only."""
    began_s = time.monotonic()
    from benchmarks.harness.processes import between, read_cpu

    pids = {"benchmark": psutil.Process().pid}
    before = read_cpu(pids)
    try:
        measured = measure()
    except FAILURES as error:
        _end(EXIT_FAILED, f"the benchmark stopped: {error}")
    foreign = between(before, read_cpu(pids)).foreign_cores
    _finish(name, settings, measured, "", foreign, time.monotonic() - began_s, docs, as_json)


def _finish(
    name: str,
    settings: dict[str, Any],
    measured: dict[str, Any],
    servers: str,
    foreign_cores: float,
    seconds: float,
    docs: bool,
    as_json: bool,
) -> None:
    run = Run(
        command=f"fraudstream bench {name}",
        at=f"{datetime.fromtimestamp(time.time(), UTC):%Y-%m-%dT%H:%MZ}",
        machine=machine(),
        servers=servers,
        settings=settings,
        foreign_cores=round(foreign_cores, 3),
        seconds=round(seconds, 1),
        **measured,
    )
    if docs:
        path = page.DOCS / page.RESULTS_FILE
        write_results(path, Results({**read_results(path).runs, name: run}))
        _write_pages(read_results(path))  # as `pages` will find them: JSON has lists where a plan has tuples
    print(msgspec.json.format(msgspec.json.encode(run), indent=1).decode() if as_json else page.run_section(run))


def _write_pages(results: Results) -> None:
    for path, text in page.documents(results, page.DOCS.parent).items():
        path.write_text(text)
    if results.runs.keys() & DRAWN:
        (page.DOCS / page.PLOT_FILE).write_bytes(picture(results))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _end(code: int, message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends servers and subjects in order
    app(prog_name="fraudstream bench")
