"""A peer's environment: made once, and where it cannot be made the message says what is missing.

Rule 1. Java and Maven are stand-ins of a few lines; what they are asked is what is checked.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.harness.environments import PeerMissingError, program_of
from benchmarks.harness.session import peers_named

STREAMS = peers_named(["kafka-streams"])[0]
JAVA = "echo 'openjdk version \"17.0.1\"' >&2"
BUILDS = 'while [ "$1" != --file ]; do shift; done; home=$(dirname "$2"); mkdir "$home/target"; touch "$home/target/peer.jar"'


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def machine(tmp_path: Path, maven: str | None) -> dict[str, str]:
    program(tmp_path / "bin", "java", JAVA)
    if maven is not None:
        program(tmp_path / "bin", "mvn", maven)
    return {"PATH": f"{tmp_path / 'bin'}"}


def test_a_machine_without_java_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PeerMissingError, match="kafka-streams: there is no Java of at least 17"):
        program_of(STREAMS, tmp_path, print, {"PATH": str(tmp_path)})


def test_a_machine_without_maven_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(PeerMissingError, match=r"kafka-streams: there is no Maven \(mvn\) on the PATH"):
        program_of(STREAMS, tmp_path, print, machine(tmp_path, None))


def test_a_build_that_fails_is_told_in_mavens_words_and_tried_again(tmp_path: Path) -> None:
    with pytest.raises(PeerMissingError, match="No compiler is provided"):
        program_of(STREAMS, tmp_path, print, machine(tmp_path, "echo '[ERROR] No compiler is provided'; exit 1"))
    said: list[str] = []
    command = program_of(STREAMS, tmp_path, said.append, machine(tmp_path, BUILDS))
    assert len(said) == 1
    assert Path(command[-1]).exists()


def test_a_jar_is_built_once(tmp_path: Path) -> None:
    said: list[str] = []
    environment = machine(tmp_path, BUILDS)
    first = program_of(STREAMS, tmp_path, said.append, environment)
    assert program_of(STREAMS, tmp_path, said.append, environment) == first
    assert first[0] == str(tmp_path / "bin" / "java")
    assert len(said) == 1
