"""The front door: its help, what it passes on, and what it says when nothing runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters.ports import free_ports
from cli.__main__ import PASSED_ON, app
from cli.services import CODE_FOLDER
from fraud.switches import SWITCHES


def fraudstream(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does, in a folder of its own, with nothing running."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        check=False,
        cwd=folder,
        env={**clean, "PYTHONPATH": str(CODE_FOLDER), "COLUMNS": "200", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_switch_that_there_is_not_is_an_error_that_lists_those_that_there_are(tmp_path: Path) -> None:
    done = fraudstream(tmp_path, "break", "on", "event-tim")
    assert done.returncode == 2
    assert "'event-tim'" in done.stderr
    assert all(switch.name in done.stderr for switch in SWITCHES)


def test_help_names_every_command_with_a_line() -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}, prog_name="fraudstream").output
    own = ("up", "down", "status", "demo", "retrain", "score", "alerts", "models", "topics", "dlq", "break")
    for name in (*own, *PASSED_ON):
        lines = [line for line in shown.splitlines() if line.strip("│ ").startswith(f"{name} ")]
        assert lines, name
        assert len(lines[0].strip("│ ").split()) > 3, name


@pytest.mark.parametrize("command", sorted(PASSED_ON))
def test_a_services_command_is_the_services_own(command: str, tmp_path: Path) -> None:
    module, name, _ = PASSED_ON[command]
    done = fraudstream(tmp_path, command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"python -m {module} {name}" in " ".join(done.stdout.split())


def test_exit_codes_of_services_are_passed_on(tmp_path: Path) -> None:
    done = fraudstream(tmp_path, "parity")
    assert done.returncode == 2
    assert "--all or --sample" in done.stderr


def test_status_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    done = fraudstream(tmp_path, "status")
    assert done.returncode == 1
    assert "`fraudstream up` starts it" in done.stdout
    assert json.loads(fraudstream(tmp_path, "status", "--json").stdout)["running"] is False


def test_down_without_a_stack_is_no_error(tmp_path: Path) -> None:
    done = fraudstream(tmp_path, "down")
    assert done.returncode == 0
    assert "nothing runs" in done.stdout


def test_models_list_without_a_model_says_how_to_get_one(tmp_path: Path) -> None:
    done = fraudstream(tmp_path, "models", "list")
    assert done.returncode == 0
    assert "fraudstream retrain" in done.stdout
    assert json.loads(fraudstream(tmp_path, "models", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    "command",
    [("break", "list"), ("alerts", "watch"), ("topics", "tail", "alerts"), ("dlq", "list"), ("retrain",)],
    ids=" ".join,
)
def test_without_a_stack_there_is_a_remedy_and_no_traceback(command: tuple[str, ...], tmp_path: Path) -> None:
    kafka, redis = free_ports(2)
    addresses = {"FRAUD_KAFKA_BOOTSTRAP": f"127.0.0.1:{kafka}", "FRAUD_REDIS_URL": f"redis://127.0.0.1:{redis}/0"}
    done = fraudstream(tmp_path, *command, **addresses)
    assert done.returncode == 1
    assert "fraudstream" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_topic_that_does_not_exist_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = fraudstream(tmp_path, "topics", "tail", "payments")
    assert done.returncode == 2
    assert "transactions" in done.stderr


def test_an_impossible_setting_is_named(tmp_path: Path) -> None:
    done = fraudstream(tmp_path, "status", FRAUD_PARTITIONS="none")
    assert done.returncode != 0
    assert "FRAUD_PARTITIONS" in done.stderr
    assert "Traceback" not in done.stderr


def test_up_in_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = fraudstream(tmp_path, "up", FRAUD_STATE_DIR=str(tmp_path / "file" / "state"))
    assert done.returncode == 2
    assert "FRAUD_STATE_DIR" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("nowhere.jsonl",), 2, "nowhere.jsonl cannot be read"),
        (("-",), 1, "no stack runs"),
        (("-", "--api", "8090"), 2, "http://127.0.0.1:8090 is needed"),
    ],
)
def test_score_says_what_it_lacks(tmp_path: Path, arguments: tuple[str, ...], code: int, told: str) -> None:
    done = fraudstream(tmp_path, "score", *arguments)
    assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_score_says_that_nobody_answers_at_the_address(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text("{}\n")
    done = fraudstream(tmp_path, "score", "one.jsonl", "--api", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
