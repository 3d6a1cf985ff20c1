"""`python -m benchmarks.console`: the console in a real Chromium: first paint, bytes, alert to screen, a flood, many browsers.

Rule 1. A broker, a Redis, a console and a Chromium of its own; nothing of a running stack is touched.
Rule 2. The machine line and the load stand above the numbers: a busy machine makes them worse, never better.

    alert to screen   from just before the alert is written to the topic to its row in the page's document
    frame             between two animation frames of the page, while the flood passes
    many browsers     CPU of the console's process with and without them, beside the same stream of alerts and scores
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
from kafka import KafkaProducer
from playwright.sync_api import sync_playwright

from adapters import backends
from adapters.kafka_admin import ensure_topics
from adapters.ports import free_ports
from fraud import packed, topics
from fraud.alert import Alert
from tests.browser.console_process import ConsoleProcess

CHROMIUM: Final = os.environ.get("FRAUD_TEST_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--enable-precise-memory-info",
)  # fmt: skip
SCORES_PER_S: Final = 1_000
SCORES_ROWS: Final = 20
ALERTS_PER_S: Final = 5
# Notes when each row came into the document, and the longest time between two frames.
WATCH: Final = """
window.seen = {}; window.longest = 0; window.frames = 0; window.slow = 0;
new MutationObserver((changes) => {
  for (const change of changes) for (const node of change.addedNodes) {
    if (node.dataset?.alert) window.seen[node.dataset.alert] = performance.timeOrigin + performance.now();
  }
}).observe(document, {childList: true, subtree: true});
let last = performance.now();
const frame = (now) => {
  window.longest = Math.max(window.longest, now - last);
  window.slow += now - last > 100;
  last = now; window.frames += 1; requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""


class Log:
    """Writes alerts and scores."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
        self._next = 0

    def alert(self) -> tuple[str, float]:
        """Write one alert; its id, and the wall time just before, in ms."""
        i = self._next
        self._next += 1
        now_ms = time.time() * 1000
        made = Alert(
            alert_id=f"0-{i}", transaction_id=f"b{i}", card_id=f"c{i % 5000}", terminal_id=f"t{i % 900}",
            amount_minor=1000 + i % 90_000, currency="EUR", occurred_at_ms=1_714_953_600_000 + i * 1000, score=0.5 + i % 50 / 100,
            decision="review", reason_codes=("CARD_COUNT_1H", "RULE_CARD_TESTING_1H"), model_version="rules",
            scored_at_ms=int(now_ms), origin_partition=0, origin_offset=i,
        )  # fmt: skip
        self._producer.send(topics.ALERTS.name, made.to_json(), made.card_id.encode())
        return made.alert_id, now_ms

    def scores(self, at: int) -> None:
        """Write one packed record of scores, none of them alerted."""
        self._producer.send(topics.SCORES.name, _scores(at))

    def flush(self) -> None:
        """Wait for every acknowledgement."""
        self._producer.flush()


def _scores(at: int) -> bytes:
    columns: dict[str, packed.Column] = {}
    for name, dtype in packed.COLUMNS[packed.SCORES].items():
        columns[name] = (
            [f"b{at}-{i}" for i in range(SCORES_ROWS)] if dtype == packed.TEXT else np.zeros(SCORES_ROWS, dtype)
        )
    columns["origin_offset"] = np.arange(at, at + SCORES_ROWS)
    return packed.pack(packed.SCORES, columns, {"model_version": "rules"})


@contextmanager
def stage() -> Iterator[tuple[str, ConsoleProcess]]:
    """A broker and a console."""
    environment = {**os.environ, "FRAUD_BACKEND": "local"}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        kafka, store = (make(root / name, environment=environment) for name, make in _servers())
        with kafka, store:
            ensure_topics(kafka.address, 1)
            state = root / "state"
            state.mkdir()
            addresses = {"FRAUD_KAFKA_BOOTSTRAP": kafka.address, "FRAUD_REDIS_URL": store.address}
            console = ConsoleProcess(free_ports(1)[0], state, **addresses)
            console.start()
            try:
                yield kafka.address, console
            finally:
                console.end()


def _servers() -> tuple[tuple[str, Callable[..., Any]], ...]:
    return ("kafka", backends.kafka), ("redis", backends.redis)


@contextmanager
def scored(log: Log) -> Iterator[None]:
    """SCORES_PER_S scores a second, meanwhile."""
    stop = threading.Event()

    def run() -> None:
        at, due = 0, time.monotonic()
        while not stop.is_set():
            log.scores(at)
            at, due = at + SCORES_ROWS, due + SCORES_ROWS / SCORES_PER_S
            stop.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    stop.set()
    thread.join()


def first_view(browser: Any, console: ConsoleProcess) -> str:
    """First paint and bytes of the page, nothing cached; the middle of five."""
    paints, sizes = [], []
    for _ in range(5):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        received = []
        session = context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.dataReceived", lambda event, to=received: to.append(event["encodedDataLength"]))
        page.goto(f"{console.address}/live")
        page.wait_for_selector("table.alerts tbody tr")
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        page.wait_for_timeout(500)
        sizes.append(sum(received))
        context.close()
    return f"first paint {statistics.median(paints):.0f} ms, {statistics.median(sizes) / 1000:.0f} KB over the wire"


def to_screen(page: Any, log: Log, seconds: float) -> str:
    """Alert to screen at SCORES_PER_S scores a second."""
    written: dict[str, float] = {}
    with scored(log):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            alert_id, at_ms = log.alert()
            written[alert_id] = at_ms
            time.sleep(1 / ALERTS_PER_S)
        page.wait_for_timeout(2000)
    seen = page.evaluate("window.seen")
    waits = sorted(seen[alert_id] - at_ms for alert_id, at_ms in written.items() if alert_id in seen)
    missed = len(written) - len(waits)
    p50, p95, worst = (waits[int(q * (len(waits) - 1))] for q in (0.5, 0.95, 1))
    return (
        f"alert to screen p50 {p50:.0f} ms, p95 {p95:.0f} ms, worst {worst:.0f} ms of {len(waits)}; {missed} not shown"
    )


def flood(page: Any, log: Log, alerts: int, per_s: int) -> str:
    """Frames and memory while and after many alerts pass."""
    page.evaluate("window.longest = 0; window.frames = 0; window.slow = 0")
    began = due = time.monotonic()
    for _ in range(alerts // 100):
        for _ in range(100):
            log.alert()
        due += 100 / per_s
        page.wait_for_timeout(max(0.0, (due - time.monotonic()) * 1000))
    log.flush()
    took = time.monotonic() - began
    page.wait_for_timeout(3000)
    longest, frames, slow = page.evaluate("[window.longest, window.frames, window.slow]")
    heap = page.evaluate("(globalThis.gc?.(), performance.memory.usedJSHeapSize)")
    return (
        f"{alerts:,} alerts at {alerts / took:,.0f} a second: {slow} of {frames:,} frames took over 100 ms, the longest "
        f"{longest:.0f} ms; "
        f"heap {heap / 1e6:.0f} MB"
    )


def _read_for_ever(port: int, stop: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/api/stream")
    answer = connection.getresponse()
    while not stop.is_set() and answer.read1(65_536):
        pass
    connection.close()


def many(console: ConsoleProcess, log: Log, browsers: int, seconds: float) -> str:
    """CPU of the console with `browsers` open streams, and with none."""
    process = psutil.Process(console.pid)

    def cores() -> float:
        began, before = time.monotonic(), process.cpu_times()
        end = began + seconds
        while time.monotonic() < end:
            log.alert()
            time.sleep(1 / ALERTS_PER_S)
        after = process.cpu_times()
        return float(after.user + after.system - before.user - before.system) / (time.monotonic() - began)

    with scored(log):
        alone = cores()
        stop = threading.Event()
        readers = [
            threading.Thread(target=_read_for_ever, args=(console.port, stop), daemon=True) for _ in range(browsers)
        ]
        for reader in readers:
            reader.start()
        time.sleep(3)
        together = cores()
        stop.set()
    return f"{browsers} consoles cost {together - alone:.3f} of a core ({together:.3f} with, {alone:.3f} without)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=100_000, help="alerts of the flood")
    parser.add_argument("--per-second", type=int, default=1_000, help="their pace")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the other measurements")
    given = parser.parse_args()
    with stage() as (bootstrap, console), sync_playwright() as playwright:
        log = Log(bootstrap)
        for _ in range(200):
            log.alert()
        log.flush()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
        python = sys.version.split()[0]
        print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {python}, Chromium {browser.version}; load {load}")
        print(first_view(browser, console))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.add_init_script(WATCH)
        page.goto(f"{console.address}/live")
        page.wait_for_selector("table.alerts tbody tr")
        print(to_screen(page, log, given.seconds))
        print(flood(page, log, given.alerts, given.per_second))
        page.close()
        print(many(console, log, 50, given.seconds))
        browser.close()
    print(json.dumps({"load after": os.getloadavg()}))


if __name__ == "__main__":
    main()
