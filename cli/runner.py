"""The runner: one process that starts Kafka, Redis and the services, keeps them running, and ends them in order.

Rule 1. Order: Redis, Kafka, topics, services; the other way round at the end, within STOP_S_MAX in all.
Rule 2. What it does is written to stack.json as it happens; what it says goes to one line each.
Rule 3. The first SIGTERM or SIGINT ends the stack; further ones change nothing, for the end is bounded.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from types import FrameType
from typing import Final

from kafka.errors import KafkaError

from adapters import backends
from adapters.backends.child import Child, Identity, rotate
from adapters.backends.docker_server import DockerServer
from adapters.backends.server import Say, Server
from adapters.init_topics import made_topics
from adapters.kafka_admin import TopicMismatchError
from adapters.ports import LOOPBACK, free_port_near
from adapters.settings import StackSettings
from cli.failure import CommandError
from cli.restart_policy import RestartPolicy, Verdict, how_it_ended, verdict_of
from cli.service_pages import unready_because
from cli.services import KAFKA_PORT, REDIS_PORT, SERVICES, Service, services_with, with_code_on_path
from cli.stack_state import Process, ServerState, ServiceStatus, StackFolder, StackState

READY_S_MAX: Final = 180.0
STOP_S_MAX: Final = 11.0
STOP_EACH_S_MAX: Final = 5.0
PORT_MAX: Final = 65_535
_TURN_S: Final = 0.25
_LOOK_EVERY_S: Final = {True: 2.0, False: 0.5}  # whether the service is ready
_LOG_LINES: Final = 20


class StopAskedError(BaseException):
    """SIGTERM or SIGINT came: whatever is being done ends here."""


_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


def ignore_signals() -> None:
    """From here on SIGTERM and SIGINT change nothing: the end has begun."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into StopAskedError."""

    def asked(number: int, frame: FrameType | None) -> None:
        ignore_signals()
        raise StopAskedError

    before = [signal.signal(number, asked) for number in _ENDING]
    try:
        yield
    finally:
        for number, handler in zip(_ENDING, before, strict=True):
            signal.signal(number, handler)


class Supervised:
    """A service, its process and its restarts."""

    def __init__(self, service: Service, child: Child, status: ServiceStatus, clock: Callable[[], float]) -> None:
        self.service = service
        self.child = child
        self.status = status
        self._clock = clock
        self._policy = RestartPolicy()
        self._due_s: float | None = None
        self._looked_s = float("-inf")

    def start(self) -> None:
        """Start the process."""
        self._due_s = None
        self.child.start()
        self.status.process = _process(self.child.identity)
        self.status.state = "starting"

    def step(self, say: Say) -> None:
        """Notice that it ended, or start it again when that is due. Raises CommandError when nothing can go on."""
        if self._due_s is not None:
            if self._clock() >= self._due_s:
                self.status.restarts += 1
                self.start()
            return
        code = self.child.exit_code()
        if code is None or self.status.state == "stopped":
            return
        verdict = verdict_of(code)
        self.status.process = None
        if verdict is Verdict.STOP_ALL:
            raise CommandError(self._told(code, "it cannot run like this"), 2)
        delay_s = self._policy.delay_s(self._clock()) if verdict is Verdict.RESTART else None
        if delay_s is None:
            why = "too many restarts" if verdict is Verdict.RESTART else "a restart would not heal that"
            self.status.state = "stopped"
            self.status.detail = f"{how_it_ended(code)}, given up: {why}"
            say(self._told(code, f"given up: {why}"))
            return
        self._due_s = self._clock() + delay_s
        self.status.state = "restarting"
        self.status.detail = how_it_ended(code)
        say(f"{self.service.name} {how_it_ended(code)}: again in {delay_s:.1f} s")

    def look(self) -> None:
        """Ask the service how it is."""
        now_s = self._clock()
        wait_s = _LOOK_EVERY_S[self.status.state == "ready"]
        if self.status.state in ("restarting", "stopped") or now_s - self._looked_s < wait_s:
            return
        self._looked_s = now_s
        reason = unready_because(self.status.port)
        self.status.detail = reason or ""
        if reason is None:
            self.status.state = "ready"
        elif self.status.state == "ready":
            self.status.state = "unready"

    def _told(self, code: int, verdict: str) -> str:
        told = "\n  ".join(self.child.last_lines(_LOG_LINES))
        return f"{self.service.name} {how_it_ended(code)}, {verdict}; its log is {self.child.log}, its last lines:\n  {told}"


class Runner:
    """The stack of one state folder."""

    def __init__(
        self,
        settings: StackSettings,
        say: Say,
        services: Sequence[Service] = SERVICES,
        clock: Callable[[], float] = time.monotonic,
        before_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._before_end = before_end
        self._say = say
        self._services = services
        self._clock = clock
        self.folder = StackFolder(settings.state_dir.resolve())
        self.state = StackState(
            _process(Identity.of(os.getpid())) or Process(os.getpid(), 0), partitions=settings.partitions
        )
        self._servers: dict[str, tuple[Server, RestartPolicy]] = {}
        self._supervised: list[Supervised] = []
        self._web_ports: dict[str, int] = {}

    def run(self) -> int:
        """Run until asked to stop; return the exit code: 0 asked to, 1 or 2 could not go on."""
        code = 0
        try:
            self._save()
            self._start()
            while True:
                self._step()
                time.sleep(_TURN_S)
        except StopAskedError:
            pass
        except (backends.BackendMissingError, backends.BackendFailedError, TopicMismatchError, OSError) as error:
            code, self.state.detail = 2, str(error)
        except KafkaError as error:
            code, self.state.detail = 1, f"Kafka does not take the topics: {error!r}"
        except CommandError as error:
            code, self.state.detail = error.code, str(error)
        finally:
            self._stop()
        self.state.phase = "failed" if code else "stopped"
        self._save()
        if code:
            self._say(f"fraudstream stopped: {self.state.detail}")
        return code

    def _save(self) -> None:
        self.folder.write(self.state)

    def _start(self) -> None:
        kafka_log, redis_log = self.folder.logs / "kafka.log", self.folder.logs / "redis.log"
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        for log in (kafka_log, redis_log):
            rotate(log)
        data = self.folder.path
        self._start_server(
            "redis", backends.redis(data / "redis", REDIS_PORT, log=redis_log, say=self._say), REDIS_PORT
        )
        self._start_server(
            "kafka", backends.kafka(data / "kafka", KAFKA_PORT, log=kafka_log, say=self._say), KAFKA_PORT
        )
        made = made_topics(self._servers["kafka"][0].address, self._settings.partitions, 30)
        self._say(f"topics: {len(made)} made" if made else "topics: all there")
        self._choose_web_ports()
        self.folder.write_env(self._stack_env())
        for service in self._services:
            self._start_service(service)
        self._save()
        self._await_ready()

    def _start_server(self, name: str, server: Server, preferred: int) -> None:
        if server.port != preferred and "given by" not in server.description:
            self._say(f"port {preferred} is taken: {name} listens on {server.port}")
        self._say(f"{name}: {server.description}, at {server.address.rpartition('@')[2]}")
        self._servers[name] = (server, RestartPolicy())
        server.start()
        self.state.servers[name] = _state_of(server)
        self._save()

    def _stack_env(self) -> dict[str, str]:
        return {
            "FRAUD_KAFKA_BOOTSTRAP": self._servers["kafka"][0].address,
            "FRAUD_REDIS_URL": self._servers["redis"][0].address,
            "FRAUD_PARTITIONS": str(self._settings.partitions),
            **{setting: str(port) for setting, port in self._web_ports.items()},
        }

    def _choose_web_ports(self) -> None:
        """A free port for every service that people reach: the environment's, else its own, else any."""
        for service in self._services:
            if service.answers_on is None:
                continue
            setting, preferred = service.answers_on
            asked = os.environ.get(setting, "")
            if asked and not (asked.isdecimal() and int(asked) <= PORT_MAX):
                raise CommandError(f"{setting} is {asked!r}: a port from 0 to {PORT_MAX} is needed, 0 for any", 2)
            wanted = int(asked) if asked else preferred
            port = free_port_near(wanted)
            if port != wanted and wanted:
                self._say(f"port {wanted} is taken: {service.name} answers on {port}")
            self._web_ports[setting] = port

    def _start_service(self, service: Service) -> None:
        port = free_port_near(service.port)
        if port != service.port:
            self._say(f"port {service.port} is taken: {service.name} shows its metrics on {port}")
        log = self.folder.logs / f"{service.name}.log"
        rotate(log)
        environment = {
            **with_code_on_path(),
            **self._stack_env(),
            "FRAUD_STATE_DIR": str(self.folder.path),
            "FRAUD_METRICS_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
            **dict(service.environment),
        }
        child = Child(
            service.name,
            service.command,
            log,
            environment=environment,
            niceness=service.niceness,
        )
        status = ServiceStatus(port, str(log))
        if service.answers_on is not None:
            status.address = f"http://{LOOPBACK}:{self._web_ports[service.answers_on[0]]}"
        supervised = Supervised(service, child, status, self._clock)
        self.state.services[service.name] = status
        self._supervised.append(supervised)
        supervised.start()

    def _await_ready(self) -> None:
        began_s = self._clock()
        waiting = {one.service.name: one for one in self._supervised}
        while waiting:
            self._step()
            for name, one in list(waiting.items()):
                if one.status.state == "ready":
                    del waiting[name]
                    self._say(f"{name}: ready after {self._clock() - began_s:.0f} s, {one.status.where()}")
                elif one.status.state == "stopped":
                    raise CommandError(f"{name} {one.status.detail} (its log is {one.status.log})")
            if waiting and self._clock() - began_s > READY_S_MAX:
                reasons = "; ".join(
                    f"{name}: {one.status.detail} (log {one.status.log})" for name, one in waiting.items()
                )
                raise CommandError(f"not ready within {READY_S_MAX:.0f} s: {reasons}")
            time.sleep(_TURN_S if waiting else 0)
        self.state.phase = "ready"
        self._save()
        self._say("fraudstream is up")

    def _step(self) -> None:
        for name, (server, policy) in self._servers.items():
            if not self._keeps_running(name, server, policy):
                raise CommandError(f"{name} ended again and again: see {self.folder.logs / name}.log")
        before = [(one.status.state, one.status.restarts) for one in self._supervised]
        for one in self._supervised:
            one.step(self._say)
            one.look()
        if before != [(one.status.state, one.status.restarts) for one in self._supervised]:
            self._save()

    def _keeps_running(self, name: str, server: Server, policy: RestartPolicy) -> bool:
        process = self.state.servers[name].process
        if process is None or server.alive():
            return True  # what is not our process is the services' own matter: they say when it is away
        if policy.delay_s(self._clock()) is None:
            return False
        self._say(f"{name} ended: starting it again at {server.address.rpartition('@')[2]}")
        server.start()
        self.state.servers[name].process = _process_of(server)
        self._save()
        return True

    def _stop(self) -> None:
        self._before_end()
        self._say("stopping")
        self.state.phase = "stopping"
        self._save()
        self.folder.remove_env()
        deadline_s = self._clock() + STOP_S_MAX
        ordered = sorted(self._supervised, key=lambda one: one.service.ends_with)
        for _, group in groupby(ordered, key=lambda one: one.service.ends_with):
            self._stop_together(list(group), deadline_s)
        for name in ("kafka", "redis"):
            if name in self._servers:
                self._servers[name][0].stop(self._seconds_for_one(deadline_s))
        for status in self.state.services.values():
            status.process, status.state = None, "stopped"
        self.state.servers.clear()

    def _stop_together(self, group: Sequence[Supervised], deadline_s: float) -> None:
        for one in group:
            one.child.ask_to_end()
        for one in group:
            if not one.child.stop(self._seconds_for_one(deadline_s)):
                self._say(f"{one.service.name} did not end in time: killed")

    def _seconds_for_one(self, deadline_s: float) -> float:
        return max(0.5, min(STOP_EACH_S_MAX, deadline_s - self._clock()))


def _process(identity: Identity | None) -> Process | None:
    return None if identity is None else Process(identity.pid, identity.started_at)


def _state_of(server: Server) -> ServerState:
    container = server.name if isinstance(server, DockerServer) else None
    return ServerState(server.address, server.description, _process_of(server), container)


def _process_of(server: Server) -> Process | None:
    child = getattr(server, "child", None)
    return _process(child.identity) if isinstance(child, Child) else None


def run_stack(settings: StackSettings, say: Say) -> int:
    """Run the stack of the settings' folder in this process until it is asked to stop; return the exit code."""
    folder = StackFolder(settings.state_dir.resolve())
    with folder.locked() as free:
        if not free:
            say(f"another fraudstream is starting or running in {folder.path}: see `fraudstream status`")
            return 1
        with stop_on_signals():
            services = services_with(settings.feature_workers, settings.partitions)
            return Runner(settings, say, services, before_end=ignore_signals).run()


def main() -> int:
    """The background runner: what it says goes to standard output, which is its log."""
    return run_stack(StackSettings.read(), lambda line: print(line, flush=True))


if __name__ == "__main__":
    sys.exit(main())
