"""Prometheus' rules: they use the catalogue's names, each alert has its section in the runbook, and promtool proves both ways.

Rule 1. The checkers are checked: rules that never fire, and rules that always do, must fail the tests of every alert.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from fraud.features import VIEWS
from tests.conftest import missing
from tests.contract.names_in_queries import DASHBOARDS, PROMETHEUS, ROOT, RUNBOOK, names_in, rules, unknown

ALERTS = [rule for rule in rules() if "alert" in rule]
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL))
every_alert = pytest.mark.parametrize("alert", [pytest.param(a, id=a["alert"]) for a in ALERTS])


@pytest.mark.parametrize("rule", [pytest.param(r, id=r.get("alert") or r["record"]) for r in rules()])
def test_rule_uses_only_names_of_the_catalogue_and_recorded_ones(rule: dict[str, Any]) -> None:
    assert unknown(rule["expr"]) == set()


DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *DASHBOARDS.glob("*.json")])
# Other things whose names begin alike: an aggregate (fraud_count), and a setting of the world.
NO_METRICS = {aggregate.name for view in VIEWS for aggregate in view.aggregates} | {"fraud_moves_day"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_and_dashboards_name_only_metrics_that_exist(path: Path) -> None:
    assert unknown(path.read_text()) - NO_METRICS == set()


def test_a_metric_that_does_not_exist_is_found() -> None:
    assert unknown('rate(fraud_nothing_total[5m]) / stage:fraud_lag_seconds:max + a:fraud_b:c + up{job="fraud"}') == {
        "fraud_nothing_total",
        "a:fraud_b:c",
    }
    assert names_in("fraud_event_to_score_seconds_bucket") == {"fraud_event_to_score_seconds_bucket"}


@every_alert
def test_alert_has_a_severity_and_its_section_of_the_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket", "none")
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{alert['alert'].lower()}"
    assert re.findall(r"^\*\*(\w+)\.\*\*", SECTIONS[alert["alert"]], re.MULTILINE) == ["Meaning", "Check", "Action"]


def test_the_runbook_has_no_section_without_an_alert_and_no_broken_link() -> None:
    assert list(SECTIONS) == [alert["alert"] for alert in ALERTS]
    anchors = set(re.findall(r"\(#(\w+)\)", RUNBOOK.read_text()))
    assert anchors <= {name.lower() for name in SECTIONS}


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which(name) is None:
        missing("promtool", f"{name} is not installed (Debian: apt-get install prometheus prometheus-alertmanager)")
    return subprocess.run([name, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=120)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return tool("promtool", *arguments)


@pytest.mark.parametrize("name", ["prometheus.yml", "local.yml"])
def test_promtool_accepts_the_configuration_with_its_rules(name: str) -> None:
    checked = promtool("check", "config", PROMETHEUS / name)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "2 rule files found" in checked.stdout


def test_every_alert_fires_and_stays_silent_as_its_tests_say() -> None:
    tested = promtool("test", "rules", *sorted((PROMETHEUS / "tests").glob("*.yml")))
    assert tested.returncode == 0, tested.stdout + tested.stderr


def failed_alerts(folder: Path, expression: str) -> set[str]:
    """The alerts whose promtool tests fail when every alert has this expression."""
    (folder / "rules").mkdir()
    (folder / "tests").mkdir()
    for file in (PROMETHEUS / "rules").glob("*.yml"):
        content = yaml.safe_load(file.read_text())
        for rule in (rule for group in content["groups"] for rule in group["rules"] if "alert" in rule):
            rule["expr"] = expression
        (folder / "rules" / file.name).write_text(yaml.safe_dump(content))
    for file in (PROMETHEUS / "tests").glob("*.yml"):
        shutil.copy(file, folder / "tests")
    tested = promtool("test", "rules", *sorted((folder / "tests").glob("*.yml")))
    assert tested.returncode == 1, tested.stdout + tested.stderr
    return set(re.findall(r"alertname: (\w+)", tested.stdout + tested.stderr))


@pytest.mark.parametrize(("expression", "found"), [
    ("vector(1) == 0", {a["alert"] for a in ALERTS}),
    ("vector(1)", {a["alert"] for a in ALERTS} - {"DeadMansSwitch"}),
])  # fmt: skip
def test_an_alert_that_never_fires_and_one_that_always_does_fail_their_tests(
    expression: str, found: set[str], tmp_path: Path
) -> None:
    assert failed_alerts(tmp_path, expression) == found


ALERTMANAGER = ROOT / "monitoring" / "alertmanager" / "alertmanager.yml"


def test_amtool_accepts_alertmanagers_configuration() -> None:
    checked = tool("amtool", "check-config", ALERTMANAGER)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@every_alert
def test_each_alert_has_somebody_who_hears_it(alert: dict[str, Any]) -> None:
    labels = [f"alertname={alert['alert']}", f"severity={alert['labels']['severity']}"]
    routed = tool("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels)
    expected = "dead-mans-switch" if alert["labels"]["severity"] == "none" else "people"
    assert routed.stdout.strip() == expected, routed.stderr


def test_an_alert_that_silences_others_and_those_it_silences_exist() -> None:
    names = set(re.findall(r'alertname=~?"([^"]+)"', ALERTMANAGER.read_text()))
    assert {name for each in names for name in each.split("|")} <= {alert["alert"] for alert in ALERTS}
