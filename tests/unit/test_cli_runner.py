"""The local runner without Kafka: restarts, giving up, order of the end, recycled pids, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.backends.child import Child, Identity, polled, rotate
from adapters.ports import is_free
from adapters.settings import StackSettings
from cli import preflight, runner
from cli.background_stack import LineReader
from cli.failure import CommandError
from cli.preflight import check_folder, end_leftovers
from cli.restart_policy import RESTARTS_MAX, WINDOW_S, RestartPolicy
from cli.runner import Runner, StopAskedError, Supervised
from cli.services import SERVICES, Service
from cli.stack_state import Process, ServerState, ServiceStatus, StackFolder, StackState

WAIT_S = 20.0
NOBODY = 2**22 + 1  # above the kernel's largest pid


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def eventually(condition: Callable[[], bool]) -> bool:
    return any(condition() for _ in polled(WAIT_S, 0.02))


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[[str, Clock], Supervised]]:
    """Makes a started service whose program is the given Python code."""
    made: list[Supervised] = []

    def make(code: str, clock: Clock) -> Supervised:
        log = tmp_path / f"service{len(made)}.log"
        child = Child("service", [sys.executable, "-c", code], log)
        supervised = Supervised(Service("service", (), 0, 1), child, ServiceStatus(NOBODY, str(log)), clock)
        made.append(supervised)
        supervised.start()
        return supervised

    yield make
    for one in made:
        one.child.kill()


def ended(one: Supervised) -> bool:
    return one.child.exit_code() is not None


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not group processes by session")
@pytest.mark.parametrize(("niceness", "shown"), [(7, "nice 7"), (0, "nice 0")])
def test_a_niced_service_is_niced_as_a_session_too(tmp_path: Path, niceness: int, shown: str) -> None:
    child = Child(
        "service", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "log", niceness=niceness
    )
    child.start()
    try:
        assert child.identity is not None
        group = Path(f"/proc/{child.identity.pid}/autogroup")
        assert eventually(lambda: group.read_text().endswith(f"{shown}\n")), group.read_text()
    finally:
        child.kill()


def test_restarts_wait_longer_each_time_and_are_bounded() -> None:
    policy = RestartPolicy()
    delays = [policy.delay_s(float(number)) for number in range(RESTARTS_MAX)]
    assert delays[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert max(filter(None, delays)) == 10.0
    assert policy.delay_s(RESTARTS_MAX) is None


def test_restarts_of_long_ago_are_forgotten() -> None:
    policy = RestartPolicy()
    for _ in range(RESTARTS_MAX):
        policy.delay_s(0.0)
    assert policy.delay_s(WINDOW_S - 1) is None
    assert policy.delay_s(WINDOW_S) == 0.5


@pytest.mark.parametrize("end", ["raise SystemExit(70)", "import os; os.kill(os.getpid(), 9)"])
def test_a_service_that_a_restart_heals_is_started_again_after_its_delay(
    end: str, supervise: Callable[[str, Clock], Supervised]
) -> None:
    clock = Clock()
    said: list[str] = []
    one = supervise(end, clock)
    first = one.child.identity
    assert eventually(lambda: ended(one))
    one.step(said.append)
    assert one.status.state == "restarting"
    one.step(said.append)
    assert one.status.restarts == 0, "the delay is not over"
    clock.now_s += 0.5
    one.step(said.append)
    assert (one.status.restarts, one.status.state) == (1, "starting")
    assert one.child.identity != first
    assert len(said) == 1


def test_a_service_that_crashes_again_and_again_is_given_up_with_its_last_lines(
    supervise: Callable[[str, Clock], Supervised],
) -> None:
    clock = Clock()
    said: list[str] = []
    one = supervise("print('the disk is gone'); raise SystemExit(70)", clock)
    while one.status.state != "stopped":
        assert eventually(lambda: ended(one))
        one.step(said.append)
        clock.now_s += 10
        if one.status.state == "restarting":
            one.step(said.append)
    assert one.status.restarts == RESTARTS_MAX
    assert "given up: too many restarts" in said[-1]
    assert "the disk is gone" in said[-1]
    assert one.status.log in said[-1]


def test_an_impossible_setting_stops_everything_and_says_why(supervise: Callable[[str, Clock], Supervised]) -> None:
    one = supervise("print('FRAUD_PARTITIONS: too small'); raise SystemExit(2)", Clock())
    assert eventually(lambda: ended(one))
    with pytest.raises(CommandError, match="FRAUD_PARTITIONS: too small") as error:
        one.step(print)
    assert error.value.code == 2


def test_a_flood_of_dead_letters_leaves_the_service_stopped(supervise: Callable[[str, Clock], Supervised]) -> None:
    said: list[str] = []
    one = supervise("raise SystemExit(1)", Clock())
    assert eventually(lambda: ended(one))
    one.step(said.append)
    one.step(said.append)
    assert one.status.state == "stopped"
    assert len(said) == 1
    assert "a restart would not heal that" in said[0]


class StubServer:
    """A server that is there at once."""

    description = "a stub"

    def __init__(self, name: str, ends: list[str]) -> None:
        self._name = name
        self._ends = ends
        self.address = "127.0.0.1:1"
        self.port = 0

    def start(self) -> None:
        return

    def stop(self, timeout_s: float = 5.0) -> None:
        self._ends.append(self._name)

    def alive(self) -> bool:
        return True


# Notes the moment of its end in a file; `slow` ignores SIGTERM.
_SERVICE = """
import http.server, os, signal, sys, time
name, slow = sys.argv[1:]
def end(*_):
    open(os.environ["ENDS"], "a").write(name + "\\n")
    if slow == "no":
        os._exit(0)
signal.signal(signal.SIGTERM, end)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["FRAUD_METRICS_PORT"])), Handler).serve_forever()
"""


class ServiceOfCode(Service):
    """A service that runs the code above."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", _SERVICE, self.name, *self.arguments]


@pytest.fixture
def stubbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Servers that are stubs; gives the names of those that were ended, in order."""
    ends: list[str] = []
    monkeypatch.setenv("ENDS", str(tmp_path / "ends"))
    monkeypatch.setattr(runner.backends, "kafka", lambda *_, **__: StubServer("kafka", ends))
    monkeypatch.setattr(runner.backends, "redis", lambda *_, **__: StubServer("redis", ends))
    monkeypatch.setattr(runner, "made_topics", lambda *_: [])
    return ends


def settings_in(folder: Path) -> StackSettings:
    return StackSettings(state_dir=folder)  # type: ignore[call-arg]  # the rest has defaults


def stop_when_up(said: list[str]) -> Callable[[str], None]:
    def say(line: str) -> None:
        said.append(line)
        if line == "fraudstream is up":
            raise StopAskedError

    return say


def test_the_stack_ends_in_order_and_a_service_that_will_not_end_is_killed(
    tmp_path: Path, stubbed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "STOP_EACH_S_MAX", 5.0)  # a busy machine takes a second for those that end
    services = [
        ServiceOfCode("features", ("yes",), 0, ends_with=2),
        ServiceOfCode("archiver", ("no",), 0, ends_with=3),
        ServiceOfCode("scorer", ("no",), 0, ends_with=1),
    ]
    said: list[str] = []
    stack = Runner(settings_in(tmp_path), stop_when_up(said), services)
    assert stack.run() == 0
    assert (tmp_path / "ends").read_text().split() == ["scorer", "features", "archiver"]
    assert stubbed == ["kafka", "redis"]
    assert "features did not end in time: killed" in said
    assert stack.state.phase == "stopped"
    assert not (tmp_path / "stack.env").exists()
    assert not any(one.child.alive() for one in stack._supervised)


def test_a_running_stack_is_found_by_a_second_terminal(tmp_path: Path, stubbed: list[str]) -> None:
    folder = StackFolder(tmp_path)
    seen: list[tuple[str, dict[str, str]]] = []

    def say(line: str) -> None:
        if line == "fraudstream is up":
            found = folder.running()
            assert found is not None
            lines = (tmp_path / "stack.env").read_text().splitlines()
            seen.append((found.phase, dict(each.split("=", 1) for each in lines)))
            raise StopAskedError

    assert Runner(settings_in(tmp_path), say, [ServiceOfCode("scorer", ("no",), 0, ends_with=1)]).run() == 0
    assert seen[0][0] == "ready"
    assert seen[0][1] == {
        "FRAUD_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "FRAUD_REDIS_URL": "127.0.0.1:1",
        "FRAUD_PARTITIONS": "1",
    }


def test_a_service_that_cannot_start_fails_the_start_and_everything_ends(tmp_path: Path, stubbed: list[str]) -> None:
    class Broken(Service):
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-c", "print('no such folder'); raise SystemExit(2)"]

    said: list[str] = []
    stack = Runner(settings_in(tmp_path), said.append, [Broken("scorer", (), 0, 1)])
    assert stack.run() == 2
    assert stubbed == ["kafka", "redis"]
    assert "no such folder" in said[-1]
    read = StackFolder(tmp_path).read()
    assert read is not None
    assert read.phase == "failed"
    assert "no such folder" in read.detail


def test_one_folder_has_one_runner(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path)
    with folder.locked() as first, folder.locked() as second:
        assert (first, second) == (True, False)


def left_over(tmp_path: Path, process: Process) -> StackFolder:
    folder = StackFolder(tmp_path)
    status = ServiceStatus(1, "scorer.log", process=process)
    folder.write(
        StackState(Process(NOBODY, 1.0), servers={"kafka": ServerState("a", "b")}, services={"scorer": status})
    )
    return folder


def test_a_process_left_by_a_dead_runner_is_ended_and_said(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        identity = Identity.of(child.pid)
        folder = left_over(tmp_path, Process(identity.pid, identity.started_at))
        said: list[str] = []
        end_leftovers(folder, said.append)
        assert identity.process() is None
        assert said == [f"ended scorer (pid {child.pid}), left over from a runner that died"]
    finally:
        child.kill()


def test_a_recycled_pid_is_nobodys(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        folder = left_over(tmp_path, Process(child.pid, Identity.of(child.pid).started_at - 100))
        said: list[str] = []
        end_leftovers(folder, said.append)
        assert child.poll() is None
        assert said == []
    finally:
        child.kill()
        child.wait()


def test_a_child_ends_when_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the kernel's death signal is Linux's")
    code = (
        "import sys; from pathlib import Path; from adapters.backends.child import Child\n"
        "child = Child('c', [sys.executable, '-c', 'import time; time.sleep(600)'], Path(sys.argv[1]))\n"
        "child.start(); print(child.identity.pid, flush=True); import time; time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        identity = Identity.of(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    assert eventually(lambda: identity.process() is None)


def test_a_full_disk_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10_000_000}))
    with pytest.raises(CommandError, match="FRAUD_STATE_DIR"):
        check_folder(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CommandError, match="FRAUD_STATE_DIR"):
        check_folder(tmp_path / "file" / "state")


def test_a_damaged_state_file_is_no_stack(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"runner": 5')
    assert StackFolder(tmp_path).read() is None


def test_logs_are_rotated_at_the_start(tmp_path: Path) -> None:
    log = tmp_path / "scorer.log"
    for number in range(6):
        rotate(log)
        log.write_text(str(number))
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"scorer.log": "5", "scorer.log.1": "4", "scorer.log.2": "3", "scorer.log.3": "2"}


def test_a_growing_log_is_read_in_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    reader = LineReader(log)
    assert reader.lines() == []
    log.write_text("one\ntw")
    assert reader.lines() == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    assert reader.lines() == ["two"]


def test_services_have_ports_of_their_own_and_end_before_the_servers() -> None:
    assert len({service.port for service in SERVICES}) == len(SERVICES)
    assert [s.name for s in sorted(SERVICES, key=lambda s: s.ends_with)][:2] == ["scorer", "scorer_api"]


def test_a_taken_port_is_not_free() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_the_state_file_can_be_read_by_anybody(tmp_path: Path) -> None:
    StackFolder(tmp_path).write(StackState(Process(os.getpid(), time.time())))
    assert json.loads((tmp_path / "stack.json").read_text())["phase"] == "starting"


def web_ports(tmp_path: Path, said: list[str]) -> dict[str, int]:
    web = Service("web", (), 0, 1, answers_on=("FRAUD_API_PORT", 0))
    made = Runner(StackSettings(state_dir=tmp_path), said.append, [web])
    made._choose_web_ports()
    return made._web_ports


def test_a_service_answers_on_the_port_that_is_asked_for_or_on_a_free_one_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        monkeypatch.setenv("FRAUD_API_PORT", str(taken))
        chosen = web_ports(tmp_path, said)["FRAUD_API_PORT"]
    assert chosen != taken
    assert said == [f"port {taken} is taken: web answers on {chosen}"]
    monkeypatch.setenv("FRAUD_API_PORT", str(chosen))
    assert web_ports(tmp_path, said) == {"FRAUD_API_PORT": chosen}


@pytest.mark.parametrize("port", ["http", "-1", "70000"])
def test_an_impossible_port_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("FRAUD_API_PORT", port)
    with pytest.raises(CommandError, match="FRAUD_API_PORT") as caught:
        web_ports(tmp_path, [])
    assert caught.value.code == 2
