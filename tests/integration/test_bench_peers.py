"""The peers with an engine of their own compute what ours does: the check that the harness makes before it times anything.

Rule 1. A peer whose environment cannot be made here (no registry, no JDK) is skipped with the reason.
Rule 2. Environments are kept in the user's cache, by content: a second run makes none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.backends import BackendMissingError
from benchmarks.harness import agreed, equal
from benchmarks.harness.environments import PeerMissingError, program_of
from benchmarks.harness.loader import Loader
from benchmarks.harness.peers import PeerStack
from benchmarks.harness.servers import Servers, running_servers
from benchmarks.harness.session import peers_named
from tests.conftest import missing

pytestmark = pytest.mark.timeout(900)
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fraudstream" / "peers"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    try:
        with running_servers(tmp_path_factory.mktemp("peers") / "run", 1, print) as started:
            yield started
    except BackendMissingError as error:
        missing("kafka", str(error))


@pytest.fixture(scope="module")
def model() -> agreed.AgreedModel:
    return agreed.fitted(8_000, rounds=40)


@pytest.mark.parametrize("name", ["bytewax", "kafka-streams"])
def test_a_peer_gives_our_features_and_the_forests_scores(
    name: str, servers: Servers, model: agreed.AgreedModel
) -> None:
    (peer,) = peers_named([name])
    try:
        program = program_of(peer, CACHE, print)
    except PeerMissingError as error:
        missing("peers", str(error))
    forest = servers.folder / "forest.ubj"
    forest.write_bytes(model.agreed)
    with Loader(servers.kafka.address, 1_000, servers.folder / "logs" / "load.log") as loader:
        stack = PeerStack(peer, servers, program, forest)
        assert equal.check_peer(stack, loader, servers.kafka.address, model) == equal.CHECK_ROWS
