"""The dashboards: generated from the code, provisioned in compose, and asking the one data source that is there.

Rule 1. What the queries answer is tested on a real Prometheus in tests/integration/test_dashboard_queries.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.grafana.__main__ import FOLDER, generated

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "monitoring" / "grafana"
BOARDS: dict[str, dict[str, Any]] = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_the_committed_files_are_what_the_code_generates() -> None:
    made = generated()
    assert sorted(made) == sorted(BOARDS) == ["model.json", "operations.json", "paths.json"]
    for name, content in made.items():
        assert (FOLDER / name).read_text() == content, f"{name}: run python -m monitoring.grafana"


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_shows_and_asks_the_provisioned_data_source(name: str) -> None:
    sources = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    for panel in panels(BOARDS[name]):
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] in {source["uid"] for source in sources}
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_lies_over_another_or_beyond_the_edge(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


def test_titles_within_a_board_and_uids_are_unique() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS) == 3
    for name, board in BOARDS.items():
        titles = [panel["title"] for panel in panels(board)]
        assert len(titles) == len(set(titles)), name


def test_compose_mounts_the_folder_that_the_provider_reads() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "fraudstream.yml").read_text())["providers"][0]
    mounts = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./monitoring/grafana/dashboards:{provider['options']['path']}:ro" in mounts
