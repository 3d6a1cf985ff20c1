"""Compiles the fold's kernels once, so that an image starts with them compiled. `python -m adapters.compile_fold`

Rule 1. Every kernel that a stage runs is called here as a stage calls it: other argument types would compile anew.
"""

from __future__ import annotations

import numpy as np

from fraud.columns import LABEL, TRANSACTION, CardColumns, TerminalColumns
from fraud.fold import CardFold, TerminalFold


def compile_fold() -> None:
    """Run one transaction and its label through both folds, and each entity's log through the replay of a restart."""
    card, told = CardFold(), CardColumns.bare([1], [0], [100])
    card.apply(["card"], told)
    card.read("card", told)
    terminal = TerminalFold()
    for kind in (TRANSACTION, LABEL):
        kinds, genuine = np.array([kind], np.uint8), np.array([0], np.uint8)
        columns = (told.transaction_hash, told.occurred_at_ms, told.amount_minor, told.transaction_hash)
        terminal.apply(["terminal"], TerminalColumns(kinds, *columns, genuine, genuine))
    terminal.read("terminal", 0)
    for fold in (card, terminal):
        for entity, _, log in fold.take_changes():
            type(fold)().load(entity, log)


if __name__ == "__main__":
    compile_fold()
