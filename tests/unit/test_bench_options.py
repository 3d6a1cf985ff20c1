"""Options of `fraudstream bench` that cannot be are refused before anything is started, by name and with what can be."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from benchmarks.harness.__main__ import app
from benchmarks.harness.environments import POM, REQUIREMENTS
from benchmarks.harness.peers import PEERS, PEERS_FOLDER


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["latency", "--rates", "fast"], "--rates 'fast'"),
        (["latency", "--rates", "0"], "--rates '0'"),
        (["hold", "--rates", "20,000x"], "--rates '20,000x'"),
        (["throughput", "--peers", "flink"], "there is no peer 'flink'; there are: faust"),
        (["throughput", "--seconds", "0"], "--seconds"),
        (["throughput", "--rounds", "0"], "--rounds"),
        (["train", "--days", "7"], "--days"),
    ],
)
def test_an_impossible_option_is_refused_by_name(arguments: list[str], named: str) -> None:
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2
    assert named in told.stderr


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_peer_has_its_program_its_requirements_and_its_fairness(peer) -> None:
    folder = PEERS_FOLDER / peer.folder
    assert "Fairness" in (folder / "README.md").read_text()
    if (folder / POM).exists():
        assert (folder / "src/main/java/peer/App.java").exists()
        pinned = re.findall("<version>(.*?)</version>", (folder / POM).read_text())
        assert all(re.fullmatch(r"[\d.]+", version) for version in pinned), pinned
        assert "xgboost4j" in (folder / POM).read_text()
        return
    assert (folder / "app.py").exists()
    lines = (folder / REQUIREMENTS).read_text().split()
    assert all("==" in line or "<" in line for line in lines), lines
    assert any(line.startswith("xgboost") for line in lines)
