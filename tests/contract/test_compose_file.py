"""What docker-compose.yml, the Dockerfile and Prometheus' configuration promise, read from the files.

Rule 1. No engine is needed: these tests run everywhere.
Rule 2. A list is derived from the files on both sides; no service is named twice.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.services import PRODUCER_PORT
from cli.services import SERVICES as SERVICES_OF_THE_RUNNER
from tests.contract.generated_docs import settings_classes

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PACKAGES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
    "wheel"
]["packages"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
COMPLETING = sorted(
    name
    for service in SERVICES.values()
    for name, needed in service.get("depends_on", {}).items()
    if needed["condition"] == "service_completed_successfully"
)

every_service = pytest.mark.parametrize("service", [pytest.param(s, id=name) for name, s in SERVICES.items()])
every_long_running_service = pytest.mark.parametrize(
    "service", [pytest.param(s, id=name) for name, s in SERVICES.items() if name not in COMPLETING]
)


@every_service
def test_service_runs_without_root_capabilities_or_a_writable_root_file_system(service: dict[str, Any]) -> None:
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "cap_add" not in service


@every_service
def test_ports_are_on_the_loopback_address_and_each_has_a_variable(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{PORT_[A-Z]+:-\d+\}:\d+", port), port


def test_no_two_services_publish_under_the_same_variable_or_port() -> None:
    published = [
        port.split("${")[1].split("}")[0] for service in SERVICES.values() for port in service.get("ports", [])
    ]
    variables, numbers = zip(*(entry.split(":-") for entry in published), strict=True)
    assert len(set(variables)) == len(set(numbers)) == len(published)


@every_service
def test_image_is_pinned_to_a_version(service: dict[str, Any]) -> None:
    tag = service["image"].partition(":")[2]
    assert re.search(r"\d+\.\d+", tag), service["image"]


@every_long_running_service
def test_service_has_a_bounded_health_check_and_is_started_again(service: dict[str, Any]) -> None:
    check = service["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()
    assert service["restart"] in ("unless-stopped", "on-failure")
    assert service["stop_grace_period"]


@every_service
def test_what_a_service_needs_is_waited_for_by_a_condition(service: dict[str, Any]) -> None:
    for name, needed in service.get("depends_on", {}).items():
        completes = name in COMPLETING
        assert needed["condition"] == ("service_completed_successfully" if completes else "service_healthy")


def test_every_named_volume_is_declared_and_used() -> None:
    used = {
        v.split(":")[0]
        for service in SERVICES.values()
        for v in service.get("volumes", [])
        if not v.startswith((".", "/"))
    }
    assert used == set(COMPOSE["volumes"])


def test_every_file_that_a_service_mounts_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists(), volume
                assert volume.endswith(":ro"), volume


def test_every_fraud_variable_is_a_settings_field() -> None:
    variables = {
        name for service in SERVICES.values() for name in service.get("environment", {}) if name.startswith("FRAUD_")
    } | set(re.findall(r"\$\{(FRAUD_[A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    assert "FRAUD_KAFKA_BOOTSTRAP" in variables
    assert variables <= {
        f"FRAUD_{field.upper()}" for settings in settings_classes().values() for field in settings.model_fields
    }


def test_prometheus_scrapes_every_service_at_its_metrics_port() -> None:
    served = {
        f"{name}:{service['environment']['FRAUD_METRICS_PORT']}"
        for name, service in SERVICES.items()
        if "FRAUD_METRICS_PORT" in service.get("environment", {})
    }
    assert {target.split(":")[0] for target in served} == set(OURS) - set(COMPLETING)
    assert served <= set(_targets("prometheus.yml"))


def test_local_prometheus_scrapes_the_same_services_at_the_same_ports() -> None:
    local, compose = _targets("local.yml"), _targets("prometheus.yml")
    assert list(local.values()) == list(compose.values())
    assert [target.split(":")[1] for target in local] == [target.split(":")[1] for target in compose]


def test_local_prometheus_scrapes_every_service_that_the_runner_starts() -> None:
    started = {service.name: f"127.0.0.1:{service.port}" for service in SERVICES_OF_THE_RUNNER}
    started["producer"] = f"127.0.0.1:{PRODUCER_PORT}"
    targets = {job: target for target, job in _targets("local.yml").items()}
    assert started.items() <= targets.items()


@pytest.mark.parametrize("name", OURS)
def test_our_image_installs_a_dependency_group_that_exists(name: str) -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    assert SERVICES[name]["build"]["args"]["GROUP"] in groups


@pytest.mark.parametrize("name", OURS)
def test_our_service_runs_a_module_that_exists(name: str) -> None:
    python, dash_m, module, *_ = SERVICES[name]["command"]
    assert (python, dash_m) == ("python", "-m")
    assert module.split(".")[0] in PACKAGES
    assert importlib.util.find_spec(module) is not None


def test_dockerfile_builds_without_buildkit_and_without_another_registry() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert not [line for line in lines if line.lower().startswith("# syntax=")]
    assert not [
        line for line in lines if "--link" in line or "<<" in line or "COPY --from=" in line or "--mount" in line
    ]


def test_build_context_holds_every_package_and_no_state() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept >= set(PACKAGES) | {"pyproject.toml", "requirements.lock", "README.md"}
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def _targets(file: str) -> dict[str, str]:
    """Target -> job of a Prometheus configuration, in its order."""
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus" / file).read_text())
    return {
        target: job["job_name"]
        for job in config["scrape_configs"]
        for s in job["static_configs"]
        for target in s["targets"]
    }
