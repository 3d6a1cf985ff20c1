"""The console's ring of frames and its book of alerts: nothing missed, nothing twice, and what was lost is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fraud import packed
from fraud.alert import Alert
from fraud.disposition import Disposition
from monitoring.console.alert_book import AlertBook, Told
from monitoring.console.hub import Hub
from monitoring.console.stream import Stream, frame


def alert(i: int, card: str = "c1", reasons: tuple[str, ...] = ("A", "B")) -> Alert:
    return Alert(
        alert_id=f"0-{i}", transaction_id=f"t{i}", card_id=card, terminal_id="m1", amount_minor=100, currency="EUR",
        occurred_at_ms=1_700_000_000_000 + i, score=0.9, decision="review", reason_codes=reasons, model_version="rules",
        scored_at_ms=1_700_000_000_000, origin_partition=0, origin_offset=i,
    )  # fmt: skip


def book_of(count: int, kept: int = 100) -> AlertBook:
    book = AlertBook(kept)
    for i in range(count):
        book.add(alert(i), partition=i % 2, offset=i // 2)
    return book


def data_of(sent: bytes) -> Any:
    return json.loads(sent.decode().partition("data: ")[2].splitlines()[0])


async def taken(stream: AsyncIterator[bytes], count: int) -> list[bytes]:
    return [await asyncio.wait_for(anext(stream), 20) for _ in range(count)]


def test_a_frame_is_one_event_with_its_place() -> None:
    sent = frame("alerts", {"text": "line\nbreak"}, "0:5")
    assert sent.decode().splitlines()[:3] == ["event: alerts", 'data: {"text":"line\\nbreak"}', "id: 0:5"]
    assert sent.endswith(b"\n\n")


def test_a_browser_gets_every_frame_that_is_put_after_it_came() -> None:
    async def run() -> list[bytes]:
        stream = Stream()
        stream.put(b"before")
        browser = stream.follow(lambda: b"hello")
        first = await taken(browser, 1)
        stream.put(b"one")
        stream.put(b"two")
        return first + await taken(browser, 2)

    assert asyncio.run(run()) == [b"hello", b"one", b"two"]


def test_a_slow_browser_loses_the_oldest_frames_and_is_told_how_many_alerts() -> None:
    async def run() -> list[bytes]:
        stream = Stream(kept=3)
        browser = stream.follow(lambda: b"hello")
        first = await taken(browser, 1)
        for i in range(5):  # alerts: 1, 2, 3, 4, 5; the first two frames go
            stream.put(b"frame %d" % i, alerts=i + 1)
        return first + await taken(browser, 4)

    hello, dropped, *rest = asyncio.run(run())
    assert hello == b"hello"
    assert data_of(dropped) == {"alerts": 3}
    assert rest == [b"frame 2", b"frame 3", b"frame 4"]


def test_the_ring_is_bounded_by_its_bytes_too() -> None:
    async def run() -> list[bytes]:
        stream = Stream(kept=100, kept_bytes=2_500)
        browser = stream.follow(lambda: b"hello")
        first = await taken(browser, 1)
        for _ in range(10):
            stream.put(bytes(1_000), alerts=1)
        return first + await taken(browser, 3)

    _, dropped, *rest = asyncio.run(run())
    assert data_of(dropped) == {"alerts": 8}
    assert len(rest) == 2


def test_a_browser_that_keeps_up_is_told_of_no_loss() -> None:
    async def run() -> list[bytes]:
        stream = Stream(kept=3)
        browser = stream.follow(lambda: b"hello")
        seen = await taken(browser, 1)
        for i in range(10):
            stream.put(b"%d" % i, alerts=1)
            seen += await taken(browser, 1)
        return seen

    assert asyncio.run(run()) == [b"hello", *(b"%d" % i for i in range(10))]


def test_a_stream_that_is_closed_ends_for_everybody() -> None:
    async def run() -> tuple[int, int]:
        stream = Stream()
        browser = stream.follow(lambda: b"hello")
        await taken(browser, 1)
        readers = stream.readers
        stream.close()
        rest = [sent async for sent in browser]
        assert rest == []
        return readers, stream.readers

    assert asyncio.run(run()) == (1, 0)


def test_a_browser_resumes_after_its_place_without_a_gap_and_without_a_repetition() -> None:
    book = book_of(10)
    place = book.place()
    for i in range(10, 16):
        book.add(alert(i), partition=i % 2, offset=i // 2)
    resumed = book.since(place)
    assert [entry.alert.alert_id for entry in resumed.entries] == [f"0-{i}" for i in range(10, 16)]
    assert (resumed.from_scratch, resumed.lost) == (False, 0)


def test_what_is_no_longer_kept_is_counted() -> None:
    book = book_of(20, kept=100)
    place = book.place()
    small = AlertBook(10)
    for i in range(60):
        small.add(alert(i), partition=i % 2, offset=i // 2)
    resumed = small.since(place)
    assert len(resumed.entries) == 10
    assert resumed.lost == 30  # 20 were seen, 60 - 10 are gone


def test_a_place_of_another_log_starts_from_scratch() -> None:
    assert book_of(4).since("0:900").from_scratch
    assert book_of(4).since("nonsense").from_scratch
    assert book_of(4).since(None).from_scratch


def test_an_alert_that_was_written_again_is_kept_once() -> None:
    book = book_of(3)
    assert book.add(alert(1), partition=0, offset=77) is None
    assert len(list(book.newest())) == 3
    assert book.since(None).entries[-1].alert.alert_id == "0-2"


def test_a_label_that_comes_before_its_alert_is_shown_with_it() -> None:
    book = AlertBook(10)
    assert not book.label("t1", Told(True, "chargeback", 5))  # nothing to tell yet
    entry = book.add(alert(1), 0, 0)
    assert entry is not None
    assert book.values(entry)["is_fraud"] is True
    assert book.label("t1", Told(False, "analyst", 9))
    assert book.known(["t1", "unknown"])[0]["label_source"] == "analyst"


def test_a_page_that_comes_back_gets_the_labels_and_verdicts_that_it_missed() -> None:
    book = book_of(5)
    book.label("t3", Told(True, "chargeback", 5))
    book.verdict(Disposition("t1", "c1", "m1", 1, "dismissed", 1))
    assert {each["alert_id"] for each in book.judged()} == {"0-1", "0-3"}


def test_the_first_verdict_counts() -> None:
    book = book_of(2)
    said = [Disposition("t1", "c1", "m1", 1, verdict, 1) for verdict in ("confirmed", "dismissed")]  # type: ignore[arg-type]
    assert [book.verdict(each) for each in said] == [True, False]
    assert book.known(["t1"])[0]["verdict"] == "confirmed"


def test_similar_alerts_share_a_card_before_a_reason() -> None:
    book = AlertBook(10)
    entry = book.add(alert(0, "c1", ("A", "B")), 0, 0)
    book.add(alert(1, "c2", ("A",)), 0, 1)
    book.add(alert(2, "c1", ("C",)), 0, 2)
    assert entry is not None
    assert [each["alert_id"] for each in book.similar(entry)] == ["0-2", "0-1"]


def test_the_book_lets_the_oldest_go() -> None:
    book = book_of(30, kept=10)
    assert book.get("0-19") is None
    assert book.get("0-20") is not None


@dataclass(frozen=True, slots=True)
class Polled:
    """A record as kafka-python gives it."""

    topic: str
    offset: int
    value: bytes
    key: bytes | None = None
    partition: int = 0
    timestamp: int = 1_795_000_000_000
    headers: tuple[tuple[str, bytes], ...] = ()


def polled(alerts: Iterable[Alert]) -> list[Polled]:
    return [Polled("alerts", each.origin_offset, each.to_json()) for each in alerts]


def test_a_burst_comes_in_small_frames_and_only_the_last_moves_the_place() -> None:
    async def run() -> list[bytes]:
        hub = Hub(kept=1000)
        browser = hub.stream.follow(lambda: hub.greeting(None))
        await taken(browser, 1)
        hub.take(polled(alert(i) for i in range(450)))
        return await taken(browser, 3)

    frames = asyncio.run(run())
    assert [len(data_of(each)["alerts"]) for each in frames] == [200, 200, 50]
    assert [b"\nid: 0:450\n" in each for each in frames] == [False, False, True]


def test_what_came_while_nobody_looked_is_in_the_greeting_and_what_follows_in_frames() -> None:
    opened = []

    async def run() -> list[bytes]:
        hub = Hub(kept=1000)
        hub.stream.opened = lambda: opened.append(hub.stream.readers)
        hub.take(polled(alert(i) for i in range(3)))
        hub.beat({"vitals": {}})
        browser = hub.stream.follow(lambda: hub.greeting(None))
        hub.take(polled([alert(3)]))  # it has asked, and was not greeted yet
        first = await taken(browser, 1)
        hub.take(polled([alert(4)]))
        return first + await taken(browser, 1)

    greeting, news = asyncio.run(run())
    assert [each["alert_id"] for each in data_of(greeting)["alerts"]] == ["0-0", "0-1", "0-2", "0-3"]
    assert data_of(greeting)["pulse"]["vitals"] == {}
    assert [each["alert_id"] for each in data_of(news)["alerts"]] == ["0-4"]
    assert opened == [1]


def scores(at: int, decisions: list[int]) -> Polled:
    rows = len(decisions)
    numbers = {
        name: np.full(rows, 0.25) for name, dtype in packed.COLUMNS[packed.SCORES].items() if dtype != packed.TEXT
    }
    texts = {
        name: [f"t{at + i}" for i in range(rows)]
        for name, dtype in packed.COLUMNS[packed.SCORES].items()
        if dtype == packed.TEXT
    }
    origin = {"origin_partition": np.zeros(rows), "origin_offset": np.arange(at, at + rows)}
    columns = {**numbers, **texts, **origin, "decision": np.array(decisions)}
    return Polled("scores", at, packed.pack(packed.SCORES, columns, {"model_version": "20240502T090000-46b2ee"}))


def test_an_alert_gets_its_other_scores_from_a_batch_that_approves_nearly_everything() -> None:
    async def run() -> Any:
        hub = Hub(kept=10)
        hub.take([*polled([alert(1), alert(4)]), scores(0, [0, 1, 0]), scores(3, [0, 0]), Polled("scores", 5, b"no")])
        return data_of(hub.greeting(None))

    one, other = asyncio.run(run())["alerts"]
    assert one["other_scores"] == {"rules": 0.25, "challenger": 0.25, "batch": 0.25}
    assert other["other_scores"] is None  # its score says that it was approved


def test_what_is_no_message_is_left_out_and_the_rest_is_taken() -> None:
    async def run() -> Any:
        hub = Hub(kept=10)
        hub.take([Polled("alerts", 0, b"<script>"), *polled([alert(1)]), Polled("labels", 0, b"{}")])
        return data_of(hub.greeting(None))

    assert [each["alert_id"] for each in asyncio.run(run())["alerts"]] == ["0-1"]
