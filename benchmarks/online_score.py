"""`python -m benchmarks.online_score [--rates 50 200] [--seconds 20]`: POST /score under an open loop of requests.

Rule 1. Requests leave at moments drawn before the run (Poisson, a stated seed), whether or not the earlier ones were answered,
        and latency counts from that moment: a service that falls behind shows it (no coordinated omission).
Rule 2. The API is the real process on a real Redis, pinned to one core where the system can; the asking process has another.
        Its CPU is read from the system: user and system time of the process over the requests of the run.
Rule 3. The state is made by the fold: cards of 100 events, terminals of 200 and a few of 20,000, asked by Zipf's law.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from adapters import backends
from adapters.ports import LOOPBACK, free_ports
from adapters.state_store import Change, Effect, StateStore
from fraud.columns import TRANSACTION, CardColumns, TerminalColumns
from fraud.features import FEATURE_HASH
from fraud.fold import CardFold, TerminalFold
from fraud.transaction import Transaction
from fraud.windows import DAY_MS

CARDS, EVENTS_OF_CARD = 2_000, 100
TERMINALS, EVENTS_OF_TERMINAL = 500, 200
LARGE_TERMINALS, EVENTS_OF_LARGE = 5, 20_000
BEGIN_MS = 1_522_540_800_000
NOW_MS = BEGIN_MS + 30 * DAY_MS
READY_S_MAX = 120.0
SEED = 7


def _card_logs() -> list[Change]:
    rng, fold, rows = np.random.default_rng(SEED), CardFold(), EVENTS_OF_CARD
    for card in range(CARDS):
        times = BEGIN_MS + np.sort(rng.integers(0, 30 * DAY_MS, rows))
        told = CardColumns.bare(
            rng.integers(1, 2**62, rows), times, rng.integers(1, 20_000, rows), rng.integers(1, 99, rows)
        )
        fold.apply([f"c{card}"] * rows, told)
    return fold.take_changes()


def _terminal_logs() -> list[Change]:
    rng, fold = np.random.default_rng(SEED + 1), TerminalFold()
    for terminal in range(TERMINALS):
        rows = EVENTS_OF_LARGE if terminal < LARGE_TERMINALS else EVENTS_OF_TERMINAL
        zeros = np.zeros(rows, np.uint8)
        times = BEGIN_MS + np.sort(rng.integers(0, 30 * DAY_MS, rows))
        hashes, cards = (rng.integers(1, high, rows).astype(np.uint64) for high in (2**62, 2_000))
        amounts = rng.integers(1, 20_000, rows)
        fold.apply(
            [f"m{terminal}"] * rows, TerminalColumns(zeros + TRANSACTION, hashes, times, amounts, cards, zeros, zeros)
        )
    return fold.take_changes()


async def _fill(url: str) -> None:
    store = StateStore(url, FEATURE_HASH)
    await store.start()
    for stage, changes in (("card", _card_logs()), ("terminal", _terminal_logs())):
        await store.apply(stage, 0, Effect(None, 1, NOW_MS, {}, {}, changes))  # type: ignore[arg-type]  # two of the stages
    await store.stop()


def _bodies(requests: int) -> list[bytes]:
    rng = np.random.default_rng(SEED + 2)
    cards = np.minimum(rng.zipf(1.3, requests), CARDS) - 1
    terminals = np.minimum(rng.zipf(1.3, requests), TERMINALS) - 1
    amounts = rng.integers(1, 20_000, requests)
    return [
        Transaction(f"b{i}", f"c{cards[i]}", f"m{terminals[i]}", int(amounts[i]), "EUR", NOW_MS, NOW_MS).to_json()
        for i in range(requests)
    ]


async def _open_loop(url: str, rate: float, seconds: float) -> tuple[np.ndarray[Any, Any], int, int]:
    """Latencies in s from the moment that was drawn, how many were degraded, how many failed."""
    requests = int(rate * seconds)
    moments = np.cumsum(np.random.default_rng(SEED).exponential(1 / rate, requests))
    latencies, counts = np.zeros(requests), {"degraded": 0, "failed": 0}
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=10) as client:
        began = time.perf_counter()

        async def one(i: int, body: bytes) -> None:
            answer = await client.post("/score", content=body)
            latencies[i] = time.perf_counter() - began - moments[i]
            if answer.status_code != 200:
                counts["failed"] += 1
            elif answer.json()["degraded"]:
                counts["degraded"] += 1

        asked = []
        for i, body in enumerate(_bodies(requests)):
            await asyncio.sleep(max(0.0, began + moments[i] - time.perf_counter()))
            asked.append(asyncio.create_task(one(i, body)))
        await asyncio.gather(*asked)
    return latencies, counts["degraded"], counts["failed"]


def _started(redis_url: str, folder: Path, model: Path | None) -> tuple[subprocess.Popen[bytes], str]:
    port = free_ports(1)[0]
    environment = {
        **os.environ, "FRAUD_REDIS_URL": redis_url, "FRAUD_STATE_DIR": str(folder), "FRAUD_API_PORT": str(port),
        "FRAUD_API_RATE_PER_S": "0", "FRAUD_LOG_LEVEL": "WARNING",
    }  # fmt: skip
    if model is not None:
        environment["FRAUD_MODELS_DIR"] = str(model)
    process = subprocess.Popen([sys.executable, "-m", "scorer", "api"], env=environment)
    url = f"http://{LOOPBACK}:{port}"
    deadline = time.monotonic() + READY_S_MAX
    while True:
        try:
            httpx.get(f"{url}/healthz", timeout=1).raise_for_status()
            return process, url
        except httpx.HTTPError:
            if time.monotonic() > deadline or process.poll() is not None:
                process.kill()
                raise
            time.sleep(0.2)


def _pin(pid: int, cores: set[int]) -> None:
    if len(os.sched_getaffinity(0)) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, cores)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 200])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--models", type=Path, help="folder of a model registry; default: the rules decide")
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
    )
    with tempfile.TemporaryDirectory() as name, backends.redis(Path(name) / "redis") as server:
        asyncio.run(_fill(server.address))
        process, url = _started(server.address, Path(name), arguments.models)
        try:
            _pin(process.pid, {min(os.sched_getaffinity(0))})
            deciding = httpx.get(f"{url}/healthz").json()["deciding"]
            asyncio.run(_open_loop(url, 100, 5))  # connections and caches as they are after a while
            print(f"deciding: {deciding}; {server.description}; API on one core")
            for rate in arguments.rates:
                before = psutil.Process(process.pid).cpu_times()
                latencies, degraded, failed = asyncio.run(_open_loop(url, rate, arguments.seconds))
                after = psutil.Process(process.pid).cpu_times()
                cpu_us = (after.user + after.system - before.user - before.system) / len(latencies) * 1e6
                p50, p99 = np.quantile(latencies, [0.5, 0.99]) * 1000
                print(
                    f"{rate:5.0f}/s  {len(latencies):6,} requests  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  "
                    f"CPU {cpu_us:5.0f} us a request  degraded {degraded}  failed {failed}"
                )
        finally:
            process.terminate()
            process.wait(10)


if __name__ == "__main__":
    main()
