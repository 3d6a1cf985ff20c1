"""The champion's reference, from the registry.

Rule 1. Only a version whose files are whole is used; another version's features are not comparable, and are left out.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import structlog
from msgspec.structs import asdict

from adapters.model_store import ModelStore
from fraud.drift import SCORE, Reference
from fraud.features import FEATURE_HASH, NAMES
from fraud.model import REFERENCE_FILE, REVIEW, Manifest, ModelRefusedError, Promise

log = structlog.get_logger("monitoring.reference")


@dataclass(frozen=True, slots=True)
class Served:
    """The version that decides. learned_to_ms: end of the event times that it has learned from."""

    manifest: Manifest
    folder: Path

    @property
    def version(self) -> str:
        """The version's name."""
        return self.manifest.version

    @property
    def learned_to_ms(self) -> int:
        """End of the event times that it has learned from."""
        return self.manifest.trained_on.to_ms

    def reference(self) -> Reference:
        """Bins and counts of its sample. Raises OSError when the file cannot be read."""
        import polars as pl  # 60 MB that the evaluator never needs

        sample = pl.read_parquet(io.BytesIO((self.folder / REFERENCE_FILE).read_bytes()))
        columns = {name: sample[name].to_numpy() for name in (*NAMES, SCORE)}
        return Reference.of(self.version, self.manifest.thresholds[REVIEW], columns)


class Registry:
    """The registry as the watchers need it: verified once per version, problems said once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._verified: dict[str, Served | None] = {}
        self._promises: dict[str, Promise | None] = {}

    def champion(self) -> Served | None:
        """The version that decides, verified; None before any, or when it cannot be compared with."""
        version = self.roles().get("champion")
        if version is None:
            return None
        if version not in self._verified:
            self._verified = {version: self._verify(version)}
        return self._verified[version]

    def roles(self) -> dict[str, str]:
        """Version by role."""
        if not self._root.exists():
            return {}
        try:
            aliases = ModelStore(self._root).aliases()
        except ModelRefusedError as error:
            log.warning("registry", why=str(error))
            return {}
        return {role: version for role, version in asdict(aliases).items() if version is not None}

    def manifest(self, version: str) -> Manifest | None:
        """The manifest of a version; None for one that has none, such as the rules."""
        if not self._root.exists():
            return None
        try:
            return ModelStore(self._root).manifest(version)
        except ModelRefusedError:
            return None

    def promise(self, version: str) -> Promise | None:
        """What a version promised; None for the rules."""
        if version not in self._promises:
            manifest = self.manifest(version)
            if manifest is None:
                return None
            self._promises[version] = manifest.promise
        return self._promises[version]

    def _verify(self, version: str) -> Served | None:
        try:
            stored = ModelStore(self._root).read(version)
        except ModelRefusedError as error:
            log.warning("no reference", version=version, why=str(error))
            return None
        if stored.manifest.feature_hash != FEATURE_HASH or REFERENCE_FILE not in stored.manifest.files:
            log.warning("no reference", version=version, why="other features, or no sample is stored with it")
            return None
        return Served(stored.manifest, stored.folder)
