"""Places, devices, countries and merchants in the fold, by example: what is new, how far, how fast, and what is absent.

Rule 1. Distances are held against the haversine formula, which is exact and needs functions that differ between machines.
"""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import fold_kernel as kernel
from fraud.columns import NOWHERE_CDEG, CardColumns, country_code, known_hash
from fraud.features import NAMES
from fraud.fold import COSINES, CardFold
from fraud.transaction import Transaction
from fraud.windows import DAY_MS, HOUR_MS, MINUTE_MS

TEN = 1_523_008_800_000
BERLIN, PARIS, SYDNEY = (5252, 1340), (4886, 235), (-3387, 15121)


def paid(number: int, at_ms: int = TEN, amount: int = 1000, **fields: Any) -> Transaction:
    place: tuple[int | None, int | None] = fields.pop("place", (None, None))
    told = {"merchant_id": "m1", "mcc": "5411", "country": "DE", "channel": "online", "device_id": "d1", **fields}
    version = 1 if fields.get("merchant_id", "") is None else 2
    return Transaction(
        f"x{number}", "c1", "t1", amount, "EUR", at_ms, at_ms, version, latitude_cdeg=place[0], longitude_cdeg=place[1], **told
    )  # fmt: skip


def last(*transactions: Transaction) -> dict[str, float]:
    """The vector of the last transaction of one card, by name."""
    result = CardFold().apply(["c1"] * len(transactions), CardColumns.of(transactions))
    return dict(zip(NAMES, result.vectors[-1].tolist(), strict=False))


# -- distances ------------------------------------------------------------------------------------------------------------------


def haversine_km(a: tuple[int, int], b: tuple[int, int]) -> float:
    """R. W. Sinnott, Virtues of the Haversine, Sky and Telescope 68 (1984)."""
    one, other = ([math.radians(cdeg / 100) for cdeg in place] for place in (a, b))
    h = math.sin((other[0] - one[0]) / 2) ** 2
    h += math.cos(one[0]) * math.cos(other[0]) * math.sin((other[1] - one[1]) / 2) ** 2
    return 2 * kernel.EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def km(a: tuple[int, int], b: tuple[int, int]) -> float:
    packed = [CardColumns.of([paid(0, place=place)]).events()[0, kernel.VALUE + kernel.PLACE] for place in (a, b)]
    distance: float = kernel.great_circle_km(COSINES, *packed)
    return distance


places = st.tuples(st.integers(-9000, 9000), st.integers(-18000, 18000))


@settings(max_examples=400, deadline=None)
@given(places, st.one_of(places, st.tuples(st.integers(-3, 3), st.integers(-3, 3))), st.booleans())
def test_distances_are_great_circle_distances_to_a_metre(a: tuple[int, int], b: tuple[int, int], is_near: bool) -> None:
    if is_near:
        b = (max(-9000, min(9000, a[0] + b[0] % 7)), max(-18000, min(18000, a[1] + b[1] % 7)))
    #  near the antipode the haversine formula itself is off by more than a metre
    assert km(a, b) == pytest.approx(haversine_km(a, b), abs=0.001 if haversine_km(a, b) < 19_900 else 0.5)
    assert km(a, b) == km(b, a)
    assert km(a, a) == 0


def test_known_distances() -> None:
    assert km(BERLIN, PARIS) == pytest.approx(877, abs=3)
    assert km(BERLIN, SYDNEY) == pytest.approx(16_090, abs=20)
    assert km((9000, 0), (-9000, 0)) == pytest.approx(math.pi * kernel.EARTH_RADIUS_KM, abs=0.001)
    assert km((0, 17999), (0, -17999)) == pytest.approx(km((0, 0), (0, 2)), abs=0.001)


def test_the_table_of_cosines_is_that_of_every_machine() -> None:
    exact = np.cos(np.deg2rad(np.arange(18001) / 100)) * kernel.COSINE_SCALE
    assert (np.abs(np.abs(exact - np.floor(exact)) - 0.5) > 1e-7).all()  # nothing near the middle of two integers
    assert zlib.crc32(COSINES.astype("<i8").tobytes()) == 0x14F7526


# -- travel ---------------------------------------------------------------------------------------------------------------------


def test_distance_and_speed_are_those_from_the_last_transaction() -> None:
    vector = last(paid(1, place=SYDNEY), paid(2, TEN + HOUR_MS, place=PARIS), paid(3, TEN + 3 * HOUR_MS, place=BERLIN))
    assert vector["card_seconds_since_last"] == 2 * 3600
    assert vector["card_distance_km_since_last"] == pytest.approx(877, abs=3)
    assert vector["card_speed_kmh_since_last"] == pytest.approx(vector["card_distance_km_since_last"] / 2)


def test_speed_within_a_minute_is_as_if_a_minute_had_passed() -> None:
    at_once = last(paid(1, place=BERLIN), paid(2, TEN, place=PARIS))
    a_minute = last(paid(1, place=BERLIN), paid(2, TEN + MINUTE_MS, place=PARIS))
    assert at_once["card_speed_kmh_since_last"] == a_minute["card_speed_kmh_since_last"] < float("inf")


def test_without_both_places_there_is_neither_distance_nor_speed() -> None:
    for before, now in (((None, None), BERLIN), (BERLIN, (None, None))):
        vector = last(paid(1, place=before), paid(2, TEN + 1000, place=now))
        assert vector["card_seconds_since_last"] == 1
        assert math.isnan(vector["card_distance_km_since_last"])
        assert math.isnan(vector["card_speed_kmh_since_last"])


# -- new and distinct -----------------------------------------------------------------------------------------------------------


def test_what_the_card_has_not_shown_within_thirty_days_is_new() -> None:
    old = paid(1, TEN - 30 * DAY_MS, device_id="d2", country="FR", merchant_id="m2")
    known = paid(2, TEN - 30 * DAY_MS + 1, device_id="d3", country="NL", merchant_id="m3")
    for fields, expected in (
        ({"device_id": "d2", "country": "FR", "merchant_id": "m2"}, 1),
        ({"device_id": "d3", "country": "NL", "merchant_id": "m3"}, 0),
    ):
        vector = last(old, known, paid(3, **fields))
        assert [vector[f"card_new_{name}"] for name in ("device", "country", "merchant")] == [expected] * 3


def test_a_late_transaction_does_not_know_what_came_to_be_known_after_its_time() -> None:
    vector = last(paid(1), paid(2, TEN + HOUR_MS, device_id="d2"), paid(3, TEN + MINUTE_MS, device_id="d2"))
    assert vector["card_new_device"] == 1
    assert vector["card_distinct_devices_1h"] == 1


def test_absent_merchants_devices_and_countries_are_not_counted_and_not_new() -> None:
    bare = {"merchant_id": None, "mcc": None, "country": None, "channel": None, "device_id": None}
    vector = last(paid(1, **bare), paid(2, TEN + 1), paid(3, TEN + 2, device_id=None), paid(4, TEN + 3, **bare))
    assert [vector[f"card_distinct_{n}_1h"] for n in ("terminals", "merchants", "devices", "countries")] == [1, 1, 1, 1]
    assert all(math.isnan(vector[f"card_new_{name}"]) for name in ("device", "country", "merchant"))
    assert vector["card_count_1h"] == 3


def test_version_1_is_version_2_without_places() -> None:
    bare = {"merchant_id": None, "mcc": None, "country": None, "channel": None, "device_id": None}
    one, two = paid(1, **bare), paid(2, TEN + 5, **bare)
    both = CardColumns.bare([known_hash("x1"), known_hash("x2")], [TEN, TEN + 5], [1000, 1000], [known_hash("t1")] * 2)
    assert CardColumns.of([one, two]).events().tobytes() == both.events().tobytes()


def test_the_median_of_recent_amounts_is_of_the_last_sixteen() -> None:
    small = [paid(i, TEN + i, 10) for i in range(30)]
    large = [paid(100 + i, TEN + 100 + i, 1000) for i in range(8)]
    assert last(*small, *large[:7], paid(999, TEN + 500, 500))["card_amount_over_recent_median"] == 50
    assert last(*small, *large, paid(999, TEN + 500, 505))["card_amount_over_recent_median"] == 1


def test_half_a_place_and_a_place_outside_the_earth_are_refused() -> None:
    for place in ((NOWHERE_CDEG, 5), (9001, 0), (0, 18001)):
        with pytest.raises(ValueError, match="place"):
            CardFold().apply(["c1"], CardColumns.of([paid(1, place=place)]))


def test_codes_and_hashes_of_what_is_absent_are_zero_and_of_nothing_else() -> None:
    assert (known_hash(None), country_code(None)) == (0, 0)
    assert known_hash("d1") != 0
    assert country_code("DE") == (ord("D") << 8) + ord("E")
