"""`python -m monitoring.grafana`: write dashboards/*.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.grafana.model_and_drift import model_and_drift
from monitoring.grafana.operations import operations
from monitoring.grafana.streaming_against_batch import streaming_against_batch

FOLDER: Final = Path(__file__).parent / "dashboards"


def generated() -> dict[str, str]:
    """Content by file name."""
    made = (operations(), model_and_drift(), streaming_against_batch())
    return {
        f"{str(board.uid).removeprefix('fraudstream-')}.json": json.dumps(
            board, cls=JSONEncoder, indent=1, sort_keys=True
        )
        + "\n"
        for board in made
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in generated().items():
        (FOLDER / name).write_text(content)
        print(FOLDER / name)
