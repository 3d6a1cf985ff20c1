"""The console's requests: what each address answers. Wiring is in run.py, work in the pages' own files.

Rule 1. What reads a disk, a broker or a model runs on a thread; the event loop only serves what is in memory.
Rule 2. A refusal is a status and one sentence that says what to do.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, Field

from adapters.model_store import AliasConflictError
from fraud import topics
from fraud.control import SPEED_MAX, SPEED_MIN, Retrain, SetClock, SetSwitch, StartScenario, StopScenario
from fraud.disposition import Disposition
from fraud.model import ModelRefusedError
from fraud.switches import SWITCHES, UnknownSwitchError, switch_named
from monitoring.console.alert_book import Entry
from monitoring.console.alert_detail import AlertDetail
from monitoring.console.assets import Asset
from monitoring.console.dead_letters import DeadLetter, ReplayRefusedError, check_replay, opened
from monitoring.console.drift_page import DriftPage
from monitoring.console.guard import WEBHOOK_PATH
from monitoring.console.guide import guide_text
from monitoring.console.hub import Hub
from monitoring.console.matured_pages import MaturedPages
from monitoring.console.probe import HISTORY_COLUMNS, Probe
from monitoring.console.registry_page import RegistryPage
from monitoring.console.scenarios import RUN_PREFIX, SCENARIOS, ScenarioRefusedError, check_scenario
from monitoring.console.sender import NotSentError, Sender
from monitoring.console.system_alerts import Webhook
from monitoring.console.words import dictionary

_SWITCHES: Final = [{**asdict(switch), "guide": switch.guide} for switch in SWITCHES]
_PAGES: Final = ("", "live", "paths", "models", "world", "health", "budget", "break")


@dataclass(frozen=True, slots=True)
class Console:
    """What the requests are served from."""

    hub: Hub
    probe: Probe
    sender: Sender
    detail: AlertDetail
    registry: RegistryPage
    matured: MaturedPages
    drift: DriftPage
    assets: dict[str, Asset]
    token: str


class Verdict(BaseModel):
    """A person's verdict on an alert."""

    verdict: Literal["confirmed", "dismissed"]


class Seen(BaseModel):
    """The champion that the person has seen on the page."""

    champion: str | None


class Clock(BaseModel):
    """Another pace of event time."""

    speed: Annotated[float, Field(ge=SPEED_MIN, le=SPEED_MAX)] | None = None
    paused: bool | None = None


class Scenario(BaseModel):
    """A scenario to start. minutes: of event time."""

    scenario: str
    cards: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    minutes: Annotated[float, Field(ge=0.1, le=60 * 24 * 90)] = 10.0
    parameters: dict[str, float] = {}


class Turned(BaseModel):
    """A switch of Break it, to be on or off."""

    on: bool


def application(console: Console) -> FastAPI:
    """The application, without its guard."""
    app = FastAPI(title="fraudstream", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(_files(console))
    app.include_router(_live(console), prefix="/api")
    app.include_router(_models(console), prefix="/api")
    app.include_router(_world(console), prefix="/api")
    app.include_router(_health(console), prefix="/api")
    app.include_router(_break_it(console), prefix="/api")
    app.add_exception_handler(NotSentError, lambda _, error: JSONResponse({"detail": str(error)}, 503))
    app.add_exception_handler(ModelRefusedError, lambda _, error: JSONResponse({"detail": str(error)}, 409))
    app.add_exception_handler(AliasConflictError, lambda _, error: JSONResponse({"detail": str(error)}, 409))
    app.add_exception_handler(ReplayRefusedError, lambda _, error: JSONResponse({"detail": str(error)}, 409))
    app.add_exception_handler(UnknownSwitchError, lambda _, error: JSONResponse({"detail": str(error)}, 404))
    app.add_exception_handler(ScenarioRefusedError, lambda _, error: JSONResponse({"detail": str(error)}, 422))
    return app


def _files(console: Console) -> APIRouter:
    router = APIRouter()

    async def page(request: Request) -> Response:
        return console.assets["index.html"].answer(request)

    for name in _PAGES:
        router.add_api_route(f"/{name}", page, methods=["GET", "HEAD"])

    @router.api_route("/static/{path:path}", methods=["GET", "HEAD"])
    async def file(path: str, request: Request) -> Response:
        asset = console.assets.get(path)
        if asset is None:
            raise HTTPException(404, f"the console has no file {path[:80]!r}")
        return asset.answer(request)

    @router.get("/guide/{name}")
    def guide(name: str) -> PlainTextResponse:
        text = guide_text(name.removesuffix(".md"))
        if text is None:
            raise HTTPException(404, f"the console has no guide {name[:80]!r}: it stands in the repository's docs/")
        return PlainTextResponse(text)

    return router


def _live(console: Console) -> APIRouter:
    router, hub = APIRouter(), console.hub

    @router.get("/session")
    async def session() -> dict[str, Any]:
        return {"token": console.token, "words": dictionary(), "scenarios": SCENARIOS, "switches": _SWITCHES}

    @router.get("/stream")
    async def stream(request: Request) -> EventSourceResponse:
        place = request.headers.get("last-event-id") or request.query_params.get("since")
        return EventSourceResponse(
            hub.stream.follow(lambda: hub.greeting(place)), headers={"cache-control": "no-store"}
        )

    @router.get("/alerts/{alert_id}")
    async def alert(alert_id: str) -> dict[str, Any]:
        entry = _kept(hub, alert_id)
        found = await asyncio.to_thread(console.detail.open, entry.alert)
        return {"alert": hub.book.values(entry), **found, "similar": hub.book.similar(entry)}

    @router.post("/alerts/{alert_id}/disposition")
    async def dispose(alert_id: str, verdict: Verdict) -> dict[str, Any]:
        alert = _kept(hub, alert_id).alert
        disposition = Disposition(
            alert.transaction_id, alert.card_id, alert.terminal_id, alert.occurred_at_ms, verdict.verdict, _wall_ms()
        )
        key = alert.transaction_id.encode()
        await asyncio.to_thread(console.sender.send, topics.DISPOSITIONS.name, disposition.to_json(), key)
        return {"verdict": verdict.verdict}

    return router


def _models(console: Console) -> APIRouter:
    router, registry = APIRouter(), console.registry

    @router.get("/models")
    def models() -> dict[str, Any]:
        return registry.values(console.matured.evaluation())

    @router.get("/models/{version}/card")
    def card(version: str) -> dict[str, str]:
        return {"version": version, "card": registry.card(version)}

    @router.post("/models/rollback")
    def rollback(seen: Seen) -> dict[str, Any]:
        return {"champion": registry.rollback(seen.champion).champion}

    @router.post("/models/{version}/promote")
    def promote(version: str, seen: Seen) -> dict[str, Any]:
        return {"champion": registry.promote(version, seen.champion).champion}

    @router.post("/retrain")
    def retrain() -> dict[str, str]:
        request = Retrain(_request_id("console"), _wall_ms())
        console.sender.send(topics.CONTROL.name, request.to_json())
        return {"request_id": request.request_id}

    @router.get("/paths")
    def paths() -> dict[str, Any]:
        return console.matured.paths()

    @router.get("/budget")
    def budget() -> dict[str, Any]:
        return console.matured.budget()

    return router


def _world(console: Console) -> APIRouter:
    router = APIRouter()
    simulation = console.hub.timeline.simulation

    def send(request: SetClock | StartScenario | StopScenario) -> dict[str, str]:
        if simulation.clock is None:
            raise HTTPException(
                409, "no world is running: start one with `fraudstream demo` or `fraudstream world stream`"
            )
        console.sender.send(topics.CONTROL.name, request.to_json())
        return {"request_id": request.request_id}

    @router.post("/world/clock")
    def clock(wanted: Clock) -> dict[str, str]:
        if wanted.speed is None and wanted.paused is None:
            raise HTTPException(422, "give speed, paused, or both")
        return send(SetClock(_request_id("clock"), _wall_ms(), wanted.speed, wanted.paused))

    @router.post("/world/scenarios")
    def start(wanted: Scenario) -> dict[str, str]:
        check_scenario(wanted.scenario, wanted.parameters, wanted.cards, simulation.cards)
        run_id = f"{RUN_PREFIX}{uuid.uuid4().hex[:8]}"
        return send(StartScenario(run_id, _wall_ms(), wanted.scenario, wanted.cards, wanted.minutes, wanted.parameters))

    @router.post("/world/scenarios/{run_id}/stop")
    def stop(run_id: str) -> dict[str, str]:
        if run_id not in simulation.runs:
            raise HTTPException(404, f"there is no run {run_id[:80]!r}")
        return send(StopScenario(_request_id("stop"), _wall_ms(), run_id))

    return router


def _health(console: Console) -> APIRouter:
    router, letters = APIRouter(), console.hub.dead_letters

    @router.get("/history")
    async def history() -> dict[str, Any]:
        return {"columns": HISTORY_COLUMNS, "points": list(console.probe.history)}

    @router.get("/drift")
    def drift() -> dict[str, Any]:
        return console.drift.values()

    @router.get("/drift/{column}")
    def distribution(column: str) -> dict[str, Any]:
        return console.drift.distribution(column)

    @router.get("/dead-letters")
    async def dead_letters() -> dict[str, Any]:
        return {"dead_letters": letters.rows()}

    @router.get("/dead-letters/{letter_id}")
    async def dead_letter(letter_id: str) -> dict[str, Any]:
        return opened(_letter(console, letter_id))

    @router.post("/dead-letters/{letter_id}/replay")
    async def replay(letter_id: str) -> dict[str, str]:
        letter = _letter(console, letter_id)
        check_replay(letter)
        await asyncio.to_thread(console.sender.send, letter.topic, letter.raw, letter.key, letter.partition)
        return {"topic": letter.topic}

    return router


def _break_it(console: Console) -> APIRouter:
    router = APIRouter()

    @router.post("/break/{name}")
    def turn(name: str, wanted: Turned) -> dict[str, str]:
        request = SetSwitch(_request_id("switch"), _wall_ms(), switch_named(name).name, wanted.on)
        console.sender.send(topics.CONTROL.name, request.to_json())
        return {"request_id": request.request_id}

    @router.post(WEBHOOK_PATH.removeprefix("/api"))
    async def alertmanager(message: Webhook) -> dict[str, int]:
        console.hub.alertmanager(message)
        return {"taken": len(message.alerts)}

    return router


def _kept(hub: Hub, alert_id: str) -> Entry:
    entry = hub.book.get(alert_id)
    if entry is None:
        raise HTTPException(404, f"the console no longer keeps the alert {alert_id[:80]!r} (FRAUD_CONSOLE_ALERTS_KEPT)")
    return entry


def _letter(console: Console, letter_id: str) -> DeadLetter:
    letter = console.hub.dead_letters.get(letter_id)
    if letter is None:
        raise HTTPException(404, f"the console keeps no dead letter {letter_id[:80]!r}")
    return letter


def _request_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
