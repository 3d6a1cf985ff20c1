"""Running a stage on a lane: the exactness protocol.

    1. decode and fold one batch in memory      2. write the outputs, await the acknowledgements
    3. let the effect stand: state and watermark in one call      4. ack to Faust (a lag gauge, nothing more)

Rule 1. Whatever fails ends the process with a code that says whether a restart heals it. A batch that was written but
        did not take effect is written again, identically, and its readers drop the repetition.
Rule 2. A batch goes on only while its stage is the one that the partition has now: after a rebalance it is dropped.
Rule 3. Nothing of a batch is written when it shows a flood of dead letters.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import structlog
from faust.types import TP

from adapters.kafka import AsyncWriter, write_all
from adapters.state_store import StateMovedError, StateStore, StateStoreAwayError
from adapters.telemetry import counter, gauge, histogram
from fraud import metrics, topics
from fraud.flood import DeadLetterFloodError, FloodGuard
from stream_features.hand_over import Handed, HandOver
from stream_features.label_forwarder import EventTimeGate, LabelForwarder
from stream_features.stage import FeatureHashMismatchError, Stage, Step, Write

EXIT_RESTART: Final = 70  # a restart heals it
EXIT_PERSON: Final = 2  # a person must look: a restart would end the same way
GATE_POLL_SECONDS: Final = 0.02

AnyStage = Stage[Any]
log = structlog.get_logger("stream_features")


class LogLostError(RuntimeError):
    """The state and the log do not meet: records are gone, or the state speaks of records that were never written."""


class OvertakenError(RuntimeError):
    """Records came out of order: taken like this, those before them would be lost."""


def end_process(code: int, message: str, **details: Any) -> NoReturn:
    """Say why and end now. Nothing is flushed: all that counts stands in Kafka and in the state store."""
    log.error(message, exit_code=code, **details)
    sys.stderr.flush()
    os._exit(code)


class LaneRunner:
    """The stages of this worker's partitions, and the protocol around each of their batches."""

    def __init__(
        self,
        store: StateStore,
        writer: AsyncWriter,
        make: Mapping[str, Callable[[int, Any], AnyStage]],
        guards: Mapping[str, FloodGuard],
        gate: EventTimeGate,
        log_start: Callable[[TP], Awaitable[int]],
    ) -> None:
        self._store = store
        self._writer = writer
        self._make = make
        self._guards = guards
        self._gate = gate
        self._log_start = log_start
        self._stages: dict[TP, AnyStage] = {}
        self._turns: defaultdict[TP, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.assigned = False
        self.hand_over: HandOver | None = None  # to the stages of this worker that read what another one writes

    async def resume_from(self, assigned: set[TP], earliest: Mapping[TP, int], ends: Mapping[TP, int]) -> dict[TP, int]:
        """Where each assigned partition goes on: its stored watermark, or the beginning of the log.

        A stage whose memory is at the stored watermark is kept. Raises LogLostError when watermark and log do not meet.
        """
        positions: dict[TP, int] = {}
        stages: dict[TP, AnyStage] = {}
        if self.hand_over is not None:
            self.hand_over.begin(assigned)
        for tp in sorted(assigned):
            kept = self._stages.get(tp)
            stage = self._make[tp.topic](tp.partition, None) if kept is None else kept
            stored = await self._store.read(stage.name, tp.partition)
            if kept is None or kept.state.next != stored.next:
                stage = self._make[tp.topic](tp.partition, stored)
            position = earliest[tp] if stored.next is None else stored.next
            if not earliest[tp] <= position <= ends[tp]:
                raise LogLostError(
                    f"{tp.topic}/{tp.partition} holds offsets {earliest[tp]} to {ends[tp]}, the state of stage "
                    f"{stage.name} is at {position}: they are not of one past; start both empty, or restore the lost one"
                )
            if stored.next is None and position > 0:
                log.warning("no state: begun at the oldest record, without the histories before it", lane=str(tp))
            positions[tp], stages[tp] = position, stage
        self._stages = stages
        self.assigned = True
        log.info("lanes", positions={f"{tp.topic}/{tp.partition}": p for tp, p in positions.items()})
        return positions

    def stage(self, tp: TP) -> AnyStage | None:
        """The stage that takes this partition now."""
        return self._stages.get(tp)

    async def find_loss(self) -> None:
        """End the process when the store has gone back behind a stage: nobody else would notice while no batch comes."""
        for tp, stage in list(self._stages.items()):
            settled = stage.state.next
            stored = (await self._store.read(stage.name, tp.partition)).next
            if settled is not None and (stored is None or stored < settled):
                end_process(
                    EXIT_RESTART,
                    f"stage {stage.name}, partition {tp.partition}: the state store lost data: the "
                    f"watermark was {settled}, it is {'absent' if stored is None else stored}",
                )

    async def run(self, tp: TP, records: Sequence[Any]) -> None:
        """Take one fetched batch through the protocol; end the process when that fails."""
        async with self._turns[tp]:
            stage = self._stages.get(tp)
            if stage is not None:
                await self._run_or_end(tp, stage, records)

    async def run_handed(self, tp: TP, records: Sequence[Handed]) -> int:
        """As run, but take nothing unless the stage is at these records or within them; returns where it is then."""
        async with self._turns[tp]:
            stage = self._stages.get(tp)
            if stage is not None and stage.state.next is not None and records[0].offset <= stage.state.next:
                await self._run_or_end(tp, stage, records)
            return 0 if stage is None else stage.state.next or 0

    async def _run_or_end(self, tp: TP, stage: AnyStage, records: Sequence[Any]) -> None:
        try:
            await self._run(tp, stage, records)
        except (DeadLetterFloodError, FeatureHashMismatchError, LogLostError) as error:
            end_process(EXIT_PERSON, str(error), topic=tp.topic, partition=tp.partition)
        except (StateMovedError, StateStoreAwayError) as error:
            end_process(EXIT_RESTART, str(error), topic=tp.topic, partition=tp.partition)
        except asyncio.CancelledError:
            self._stages.pop(tp, None)  # its memory may be ahead of the state
            raise
        except BaseException as error:
            log.exception("batch failed", topic=tp.topic, partition=tp.partition)
            end_process(EXIT_RESTART, repr(error))

    async def _run(self, tp: TP, stage: AnyStage, records: Sequence[Any]) -> None:
        expected = stage.state.next
        if expected is not None and records[0].offset < expected:
            records = [record for record in records if record.offset >= expected]
            if not records:
                return
        if expected is not None and records[0].offset > expected and await self._log_start(tp) > expected:
            raise LogLostError(
                f"{tp.topic}/{tp.partition}: retention removed offset {expected} before stage {stage.name} took it; the "
                f"log goes on at {records[0].offset}: keep the topic longer, and start with an empty state"
            )
        if expected is not None and records[0].offset > expected and tp.topic == topics.TERMINAL_LOG.name:
            raise OvertakenError(  # our own writers leave no holes in it; a restart fetches from the watermark
                f"{tp.topic}/{tp.partition}: offset {records[0].offset} came where {expected} is next"
            )
        decoded = stage.decode(records)
        if isinstance(stage, LabelForwarder):
            while len(decoded):
                count = await self._gate.released(decoded)
                if self._stages.get(tp) is not stage:
                    return
                if count == 0:
                    await asyncio.sleep(GATE_POLL_SECONDS)
                    continue
                ready, decoded = decoded.split(count)
                await self._take(tp, stage, ready)
        else:
            await self._take(tp, stage, decoded)

    async def _take(self, tp: TP, stage: AnyStage, decoded: Any) -> None:
        started = time.monotonic()
        missing = stage.missing(decoded)
        if missing:
            logs = await self._store.load(stage.name, tp.partition, missing, stage.state.next)
            stage.load(list(zip(missing, logs, strict=True)))
        if self._stages.get(tp) is not stage:
            return
        step = stage.step(decoded)
        self._guards[tp.topic].admit(len(decoded), len(step.refused))
        placed = await write_all(self._writer, step.writes)
        if self.hand_over is not None:
            self._offer(self.hand_over, step.writes, placed)
        await self._store.apply(stage.name, tp.partition, step.effect)
        stage.settle(step.effect)
        _observe(tp, stage, step, len(decoded), time.monotonic() - started)

    def _offer(self, hand_over: HandOver, writes: Sequence[Write], placed: Sequence[int | None]) -> None:
        """Hand what was written over to the stages of this worker that take it next."""
        for (topic, partition, records), first in zip(writes, placed, strict=True):
            tp = TP(topic, partition)
            stage = self._stages.get(tp)
            if first is not None and stage is not None and stage.state.next is not None:
                hand_over.offer(tp, first, records, stage.state.next)


def _observe(tp: TP, stage: AnyStage, step: Step, rows: int, seconds: float) -> None:
    counters, effect, partition = step.effect.counters, step.effect, str(tp.partition)
    taken = counter(metrics.TRANSACTIONS_TOTAL)
    if stage.name == "labels":
        counter(metrics.LABELS_TOTAL).labels("forwarded").inc(counters["forwarded"])
    else:
        taken.labels(stage.name, "accepted").inc(counters.get("accepted", 0))
        taken.labels(stage.name, "duplicate").inc(counters.get("duplicates", 0))
        taken.labels(stage.name, "dead_letter").inc(counters["dead_letters"])
        counter(metrics.LATE_TOTAL).labels(stage.name).inc(step.late)
    for outcome in ("applied", "expired", "unknown"):
        if count := counters.get(f"labels_{outcome}", 0):
            counter(metrics.LABELS_TOTAL).labels(outcome).inc(count)
    for refused in step.refused:
        counter(metrics.DEAD_LETTERS_TOTAL).labels(tp.topic, refused.error.reason).inc()
    histogram(metrics.BATCH_ROWS).labels(stage.name).observe(rows)
    histogram(metrics.STAGE_LATENCY_SECONDS).labels(stage.name).observe(seconds)
    gauge(metrics.WATERMARK_OFFSET).labels(stage.name, partition).set(effect.next)
    gauge(metrics.EVENT_TIME_SECONDS).labels(stage.name, partition).set(effect.event_time_ms / 1000)
    gauge(metrics.ENTITIES_CACHED).labels(stage.name).set(stage.cached())
