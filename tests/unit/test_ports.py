"""Choosing ports."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from adapters import ports
from adapters.ports import CHOSEN_FROM, LOOPBACK, free_port_near, free_ports, is_free

# Another process: chooses near the given port, tells which, and keeps it until its standard input ends.
_CHOOSES = """
import sys
from pathlib import Path
from adapters import ports
ports.LOCKS = Path(sys.argv[1])
print(ports.free_port_near(int(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(ports, "_kept", {})


def another_process(folder: Path, preferred: int) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", _CHOOSES, str(folder / "locks"), str(preferred)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_free_ports_are_different_and_lie_below_those_of_outgoing_connections() -> None:
    found = free_ports(20)
    assert len(set(found)) == 20
    assert all(port in CHOSEN_FROM and is_free(port) for port in found)


def test_a_port_that_somebody_listens_on_is_not_chosen() -> None:
    (wanted,) = free_ports(1)
    with socket.create_server((LOOPBACK, wanted)):
        assert free_port_near(wanted) != wanted
    assert free_port_near(wanted) == wanted


def test_a_port_that_another_process_has_chosen_is_left_to_it_until_it_ends(tmp_path: Path) -> None:
    (wanted,) = free_ports(1)
    other, chosen = another_process(tmp_path, wanted)
    try:
        assert chosen == wanted
        assert is_free(wanted)  # it does not listen yet: only the lock tells
        assert free_port_near(wanted) != wanted
    finally:
        other.kill()
        other.wait()
    assert free_port_near(wanted) == wanted


def test_the_process_that_chose_a_port_may_choose_it_again() -> None:
    (wanted,) = free_ports(1)
    assert free_port_near(wanted) == free_port_near(wanted) == wanted


def test_without_a_folder_for_locks_a_free_port_is_chosen_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(ports, "LOCKS", tmp_path / "file" / "locks")
    (wanted,) = free_ports(1)
    assert free_port_near(wanted) == wanted
