"""The application: GET /features/{card}, POST /score, /healthz, /openapi.json.

Rule 1. A transaction is decoded and refused as the stream does it, with the same reasons.
Rule 2. POST /score always answers a good transaction within the deadline: with the stream's vector, or by the rules and
        marked as degraded. GET /features has no rules to fall back to, and says 503.
Rule 3. A body of more than 16 KiB is refused before it is read to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

import msgspec
import structlog
from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect

from adapters.telemetry import gauge
from fraud import metrics
from fraud.dead_letters import MEANING, BadMessageError, Reason
from fraud.transaction import Transaction, decode_transaction
from fraud.wire import MESSAGE_BYTES_MAX, check_id, check_time
from scorer.api import answers
from scorer.api.gate import say_outcome
from scorer.api.stored_state import StateAwayError, Stored, Wanted
from scorer.api.vector_now import DuplicateError, LateError, VectorReader
from scorer.model import Model

BODY_SECONDS_MAX: Final = 5.0
READ_SHARE: Final = 0.8  # of the deadline: the rest is for the fold, the score and the answer
ABOUT: Final = """A card's features and a synchronous score, by the fold that the stream uses, from the state that the stream keeps.
Nothing is written: to have a transaction counted, send it to the topic `transactions`."""

log = structlog.get_logger("scorer.api")


class State(Protocol):
    """Where histories are read from."""

    away_because: str | None

    async def fetch(self, wanted: Sequence[Wanted], seconds_max: float) -> list[Stored]:
        """What is stored of each. Raises StateAwayError."""


class Deciding(Protocol):
    """The model slot."""

    model: Model | None

    @property
    def version(self) -> str:
        """The version that decides."""


@dataclass(frozen=True, slots=True)
class Service:
    """What the endpoints use. deadline_s: for an answer, from the end of the request's body."""

    state: State
    vectors: VectorReader
    slot: Deciding
    deadline_s: float
    exploration_share: float

    async def score(self, transaction: Transaction, with_features: bool, late_at: float) -> dict[str, Any]:
        """ScoreShape; late_at: the loop's time at which the deadline passes. Raises BadMessageError, DuplicateError."""
        wanted = (
            self.vectors.card_wanted(transaction.card_id),
            self.vectors.terminal_wanted(transaction.terminal_id),
        )
        try:
            stored = await self.state.fetch(wanted, self._read_seconds(late_at))
            now = self.vectors.full(transaction, stored, _is_after(late_at))
            return answers.scored(transaction, now, self.slot.model, self.exploration_share, with_features)
        except StateAwayError as error:
            reason, detail = "STATE_STORE_AWAY", str(error)
        except LateError as error:
            reason, detail = "DEADLINE", str(error)
        vector, known = self.vectors.from_memory(transaction)
        return answers.degraded(transaction, vector, known, self.exploration_share, reason, detail)

    async def features(self, card_id: str, at_ms: int | None, late_at: float) -> dict[str, Any] | None:
        """CardFeaturesShape, None for a card without history. Raises BadMessageError, StateAwayError, LateError."""
        [stored] = await self.state.fetch([self.vectors.card_wanted(card_id)], self._read_seconds(late_at))
        if not stored.log:
            return None
        told, at, includes = self.vectors.of_card(card_id, stored, at_ms, _is_after(late_at))
        return answers.card_features(card_id, at, told, includes)

    def _read_seconds(self, late_at: float) -> float:
        return late_at - asyncio.get_running_loop().time() - (1 - READ_SHARE) * self.deadline_s


def make_app(service: Service) -> FastAPI:
    """The application over a service."""
    app = FastAPI(title="fraudstream", version="1", description=ABOUT, docs_url=None, redoc_url=None)
    _refuse_in_one_shape(app)

    @app.post(
        "/score",
        summary="Score a transaction that has not arrived yet",
        responses={200: {"model": answers.ScoreShape}, **answers.refusals(409, 413, 422, 429)},
        openapi_extra=answers.openapi_of_score(),
    )
    async def score(
        request: Request, features: Annotated[bool, Query(description="answer with the feature vector")] = False
    ) -> Response:
        transaction = decode_transaction(await _body(request))
        late_at = asyncio.get_running_loop().time() + service.deadline_s
        told = await service.score(transaction, features, late_at)
        if told["degraded"]:
            say_outcome(request.scope, "degraded")
        _show_cached(service.vectors)
        return _json(told)

    @app.get(
        "/features/{card}",
        summary="A card's features as of an event time",
        responses={200: {"model": answers.CardFeaturesShape}, **answers.refusals(404, 422, 429, 503)},
    )
    async def features(
        card: Annotated[str, Path(description="card_id", examples=["c-42"])],
        at_ms: Annotated[
            int | None,
            Query(
                description="event time, epoch milliseconds; default: the newest of the card's partition",
                examples=[1_522_540_800_000],
            ),
        ] = None,
    ) -> Response:
        check_id("card", card)
        if at_ms is not None:
            check_time("at_ms", at_ms)
        late_at = asyncio.get_running_loop().time() + service.deadline_s
        told = await service.features(card, at_ms, late_at)
        if told is None:
            return _refusal(404, "CARD_UNKNOWN", f"nothing is stored of card {card}")
        return _json(told)

    @app.get("/healthz", summary="Whether the service does its work", response_model=answers.HealthShape)
    async def healthz() -> Response:
        away = service.state.away_because
        return _json({"status": "ok", "deciding": service.slot.version, "state_store": away or "ok"})

    return app


def _refuse_in_one_shape(app: FastAPI) -> None:
    @app.exception_handler(BadMessageError)
    async def bad_message(request: Request, error: BadMessageError) -> Response:
        return _refusal(413 if error.reason is Reason.TOO_LARGE else 422, error.reason, error.detail)

    @app.exception_handler(DuplicateError)
    async def duplicate(request: Request, error: DuplicateError) -> Response:
        return _refusal(409, "DUPLICATE", str(error))

    @app.exception_handler(StateAwayError)
    async def away(request: Request, error: StateAwayError) -> Response:
        return _refusal(503, "STATE_STORE_AWAY", str(error), {"retry-after": "1"})

    @app.exception_handler(LateError)
    async def late(request: Request, error: LateError) -> Response:
        return _refusal(503, "DEADLINE", str(error), {"retry-after": "1"})

    @app.exception_handler(RequestValidationError)
    async def bad_query(request: Request, error: RequestValidationError) -> Response:
        told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        return _refusal(422, "QUERY_INVALID", "; ".join(told))

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def no_such_address(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path[:200]}: {error.detail}; see /openapi.json"
        return _refusal(error.status_code, "HTTP", detail, dict(error.headers or {}))

    @app.exception_handler(TimeoutError)
    async def slow_body(request: Request, error: TimeoutError) -> Response:
        return _refusal(
            408, "BODY_SLOW", f"the body did not arrive within {BODY_SECONDS_MAX:.0f} s", {"connection": "close"}
        )

    @app.exception_handler(ClientDisconnect)
    async def has_left(request: Request, error: ClientDisconnect) -> Response:
        return _refusal(400, "HTTP", "the client has left")

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> Response:
        return _refusal(500, "INTERNAL", "a fault of the service; its log says more")


async def _body(request: Request) -> bytes:
    """The body, at most MESSAGE_BYTES_MAX. Raises BadMessageError (TOO_LARGE), TimeoutError."""
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > MESSAGE_BYTES_MAX:
        raise _too_large(told)
    body = bytearray()
    async with asyncio.timeout(BODY_SECONDS_MAX):
        async for chunk in request.stream():
            body.extend(chunk)
            if len(body) > MESSAGE_BYTES_MAX:
                raise _too_large(f"more than {MESSAGE_BYTES_MAX}")
    return bytes(body)


def _too_large(size: str) -> BadMessageError:
    return BadMessageError(Reason.TOO_LARGE, f"the body has {size} bytes; {MEANING[Reason.TOO_LARGE]}")


def _is_after(late_at: float) -> Callable[[], bool]:
    time = asyncio.get_running_loop().time
    return lambda: time() > late_at


def _show_cached(vectors: VectorReader) -> None:
    for entity, count in zip(("card", "terminal"), vectors.cached(), strict=True):
        gauge(metrics.API_ENTITIES_CACHED).labels(entity).set(count)


def _json(told: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(told), status, headers, "application/json")


def _refusal(status: int, reason: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"reason": reason, "detail": detail}, status, headers)
