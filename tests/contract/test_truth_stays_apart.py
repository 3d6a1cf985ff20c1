"""The truth about frauds is for the evaluation alone: nothing on the way to a decision, or that trains for it, reads it.

Rule 1. What a service can read is what its code names: the topic's constant, the module of its messages, or its name as
        text. The code of the services on the decision path, and all that they import of ours, is searched for all three.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from fraud import topics

ROOT = Path(__file__).parents[2]
DECISION_PATH = ("stream_features", "scorer", "trainer")
OURS = ("fraud", "adapters", *DECISION_PATH)
NAMES_EVERY_TOPIC = {"fraud.topics", "adapters.kafka", "adapters.init_topics"}  # they make topics, they read none


def module_file(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split("."))
    for each in (path.with_suffix(".py"), path / "__init__.py"):
        if each.exists():
            return each
    return None


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def names_truth(source: str) -> list[str]:
    """How a module names the truth."""
    tree = ast.parse(source)
    found = [f"imports {name}" for name in imported(tree) if name == "fraud.truth" or name.endswith(".TRUTH")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "TRUTH":
            found.append("topics.TRUTH")
        if isinstance(node, ast.Constant) and node.value == topics.TRUTH.name:
            found.append("the topic's name")
    return found


def reachable(service: str) -> dict[str, str]:
    """Every module of ours that a service can import, with its source."""
    todo = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in (ROOT / service).rglob("*.py")]
    sources: dict[str, str] = {}
    while todo:
        name = todo.pop().removesuffix(".__init__")
        file = module_file(name)
        if name in sources or file is None or name.split(".")[0] not in OURS:
            continue
        sources[name] = file.read_text()
        todo += imported(ast.parse(sources[name]))
    return sources


@pytest.mark.parametrize("service", DECISION_PATH)
def test_no_module_that_a_service_of_the_decision_path_can_reach_names_the_truth(service: str) -> None:
    modules = reachable(service)
    assert f"{service}.settings" in modules and "fraud.packed" in modules, "the search itself must find something"
    wrong = {name: how for name, source in modules.items() if (how := names_truth(source))}
    assert not {name: how for name, how in wrong.items() if name not in NAMES_EVERY_TOPIC}


def test_the_archiver_leaves_the_truth_and_the_orders_for_frauds_out_of_the_lake() -> None:
    assert topics.TRUTH not in topics.ARCHIVED and topics.CONTROL not in topics.ARCHIVED
    assert all(topic in topics.ARCHIVED for topic in (topics.TRANSACTIONS, topics.DISPOSITIONS, topics.SCORES))


@pytest.mark.parametrize(
    "source",
    [
        "from fraud.truth import Truth",
        "import fraud.truth",
        "from fraud import truth",
        "from fraud.topics import TRUTH",
        "from fraud import topics\nconsumer.subscribe([topics.TRUTH.name])",
        "consumer.subscribe(['truth'])",
    ],
)
def test_the_search_finds_each_way_to_name_it(source: str) -> None:
    assert names_truth(source)
