"""A control request: what a person asks of the running stack, as a message of the topic `control`.

Rule 1. A request has an id, so that its sender can follow it; the same id again is the same request.
Rule 2. Every reader sees all requests in one order, with the time at which the log took each: what follows from them (the
        simulated clock, the scenarios that run) is a fold over this topic, and equal for all (fraud/simulation.py).
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from fraud.dead_letters import BadMessageError, Reason
from fraud.wire import check_id, check_time, decode_strictly

SPEED_MIN: Final = 1.0
SPEED_MAX: Final = 14_400.0  # a day in six seconds: a week of nights can be watched, and tested, in a minute
TRIGGERS: Final = ("person", "nightly", "drift")
WHY_MAX: Final = 300


class Retrain(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="retrain"):
    """A new model.

    request_id: 1 .. 64 characters of A-Z a-z 0-9 . _ -, chosen by the sender, here and in the other requests.
    sent_at_ms: wall clock of the sender, epoch milliseconds.
    as_of_ms: the simulated moment to train for, epoch milliseconds; None: the newest that the lake allows.
    trigger: who asks: person, nightly or drift. why: in words, at most 300 characters. Both came later: left out, they are
    `person` and nothing.
    """

    request_id: str
    sent_at_ms: int
    as_of_ms: int | None = None
    trigger: str | UnsetType = UNSET
    why: str | UnsetType = UNSET

    @property
    def asked_by(self) -> str:
        """Who asks: one of TRIGGERS."""
        return TRIGGERS[0] if self.trigger is UNSET else self.trigger

    @property
    def reason(self) -> str:
        """Why, in words; empty when nobody said."""
        return "" if self.why is UNSET else self.why

    def to_json(self) -> bytes:
        """The message as it stands in the `control` topic."""
        return _encode(self)


class SetClock(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="clock"):
    """Another pace of the simulated clock; what is None stays as it is.

    speed: event time per real time, SPEED_MIN .. SPEED_MAX. paused: whether event time stands still.
    event_time_ms: event time at the moment when the log takes this, epoch milliseconds, and cards: how many the world has;
    both sent by a producer that starts.
    """

    request_id: str
    sent_at_ms: int
    speed: float | None = None
    paused: bool | None = None
    event_time_ms: int | None = None
    cards: int | None = None

    def to_json(self) -> bytes:
        """The message as it stands in the `control` topic."""
        return _encode(self)


class StartScenario(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="scenario-start"):
    """A fraud scenario on some cards of the world, from now on for some minutes of event time.

    scenario: a name that the producer knows. cards: how many are hit. parameters: the scenario's own, by name.
    The request's id names the run and begins its transactions' ids.
    """

    request_id: str
    sent_at_ms: int
    scenario: str
    cards: int
    minutes: float
    parameters: dict[str, float] = {}

    def to_json(self) -> bytes:
        """The message as it stands in the `control` topic."""
        return _encode(self)


class StopScenario(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="scenario-stop"):
    """The end of one run, or of all (run_id None): what it has not sent yet never comes."""

    request_id: str
    sent_at_ms: int
    run_id: str | None = None

    def to_json(self) -> bytes:
        """The message as it stands in the `control` topic."""
        return _encode(self)


class SetSwitch(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="switch"):
    """A switch of "Break it" on or off (fraud/switches.py); asked again for what is already so, it changes nothing."""

    request_id: str
    sent_at_ms: int
    name: str
    on: bool

    def to_json(self) -> bytes:
        """The message as it stands in the `control` topic."""
        return _encode(self)


ControlRequest: TypeAlias = Retrain | SetClock | StartScenario | StopScenario | SetSwitch

_encode = msgspec.json.Encoder().encode
_decoder: Final[msgspec.json.Decoder[ControlRequest]] = msgspec.json.Decoder(ControlRequest)


def parse_control_request(raw: bytes | None) -> ControlRequest:
    """Decode and check one record of `control`. Raises BadMessageError with the reason."""
    request = decode_strictly(raw, _decoder, lambda _: -1)
    check_id("request_id", request.request_id)
    check_time("sent_at_ms", request.sent_at_ms)
    if isinstance(request, Retrain) and request.as_of_ms is not None:
        check_time("as_of_ms", request.as_of_ms)
    if isinstance(request, Retrain) and (request.asked_by not in TRIGGERS or len(request.reason) > WHY_MAX):
        raise BadMessageError(
            Reason.FIELD_TYPE, f"trigger is one of {', '.join(TRIGGERS)}, why at most {WHY_MAX} characters"
        )
    if isinstance(request, SetClock):
        _check_clock(request)
    if isinstance(request, SetSwitch):
        check_id("name", request.name)
    if isinstance(request, StartScenario):
        check_id("scenario", request.scenario)
        if request.cards < 1 or not 0 < request.minutes < float("inf"):
            raise BadMessageError(
                Reason.FIELD_TYPE, f"cards is {request.cards}, minutes {request.minutes}: both are above 0"
            )
    return request


def _check_clock(request: SetClock) -> None:
    if request.speed is not None and not SPEED_MIN <= request.speed <= SPEED_MAX:
        raise BadMessageError(
            Reason.FIELD_TYPE, f"speed is {request.speed}, {SPEED_MIN:g} .. {SPEED_MAX:g} is expected"
        )
    if request.event_time_ms is not None:
        check_time("event_time_ms", request.event_time_ms)
