"""Random numbers that can be asked for in any order.

Rule 1. A day's draws come from a generator seeded with (seed, stream, day): no day depends on another.
Rule 2. What must hold over many days (a favourite shop, a journey) is a hash of its keys, so nothing has to be stored.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[Any]  # any integer type
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_UNIT: Final = 2.0**-53
SEED_MAX: Final = 2**31 - 1


class Stream(IntEnum):
    """What a generator or a hash is for: two streams of one seed have nothing in common."""

    MERCHANTS = 1
    CARDS = 2
    SUBSCRIPTIONS = 3
    HONEST = 4
    FAVOURITES = 5
    JOURNEYS = 6
    EPISODES = 7
    CONVERSIONS = 8
    DRIFT = 9
    DELIVERY = 10
    RUNS = 11


def check_seed(seed: int) -> int:
    """The seed itself. Raises ValueError outside 0 .. SEED_MAX."""
    if not 0 <= seed <= SEED_MAX:
        raise ValueError(f"seed is {seed}, it must be 0 .. {SEED_MAX}; the default is 0")
    return seed


def generator(seed: int, stream: int, *keys: int) -> np.random.Generator:
    """A generator of its own for (seed, stream, keys); all are 0 or more."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream, *keys])))


def hashed(seed: int, stream: int, *keys: Ints | int) -> Floats:
    """A number in [0, 1) for each row of the keys (arrays of one length, or single integers, at least one array)."""
    with np.errstate(over="ignore"):
        state: Any = _mixed(np.uint64(seed) + np.uint64(stream) * _GOLDEN)
        for key in keys:
            state = _mixed(state ^ np.asarray(key).astype(np.uint64))
    return (state >> np.uint64(11)) * _UNIT  # type: ignore[no-any-return]


def _mixed(value: Any) -> Any:
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


def zipf_rank(uniform: Floats, count: Ints, exponent: float) -> npt.NDArray[np.int64]:
    """The rank, 0 .. count - 1, of a Zipf draw among `count` things, by the inverse of the continuous bounded law.

    P(rank = r) is proportional to the integral of x^-exponent over r + 1 .. r + 2; exponent is above 0 and not 1.
    """
    power = 1.0 - exponent
    reach = np.power(count + 1.0, power) - 1.0
    rank = np.power(1.0 + uniform * reach, 1.0 / power) - 1.0
    return np.asarray(np.minimum(rank.astype(np.int64), count - 1))
