"""The console in a real Chromium, on real topics of a real broker.

Rule 1. What a person would see is looked for on the page; what a person does is looked for in the log.
Rule 2. FRAUD_TEST_SCREENSHOTS=FOLDER saves a picture of every page, light and dark, wide and narrow, to be looked at.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from adapters.kafka_admin import ensure_topics
from adapters.model_store import ModelStore
from adapters.ports import free_ports
from fraud import topics
from fraud.alert import Alert
from fraud.control import SetClock, SetSwitch, StartScenario, parse_control_request
from fraud.disposition import parse_disposition
from fraud.features import NAMES
from fraud.labels import Label
from fraud.switches import SWITCHES
from tests.browser.chromium import LOOKS, WAIT_MS, WIDE, complaints_of, faults_of_access, faults_of_page
from tests.browser.console_process import ConsoleProcess, metrics_page, until
from tests.browser.console_world import NOW_MS, SCRIPT, TRANSACTIONS, Seeded, alert, replace_amount, seed, transaction
from tests.conftest import own_server

PAGES = {
    "live": "/live",
    "alert": f"/live?alert=0-{TRANSACTIONS - 2}",
    "paths": "/paths",
    "models": "/models",
    "world": "/world",
    "health": "/health",
    "budget": "/budget",
    "break": "/break",
}
# What stands on a page when it has loaded all that it shows.
LOADED = {
    "live": "table.alerts tbody tr",
    "alert": ".drawer .bars li",
    "paths": ".chart canvas",
    "models": "tr.version",
    "world": "[data-run]",
    "health": "svg.bins",
    "budget": ".chart canvas",
    "break": "[data-switch]",
}
WEBHOOK = Path(__file__).parents[1] / "contract" / "alertmanager" / "webhook-v4.json"


class Stage:
    """The servers, the console and what was written."""

    def __init__(self, bootstrap: str, console: ConsoleProcess, state: Path, seeded: Seeded) -> None:
        self.bootstrap = bootstrap
        self.console = console
        self.state = state
        self.seeded = seeded
        self._next = TRANSACTIONS

    def send(self, topic: str, key: str | None, value: bytes) -> None:
        with closing(KafkaProducer(bootstrap_servers=self.bootstrap, acks="all")) as producer:
            producer.send(topic, value, None if key is None else key.encode()).get(30)

    def new_alert(self, **changes: Any) -> Alert:
        """Write another alert."""
        i = self._next
        self._next += 1
        made = msgspec.structs.replace(alert(i, transaction(i), self.seeded.champion), **changes)
        self.send(topics.ALERTS.name, made.card_id, made.to_json())
        return made

    def records(self, topic: str) -> list[Any]:
        """Everything that a topic has."""
        with closing(
            KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
        ) as consumer:
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            end = consumer.end_offsets([place])[place]
            consumer.seek_to_beginning(place)
            found: list[Any] = []
            deadline = time.monotonic() + 60
            while consumer.position(place) < end and time.monotonic() < deadline:
                found += consumer.poll(timeout_ms=200).get(place, [])
            return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("console")
    state = folder / "state"
    state.mkdir()
    with (
        own_server("kafka", folder / "kafka") as kafka,
        own_server("redis", folder / "redis") as store,
        metrics_page() as page,
    ):
        ensure_topics(kafka.address, 1)
        seeded = seed(kafka.address, store.address, state)
        services = ("producer", "stream_features", "scorer", "archiver", "watch")
        console = ConsoleProcess(
            free_ports(1)[0],
            state,
            FRAUD_KAFKA_BOOTSTRAP=kafka.address,
            FRAUD_REDIS_URL=store.address,
            FRAUD_CONSOLE_TARGETS=",".join(f"{name}={page}" for name in services),
        )
        console.start()
        try:
            yield Stage(kafka.address, console, state, seeded)
        finally:
            assert console.end() == 0


@pytest.fixture
def page(stage: Stage, browser: Any) -> Iterator[Any]:
    """A wide, light page; whatever it complains about fails the test."""
    context = browser.new_context(color_scheme="light", viewport=WIDE, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    opened = context.new_page()
    complaints = complaints_of(opened)
    yield opened
    context.close()
    assert complaints == []


def open_page(page: Any, stage: Stage, name: str) -> None:
    page.goto(stage.console.address + PAGES[name])
    page.wait_for_selector(LOADED[name])
    page.wait_for_selector(".connection.good")


def row_of(made: Alert) -> str:
    return f'tr[data-alert="{made.alert_id}"]'


def test_an_alert_appears_is_opened_and_confirmed_and_its_label_arrives(stage: Stage, page: Any) -> None:
    open_page(page, stage, "live")
    made = stage.new_alert(amount_minor=123_456)
    row = page.locator(row_of(made))
    row.wait_for()
    assert "€1,234.56" in row.inner_text()
    row.get_by_role("button").click()
    page.get_by_role("button", name="Confirm fraud").click()
    page.get_by_text("confirmed", exact=True).first.wait_for()
    dispositions = [parse_disposition(record.value) for record in stage.records(topics.DISPOSITIONS.name)]
    assert [(d.verdict, d.card_id) for d in dispositions if d.transaction_id == made.transaction_id] == [
        ("confirmed", made.card_id)
    ]
    known = made.occurred_at_ms + 1000
    label = Label(
        made.transaction_id, made.card_id, made.terminal_id, made.occurred_at_ms, True, known, "analyst", known
    )
    stage.send(topics.LABELS.name, label.terminal_id, label.to_json())
    row.locator(".pill.bad").wait_for()
    assert row.locator(".pill.bad").inner_text() == "fraud"


def test_an_opened_alert_shows_why_and_what_the_card_did_before(stage: Stage, page: Any) -> None:
    open_page(page, stage, "alert")
    drawer = page.locator(".drawer")
    assert drawer.locator(".bars li").count() == 11  # ten features, and the rest
    assert drawer.locator(".history .own circle").count() == 1
    assert drawer.locator(".history circle").count() > 20
    told = drawer.inner_text()
    assert "faster than an airliner" in told  # a reason in words
    assert "Similar alerts" in told
    drawer.get_by_role("button", name=f"All {len(NAMES)} features").click()
    assert drawer.locator("table.features tbody tr").count() == len(NAMES)


def test_what_others_wrote_is_shown_as_text_and_never_runs(stage: Stage, page: Any) -> None:
    open_page(page, stage, "alert")
    page.locator(".drawer .facts").get_by_text(SCRIPT).wait_for()  # the merchant
    made = stage.new_alert(terminal_id=SCRIPT, reason_codes=("<IMG SRC=X ONERROR=ALERT(1)>",))
    page.locator(row_of(made)).wait_for()  # before, the console does not have it, and its address is one of nothing
    page.goto(f"{stage.console.address}/live?alert={made.alert_id}")
    page.locator(".drawer .facts").get_by_text(SCRIPT).wait_for()
    page.goto(stage.console.address + PAGES["health"])
    page.get_by_role("button", name="Open the dead letter NOT_JSON at offset 11").click()
    page.locator("dialog pre").get_by_text(SCRIPT).wait_for()
    assert page.title() == "Health · fraudstream"
    assert page.locator("main script, dialog script, img[src='x' i]").count() == 0


def test_a_page_resumes_without_a_gap_when_the_console_was_away(stage: Stage, page: Any) -> None:
    open_page(page, stage, "live")
    before = stage.new_alert()
    page.locator(row_of(before)).wait_for()
    assert stage.console.end() == 0
    page.locator(".connection.bad").wait_for()
    page.get_by_text("The console does not answer").wait_for()
    meanwhile = [stage.new_alert() for _ in range(5)]
    stage.console.start()
    after = stage.new_alert()
    page.locator(row_of(after)).wait_for()
    for made in (before, *meanwhile, after):
        assert page.locator(row_of(made)).count() == 1, made.alert_id
    page.locator(".connection.good").wait_for()
    assert page.get_by_text("not shown here").count() == 0  # nothing was lost


def test_a_filter_hides_a_pause_freezes_and_keys_move(stage: Stage, page: Any) -> None:
    open_page(page, stage, "live")
    page.keyboard.press("/")
    page.keyboard.type("impossible")
    reasons = page.locator("table.alerts .reasons")
    until("only these", lambda: all("impossible" in text.lower() for text in reasons.all_inner_texts()))
    page.get_by_role("button", name="Clear").click()
    page.keyboard.press("Escape")
    page.get_by_role("heading", name="Alerts").click()
    page.keyboard.press("p")
    made = stage.new_alert()
    page.get_by_text("1 more have come").wait_for()
    assert page.locator(row_of(made)).count() == 0
    page.get_by_role("button", name="Go on").click()
    page.locator(row_of(made)).wait_for()
    page.keyboard.press("j")
    page.locator(".drawer h2").wait_for()
    page.keyboard.press("Escape")
    page.locator(".drawer").wait_for(state="detached")


def test_a_version_is_promoted_after_a_question_and_rolled_back(stage: Stage, page: Any) -> None:
    store = ModelStore(stage.state / "models")
    before = store.aliases()
    other = next(version for version in store.versions() if version not in (before.champion, before.previous))
    open_page(page, stage, "models")
    page.locator(f'tr[data-version="{other}"]').get_by_role("button", name="Promote").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert store.aliases() == before
    page.locator(f'tr[data-version="{other}"]').get_by_role("button", name="Promote").click()
    page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    until("the champion is another", lambda: store.champion() == other)
    page.get_by_text(f"{other} decides").wait_for()
    page.get_by_role("button", name="Roll back …").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    until("the champion is the one before", lambda: store.champion() == before.champion)


def test_the_world_is_steered_through_the_log(stage: Stage, page: Any) -> None:
    def asked(kind: type) -> list[Any]:
        requests = [parse_control_request(record.value) for record in stage.records(topics.CONTROL.name)]
        return [request for request in requests if isinstance(request, kind)]

    open_page(page, stage, "world")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Go on").wait_for()
    assert asked(SetClock)[-1].paused is True
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Start impossible-travel").click()
    page.get_by_label("cards hit").fill("7")
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    page.locator("[data-run]", has_text="impossible-travel").wait_for()
    started = asked(StartScenario)[-1]
    assert (started.scenario, started.cards) == ("impossible-travel", 7)


def test_a_training_is_asked_for_through_the_log(stage: Stage, page: Any) -> None:
    open_page(page, stage, "models")
    page.get_by_text("5 steps, wall time").wait_for()  # the one before, from the trainer's progress
    page.get_by_role("button", name="Retrain now").click()
    page.get_by_text("Asked for a training").wait_for()
    kinds = [json.loads(record.value)["kind"] for record in stage.records(topics.CONTROL.name)]
    assert kinds.count("retrain") == 1


def test_a_dead_letter_is_opened_and_replayed_byte_for_byte(stage: Stage, page: Any) -> None:
    open_page(page, stage, "health")
    page.get_by_role("button", name="Open the dead letter AMOUNT_OUT_OF_RANGE at offset 7").click()
    page.get_by_role("dialog").get_by_text("amount_minor is outside").wait_for()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()
    page.get_by_text("Sent to transactions again").wait_for()
    newest = stage.records(topics.TRANSACTIONS.name)[-1]
    assert (newest.value, newest.key) == (replace_amount(transaction(4), -5), b"c1004")


def test_the_real_server_refuses_changes_that_are_not_the_pages_own(stage: Stage) -> None:
    console = stage.console
    host = {"host": f"127.0.0.1:{console.port}", "origin": console.address, "content-type": "application/json"}
    token = json.loads(console.get("/api/session")[1])["token"]
    before = len(stage.records(topics.CONTROL.name))
    for headers in (
        {**host, "origin": "http://evil.example", "x-console-token": token},
        {**host, "x-console-token": "guessed"},
        {**host, "host": "evil.example", "x-console-token": token},
    ):
        status, body = console.ask("POST", "/api/retrain", headers, b"{}")
        assert status in (403, 421), body
    assert len(stage.records(topics.CONTROL.name)) == before
    assert console.ask("POST", "/api/retrain", {**host, "x-console-token": token}, b"{}")[0] == 200  # the control
    for path in ("/static/../server.py", "/static/%2e%2e/server.py", "/static/vendor/../../settings.py"):
        assert console.get(path)[0] == 404


def test_two_paths_says_how_fresh_each_is_and_what_it_costs(stage: Stage, page: Any) -> None:
    open_page(page, stage, "paths")
    for text in ("11.3 h before it", "11.0 µs", "24.0 µs"):
        page.locator(".card", has_text="Freshness and cost").get_by_text(text).wait_for()


def test_a_switch_is_turned_through_the_log_and_its_banner_stands_on_every_page(stage: Stage, page: Any) -> None:
    def asked() -> list[tuple[str, bool]]:
        requests = [parse_control_request(record.value) for record in stage.records(topics.CONTROL.name)]
        return [(request.name, request.on) for request in requests if isinstance(request, SetSwitch)]

    open_page(page, stage, "break")
    assert page.locator("[data-switch]").count() == len(SWITCHES)
    page.locator('[data-switch="float-sums"]').get_by_role("switch").click()
    page.locator('[data-switch="float-sums"].on').wait_for()
    assert asked()[-1] == ("float-sums", True)
    page.get_by_text("in force from card/0 offset 1,234").wait_for()  # as the worker's metrics tell it
    for name in ("live", "models", "health"):
        page.goto(stage.console.address + PAGES[name])
        page.locator(".notice.broken").get_by_text("float-sums").wait_for()
    stage.console.end()
    stage.console.start()
    page.goto(stage.console.address + PAGES["break"])
    page.locator('[data-switch="float-sums"].on').get_by_role("switch").click()
    page.locator('[data-switch="float-sums"]:not(.on)').wait_for()
    page.locator(".notice.broken").wait_for(state="detached")
    assert asked()[-1] == ("float-sums", False)


def test_a_switch_that_there_is_not_is_refused_with_those_that_there_are(stage: Stage) -> None:
    console = stage.console
    token = json.loads(console.get("/api/session")[1])["token"]
    headers = {"origin": console.address, "content-type": "application/json", "x-console-token": token}
    status, body = console.ask("POST", "/api/break/no-such", headers, b'{"on": true}')
    assert status == 404
    assert all(switch.name in body.decode() for switch in SWITCHES)


def test_alertmanagers_message_stands_on_health_with_its_runbook_until_it_has_resolved(stage: Stage, page: Any) -> None:
    sent = json.loads(WEBHOOK.read_text())
    said = {"content-type": "application/json"}
    open_page(page, stage, "health")
    assert stage.console.ask("POST", "/api/alertmanager", said, json.dumps(sent).encode())[0] == 200
    row = page.locator('[data-alertname="ParityBroken"]')
    row.get_by_text("firing").wait_for()
    link = row.get_by_role("link", name="paritybroken")
    status, guide = stage.console.get(str(link.get_attribute("href")).partition("#")[0])
    assert (status, b"## ParityBroken" in guide) == (200, True)
    resolved = {**sent["alerts"][0], "status": "resolved", "endsAt": "2026-11-21T16:00:00Z"}
    body = json.dumps({**sent, "status": "resolved", "alerts": [resolved]}).encode()
    assert stage.console.ask("POST", "/api/alertmanager", said, body)[0] == 200
    row.get_by_text("resolved").wait_for()
    assert stage.console.ask("POST", "/api/alertmanager", {**said, "origin": stage.console.address}, body)[0] == 403


@pytest.mark.parametrize("answer", ["abort", "500", "not a module"])
def test_a_chart_that_cannot_be_drawn_says_so_and_the_next_page_tries_again(
    stage: Stage, browser: Any, answer: str
) -> None:
    context = browser.new_context(viewport=WIDE, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    complaints = complaints_of(page)
    refusals = {
        "abort": lambda route: route.abort(),
        "500": lambda route: route.fulfill(status=500, body="no"),
        "not a module": lambda route: route.fulfill(content_type="text/javascript", body="export default ("),
    }
    page.route("**/vendor/uplot.js", refusals[answer])
    page.goto(stage.console.address + PAGES["budget"])
    page.get_by_text("This chart could not be drawn").first.wait_for()
    page.locator(".connection.good").wait_for()  # the rest of the page lives
    assert page.locator(".chart canvas").count() == 0
    assert [each for each in complaints if "500" not in each] == []
    page.unroute("**/vendor/uplot.js")
    if answer == "abort":
        # What was never answered is fetched anew by the next chart; a browser keeps what was answered until a reload.
        page.locator('nav a[href="/paths"]').click()
    else:
        page.reload()
    page.wait_for_selector(".chart canvas")
    assert page.get_by_text("This chart could not be drawn").count() == 0
    context.close()


def test_a_page_whose_code_cannot_be_had_says_so_and_the_others_live(stage: Stage, page: Any) -> None:
    page.route("**/js/health.js", lambda route: route.abort())
    page.goto(stage.console.address + PAGES["health"])
    page.get_by_text("This page could not be loaded").wait_for()
    page.locator(".connection.good").wait_for()
    page.unroute("**/js/health.js")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(LOADED["health"])


@pytest.fixture
def switched_on(stage: Stage) -> Iterator[None]:
    """A switch is on meanwhile: banner and page show it."""
    for on in (True, False):
        stage.send(topics.CONTROL.name, None, SetSwitch(f"s-{on}", NOW_MS, "hopping-windows", on).to_json())
        if on:
            yield


@pytest.mark.parametrize("look", ["light-wide", "dark-narrow"])
@pytest.mark.usefixtures("switched_on")
def test_every_page_is_accessible_and_nothing_hangs_over_its_edge(stage: Stage, browser: Any, look: str) -> None:
    scheme, size = LOOKS[look]
    context = browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    complaints = complaints_of(page)
    found = {}
    for name in PAGES:
        open_page(page, stage, name)
        page.locator(".notice.broken").wait_for()
        if faults := faults_of_page(page):
            found[name] = faults
    context.close()
    assert found == {}
    assert complaints == []


def test_axe_finds_what_is_not_accessible(page: Any) -> None:
    page.set_content("<html><body><img src='data:,'><button></button></body></html>")
    assert {fault.partition(":")[0] for fault in faults_of_access(page)} >= {"image-alt", "button-name"}


def test_the_policy_refuses_a_script_that_stands_in_the_page(stage: Stage, browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    complaints = complaints_of(page)
    page.goto(stage.console.address)
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert page.evaluate("window.ran") is None
    # The page's title is asked for so that its messages are taken.
    until("the browser says so", lambda: page.title() and any("Content Security Policy" in each for each in complaints))
    context.close()


@pytest.mark.skipif("FRAUD_TEST_SCREENSHOTS" not in os.environ, reason="FRAUD_TEST_SCREENSHOTS names no folder")
@pytest.mark.parametrize("look", LOOKS)
def test_pictures_of_every_page(stage: Stage, browser: Any, look: str) -> None:
    folder = Path(os.environ["FRAUD_TEST_SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    scheme, size = LOOKS[look]
    context = browser.new_context(color_scheme=scheme, viewport=size, reduced_motion="reduce")
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    for name in PAGES:
        open_page(page, stage, name)
        page.screenshot(path=folder / f"{name}-{look}.png", full_page=True)
        assert (folder / f"{name}-{look}.png").stat().st_size > 10_000
    context.close()
