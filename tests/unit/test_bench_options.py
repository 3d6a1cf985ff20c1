"""Options of `fraudstream bench` that cannot be are refused before anything is started, by name and with what can be."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from benchmarks.harness.__main__ import app
from benchmarks.harness.peers import PEERS, PEERS_FOLDER


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["latency", "--rates", "fast"], "--rates 'fast'"),
        (["latency", "--rates", "0"], "--rates '0'"),
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
    assert (folder / "app.py").exists()
    assert "Fairness" in (folder / "README.md").read_text()
    pinned = (folder / "requirements.txt").read_text().split()
    assert all("==" in line or "<" in line for line in pinned), pinned
    assert any(line.startswith("xgboost") for line in pinned)
