"""Compiles the fold's kernels once, so that an image starts with them compiled. `python -m adapters.compile_fold`

Rule 1. Every kernel that a stage runs is called here as a stage calls it: other argument types would compile anew.
"""

from __future__ import annotations

import numpy as np

from fraud.fold import LABEL, TRANSACTION, CardFold, TerminalFold


def compile_fold() -> None:
    """Run one transaction and its label through both folds, and each entity's log through the replay of a restart."""
    hashes, times = np.array([1], np.uint64), np.array([0], np.int64)
    amounts, genuine = np.array([100], np.int64), np.array([0], np.uint8)
    card = CardFold()
    card.apply(["card"], hashes, times, amounts)
    terminal = TerminalFold()
    for kind in (TRANSACTION, LABEL):
        terminal.apply(np.array([kind], np.uint8), ["terminal"], hashes, times, amounts, genuine)
    for fold in (card, terminal):
        for entity, _, log in fold.take_changes():
            type(fold)().load(entity, log)


if __name__ == "__main__":
    compile_fold()
