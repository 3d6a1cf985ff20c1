"""The vector at request time: bit for bit what the stream would serve, whatever is cached, replaced or folded in pieces."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from fraud.columns import CardColumns
from fraud.dead_letters import BadMessageError, Reason
from fraud.features import CARD_NAMES, NAMES
from fraud.fold import CARD_WIDTH, CardFold
from fraud.transaction import Transaction
from fraud.windows import DAY_MS, HOUR_MS
from scorer.api.histories import EVENTS_PER_PIECE, Histories
from scorer.api.stored_state import Stored
from scorer.api.vector_now import NEEDS_TRANSACTION, OF_CARD_ALONE, DuplicateError, LateError, VectorReader
from tests.api.asked import AT_MS, Memory, transaction


def never() -> bool:
    return False


def traffic(rows: int, seed: int = 1) -> list[Transaction]:
    """Transactions of 5 cards at 3 terminals over 400 days, so that logs are compacted; some late, tied, repeated, too late."""
    random = np.random.default_rng(seed)
    times = AT_MS + np.sort(random.integers(0, 400 * DAY_MS, rows))
    times[random.random(rows) < 0.2] //= HOUR_MS
    times = np.where(times < AT_MS, times * HOUR_MS, times)
    late = random.random(rows) < 0.1
    times[late] -= random.integers(0, 33 * DAY_MS, int(late.sum()))
    ids = np.where(random.random(rows) < 0.05, np.maximum(0, np.arange(rows) - 7), np.arange(rows))
    placed = {"schema_version": 2, "mcc": "5411", "country": "FR", "channel": "online", "merchant_id": "s1"}
    return [
        transaction(
            int(ids[i]), f"c{random.integers(0, 5)}", f"m{random.integers(0, 3)}", int(times[i]), int(random.integers(0, 9000)),
            **(placed if i % 2 else {}),
        )
        for i in range(rows)
    ]  # fmt: skip


def asked(reader: VectorReader, memory: Memory, one: Transaction) -> bytes | str:
    """The vector's bits, or why there is none."""
    wanted = ("card", one.card_id), ("terminal", one.terminal_id)
    stored = [Stored(memory.logs.get(key, b""), 0, 0) for key in wanted]
    try:
        return reader.full(one, stored, never).values.tobytes()
    except BadMessageError as error:
        return str(error.reason)
    except DuplicateError:
        return "DUPLICATE"


def differences(entities_max: int, rows: int = 1500) -> tuple[int, Memory]:
    """How many of the vectors asked just before arrival are not those that were served."""
    memory, reader, differ = Memory(), VectorReader(1, entities_max), 0
    for number, one in enumerate(traffic(rows)):
        before = asked(reader, memory, one) if number % 3 == 0 else None
        served = memory.arrive(one)
        if before is not None:
            told = None if isinstance(before, str) else before
            differ += told != (None if served is None else served.tobytes())
        if number % 4 == 0 and served is not None:
            memory.label(one, number % 8 == 0)
    return differ, memory


@pytest.mark.parametrize("entities_max", [1, 2, 100])
def test_the_vector_before_arrival_is_the_one_that_is_served_whatever_the_size_of_the_cache(entities_max: int) -> None:
    differ, memory = differences(entities_max)
    assert differ == 0
    assert memory.compactions > 3


def asked_again_after_compaction() -> tuple[list[bytes | str], list[bytes | str]]:
    """What a reader says that knows the logs of long ago, and what one says that knows nothing; some logs have grown since."""
    memory, reader = Memory(), VectorReader(1, 100)
    rows = traffic(1500)
    for one in rows[:400]:
        memory.arrive(one)
    cards = [f"c{i}" for i in range(5)]
    for card in cards:
        asked(reader, memory, transaction(9_000, card, at_ms=rows[400].occurred_at_ms))
    before = dict(memory.logs)
    for one in rows[400:]:
        memory.arrive(one)
    grown = [card for card in cards if len(memory.logs["card", card]) > len(before["card", card])]
    assert grown and memory.compactions
    asks = [transaction(9_001, card, at_ms=rows[-1].occurred_at_ms) for card in cards]
    return [asked(reader, memory, one) for one in asks], [asked(VectorReader(1, 9), memory, one) for one in asks]


def test_a_log_that_was_compacted_and_has_grown_is_folded_anew() -> None:
    again, anew = asked_again_after_compaction()
    assert again == anew


def test_a_cache_that_trusts_the_length_of_a_log_alone_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trusting(Histories):
        def bring(self, entity_id, log, is_late):  # type: ignore[no-untyped-def]
            if len(log) >= len(self.log(entity_id)) > 0:
                self._folded[entity_id] = log[: len(self.log(entity_id))]
            return super().bring(entity_id, log, is_late)

    monkeypatch.setattr("scorer.api.vector_now.Histories", Trusting)
    again, anew = asked_again_after_compaction()
    assert again != anew


def test_what_the_stream_would_not_score_has_the_streams_reason() -> None:
    memory, reader = Memory(), VectorReader(1, 10)
    memory.arrive(transaction(1))
    memory.arrive(transaction(2, "other", "m2", AT_MS + 36 * DAY_MS))
    assert asked(reader, memory, transaction(1, at_ms=AT_MS + HOUR_MS, amount=5)) == "DUPLICATE"
    assert asked(reader, memory, transaction(1, at_ms=AT_MS + 30 * DAY_MS)) != "DUPLICATE"
    assert asked(reader, memory, transaction(3, at_ms=AT_MS - 30 * DAY_MS - 1)) == Reason.TOO_LATE
    assert asked(reader, memory, transaction(4, "new", "m2", AT_MS)) == Reason.TOO_LATE
    assert isinstance(asked(reader, memory, transaction(5, at_ms=AT_MS - 30 * DAY_MS)), bytes)


def test_a_long_history_is_folded_over_several_requests_and_then_answers_exactly() -> None:
    rows = 2 * EVENTS_PER_PIECE + 10
    fold = CardFold()
    told = CardColumns.bare(np.arange(1, rows + 1), AT_MS + np.arange(rows) * 1000, np.arange(rows) % 5000)
    fold.apply(["c1"] * rows, told)
    log = b"".join(blob for _, _, blob in fold.take_changes())
    one = transaction(0, at_ms=AT_MS + rows * 1000)
    reader, stored = VectorReader(1, 10), [Stored(log, None, 0), Stored(b"", None, 0)]
    tries = count()
    with pytest.raises(LateError, match="the next request goes on"):
        reader.full(one, stored, lambda: True)
    with pytest.raises(LateError):
        reader.full(one, stored, lambda: next(tries) > 0)
    values = reader.full(one, stored, never).values
    assert values[:CARD_WIDTH].tobytes() == fold.read("c1", CardColumns.of([one])).tobytes()


def test_a_history_that_vanished_from_the_store_is_forgotten() -> None:
    memory, reader = Memory(), VectorReader(1, 10)
    memory.arrive(transaction(1))
    blank = asked(VectorReader(1, 10), Memory(), transaction(2))
    assert asked(reader, memory, transaction(2)) != blank
    memory.logs.clear()
    assert asked(reader, memory, transaction(2)) == blank


def test_a_damaged_log_is_refused_and_named() -> None:
    held = Histories(CardFold(keep_changes=False), 10)
    with pytest.raises(ValueError, match="c1"):
        held.bring("c1", b"x" * 57, never)


def test_the_cache_is_bounded() -> None:
    memory, reader = Memory(), VectorReader(1, 8)
    for number in range(50):
        memory.arrive(transaction(number, f"c{number}", f"m{number}"))
        asked(reader, memory, transaction(100 + number, f"c{number}", f"m{number}"))
    assert max(reader.cached()) <= 8
    assert min(reader.cached()) > 1


def test_features_of_a_card_alone_are_exactly_those_that_no_transaction_changes() -> None:
    fold = CardFold()
    rows = traffic(300)
    for one in rows:
        fold.apply(["c"], CardColumns.of([one]))
    last = max(one.occurred_at_ms for one in rows)
    at = last + HOUR_MS
    here = {"schema_version": 2, "mcc": "5411", "channel": "online", "latitude_cdeg": 100, "longitude_cdeg": 100}
    fold.apply(
        ["c"],
        CardColumns.of([transaction(7_000, at_ms=last + 1, merchant_id="s1", country="FR", device_id="d1", **here)]),
    )
    asks = [
        transaction(9_000, at_ms=at, amount=amount, merchant_id=merchant, country=country, device_id=device, **place)
        for amount, merchant, country, device, place in (
            (1, "s1", "FR", "d1", here),
            (777, "s2", "GB", "d2", {**here, "latitude_cdeg": 5000}),
        )
    ]
    vectors = [fold.read("c", CardColumns.of([one])) for one in asks]
    differing = {
        name for name, a, b in zip(NAMES, *vectors, strict=False) if a != b and not (np.isnan(a) and np.isnan(b))
    }
    assert differing == set(NEEDS_TRANSACTION) - {"request_hour", "request_weekday"}
    assert set(OF_CARD_ALONE) == set(CARD_NAMES) - differing
