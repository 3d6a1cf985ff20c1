"""`python -m scorer.verify VERSION_FOLDER`: load a model version in a process of its own, where a crash harms nobody.

Rule 1. Exit code 0: the version may be used. 1: refused, the reason is the last line on stderr. Another: it crashed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from adapters.model_store import ModelStore
from fraud.model import ModelRefusedError
from scorer.model import load

NICENESS: Final = 5  # the live path goes first


def main(arguments: list[str]) -> int:
    """Verify the version in the folder that `arguments` names; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m scorer.verify VERSION_FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    try:
        load(ModelStore(folder.parent).read(folder.name))
    except ModelRefusedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.nice(NICENESS)
    sys.exit(main(sys.argv[1:]))
