"""What the console is for, in a real Chromium on a real stack: seen, judged, learned from, broken and mended.

Rule 1. One stack and one story, in the order in which a person would live it; each part waits for what it has brought about.
Rule 2. What a person does is done on the page; the log is read only to know which alert is the burst's.
Rule 3. FRAUD_TEST_SCREENSHOTS=FOLDER saves pictures of it, to be looked at.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud.switches import SWITCHES, Side
from tests.browser.chromium import LOOKS, WIDE, complaints_of, faults_of_page
from tests.browser.live_world import WAIT_S, LiveWorld, eventually, settings
from tests.integration.terminal import Terminal, stack_up

pytestmark = pytest.mark.timeout(1500)
HISTORY_DAYS = 14
MATURE_DAYS = 8  # two whole days that the new version has decided, and three until their labels are mature; and room
PAGES = ("live", "paths", "models", "world", "health", "budget", "break")


class Visit:
    """A person at the console."""

    def __init__(self, address: str, page: Any) -> None:
        self.address = address
        self.page = page

    def go(self, name: str) -> None:
        """By the navigation, as the stream goes on."""
        self.page.locator(f'nav a[href="/{name}"]').click()
        self.page.wait_for_url(f"{self.address}/{name}")

    def picture(self, name: str) -> None:
        if folder := os.environ.get("FRAUD_TEST_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.evaluate("scrollTo(0, 0)")  # else what sticks to the window hangs in the picture's middle
            self.page.screenshot(path=Path(folder) / f"stack-{name}.png", full_page=True)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Terminal]:
    with stack_up(tmp_path_factory.mktemp("seen"), **settings()) as made:
        yield made


@pytest.fixture
def visit(terminal: Terminal, browser: Any) -> Iterator[Visit]:
    context = browser.new_context(color_scheme="light", viewport=WIDE, reduced_motion="reduce")
    context.set_default_timeout(WAIT_S * 1000)
    page = context.new_page()
    complaints = complaints_of(page)
    address = terminal.state().services["console"].address
    page.goto(f"{address}/world")
    yield Visit(address, page)
    context.close()
    assert complaints == []


def test_a_burst_is_seen_judged_and_learned_from_and_what_is_broken_is_shown_and_mended(
    terminal: Terminal, visit: Visit
) -> None:
    world = LiveWorld(terminal)
    no_page_has_a_fault(visit, "empty")
    world.stream_to(HISTORY_DAYS)
    with world.live():
        run_id = a_burst_is_started_and_caught(visit)
        an_alert_of_it_is_confirmed_and_its_label_arrives(visit, world, run_id)
        the_console_dies_and_nothing_is_missed(visit, terminal, world)
        each_switch_moves_the_meter_and_off_is_zero(visit)
    version = a_training_is_asked_for_and_its_version_decides(visit)
    world.stream_to(world.today() + MATURE_DAYS)
    what_it_has_delivered_appears(visit, version)
    a_training_under_switches_is_marked_and_decides_nothing(visit, version)
    no_page_has_a_fault(visit, "full")


def a_burst_is_started_and_caught(visit: Visit) -> str:
    """Card testing, started on the page; the run's id when alerts of it are told there."""
    page = visit.page
    visit.go("world")
    page.get_by_role("button", name="Start card-testing").click()
    page.get_by_label("cards hit").fill("30")
    page.get_by_role("dialog").get_by_role("button", name="Start").click()
    row = page.locator("[data-run]", has_text="card-testing")
    row.wait_for()

    def caught() -> bool:
        found = re.search(r"([\d,]+) of ([\d,]+)\s+([\d,]+) of", row.inner_text())
        return found is not None and int(found[3].replace(",", "")) >= 5

    eventually("five cards of the burst have an alert", caught)
    visit.picture("burst")
    return str(row.get_attribute("data-run"))


def an_alert_of_it_is_confirmed_and_its_label_arrives(visit: Visit, world: LiveWorld, run_id: str) -> None:
    page = visit.page

    # Nobody else says anything of what was declined: the label that comes is this person's.
    def declined() -> Any:
        return next((one for one in world.alerts_of(run_id) if one.decision == "decline"), None)

    alert = eventually("a transaction of the burst is declined", declined)
    visit.go("live")
    page.get_by_role("searchbox").fill(alert.card_id)
    row = page.locator(f'tr[data-alert="{alert.alert_id}"]')
    row.get_by_role("button").click()
    page.locator(".drawer").get_by_text("stands at").wait_for()
    page.locator(".drawer .features tbody tr").first.wait_for()  # the archiver has it
    visit.picture("alert")
    page.get_by_role("button", name="Confirm fraud").click()
    page.locator(".drawer .verdict", has_text="by a person; the label says fraud").wait_for()
    row.locator(".pill.bad").wait_for()
    assert [(label.source, label.is_fraud) for label in world.labels()[alert.transaction_id]] == [("analyst", True)]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Clear").click()


def the_console_dies_and_nothing_is_missed(visit: Visit, terminal: Terminal, world: LiveWorld) -> None:
    page = visit.page
    visit.go("live")
    shown = page.locator("tr[data-alert]")
    shown.first.wait_for()
    before = str(shown.first.get_attribute("data-alert"))
    process = terminal.state().services["console"].process
    assert process is not None
    known = len(world.alerts())
    os.kill(process.pid, signal.SIGKILL)
    page.locator(".connection.bad").wait_for()
    eventually("alerts come meanwhile", lambda: len(world.alerts()) >= known + 5)
    page.locator(".connection.good").wait_for()
    ids = [alert.alert_id for alert in world.alerts()]
    since = ids[ids.index(before) :]
    more = page.get_by_role("button", name="Show older")

    def missed() -> list[str]:
        while more.count():
            more.first.click()
        there = set(page.locator("tr[data-alert]").evaluate_all("rows => rows.map(row => row.dataset.alert)"))
        return [each for each in since if each not in there]

    eventually(f"all of {len(since)} alerts are on the page", lambda: not missed())
    assert page.get_by_text("not shown here").count() == 0


def each_switch_moves_the_meter_and_off_is_zero(visit: Visit) -> None:
    page = visit.page
    visit.go("break")
    wrong = page.locator(".facts-row > div", has_text="vectors that differ").locator("dd").first

    def differ() -> int | None:
        found = re.match(r"[\d,]+", wrong.inner_text())
        return None if found is None else int(found[0].replace(",", ""))

    eventually("the meter has measured, and nothing differs", lambda: differ() == 0)
    for switch in SWITCHES:
        if switch.side is Side.TRAINING:
            continue
        lever = page.locator(f'[data-switch="{switch.name}"]')
        lever.get_by_role("switch").click()
        page.locator(".notice.broken").get_by_text(switch.name).wait_for()
        eventually(f"vectors differ under {switch.name}", lambda: (differ() or 0) > 0)
        visit.picture(switch.name)
        lever.get_by_role("switch").click()
        page.locator(".notice.broken").wait_for(state="detached")
        eventually(f"nothing differs after {switch.name}", lambda: differ() == 0)


def trained(visit: Visit) -> str:
    """Press Retrain, see it through its stages; how it has ended."""
    page = visit.page
    visit.go("models")
    page.get_by_role("heading", name="Training").wait_for()
    steps = page.locator(".steps li")
    state = page.locator(".card", has_text="Retrain now").locator(".pill").first
    already = page.locator("tr.version").count()
    page.get_by_role("button", name="Retrain now").click()
    seen = set()

    def ended() -> bool:
        if state.count():
            seen.add(state.inner_text())
        return bool(seen & {"running"}) and state.inner_text() in ("promoted", "rejected", "failed")

    eventually("the training is seen to run, and ends", ended, 2 * WAIT_S)
    assert steps.count() >= 4, steps.all_inner_texts()
    assert state.inner_text() != "failed", page.locator(".card", has_text="Retrain now").inner_text()
    eventually("its version is listed", lambda: page.locator("tr.version").count() > already)
    visit.picture(f"trained-{already}")
    return str(state.inner_text())


def a_training_is_asked_for_and_its_version_decides(visit: Visit) -> str:
    page = visit.page
    ended = trained(visit)
    version = str(page.locator("tr.version").first.get_attribute("data-version"))
    if ended == "rejected":  # the gate holds it: a person overrules that
        page.locator(f'tr[data-version="{version}"]').get_by_role("button", name="Promote").click()
        page.get_by_role("dialog").get_by_role("button", name="Promote").click()
    page.locator(".page-head", has_text=f"{version} decides").wait_for()
    page.locator("header.vitals", has_text=version).wait_for()  # the scorer has taken it
    return version


def what_it_has_delivered_appears(visit: Visit, version: str) -> None:
    visit.page.locator(f'tr[data-version="{version}"]', has_text="delivered").wait_for()
    visit.picture("delivered")


def a_training_under_switches_is_marked_and_decides_nothing(visit: Visit, champion: str) -> None:
    page = visit.page
    names = [switch.name for switch in SWITCHES if switch.side is Side.TRAINING]
    visit.go("break")
    for name in names:
        page.locator(f'[data-switch="{name}"]').get_by_role("switch").click()
        page.locator(f'[data-switch="{name}"].on').wait_for()
    assert trained(visit) == "rejected"
    marked = page.locator("tr.version").first
    for name in names:
        marked.get_by_text(f"made under {name}", exact=True).wait_for()
    page.locator(".page-head", has_text=f"{champion} decides").wait_for()
    visit.go("break")
    for name in names:
        page.locator(f'[data-switch="{name}"]').get_by_role("switch").click()
    page.locator(".notice.broken").wait_for(state="detached")


def no_page_has_a_fault(visit: Visit, when: str) -> None:
    """Faults of access, and what hangs over the edge, on every page as it is now, light and wide, dark and narrow."""
    found = {}
    for look in ("light-wide", "dark-narrow"):
        scheme, size = LOOKS[look]
        visit.page.emulate_media(color_scheme=scheme)
        visit.page.set_viewport_size(size)
        for name in PAGES:
            visit.go(name)
            visit.page.locator("main h1").wait_for()
            eventually("nothing is loading", lambda: visit.page.locator("main .spinner").count() == 0)
            visit.picture(f"{when}-{name}-{look}")
            if faults := faults_of_page(visit.page):
                found[f"{name}, {look}"] = faults
    visit.page.emulate_media(color_scheme="light")
    visit.page.set_viewport_size(WIDE)
    assert found == {}
