"""The model registry: a folder with one folder per version, and aliases.json that says which version decides.

Rule 1. A version appears whole or not at all: temporary folder, fsync, rename. It never changes afterwards.
Rule 2. Nothing is handed out unverified: every file's SHA-256 is checked on every read.
Rule 3. Aliases change by compare-and-set under a lock file: of two who decide on the same state, one is refused. Each change
        stands in the same file, with who, why and from what to what; a kill leaves both or neither.
Rule 4. Every lock is the kernel's (flock): whoever is killed holds none.

    models/20180808T000000-1a2b3c/{model.ubj, manifest.json, metrics.json, reference.parquet, card.md, *.png}
    models/aliases.json
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from fraud.batch_features import BATCH_KIND
from fraud.model import MODEL_FILE, Manifest, ModelRefusedError, file_hashes, is_version

MANIFEST_FILE: Final = "manifest.json"
ALIASES_FILE: Final = "aliases.json"
LOCK_FILE: Final = ".lock"
TRAINING_FILE: Final = ".training"
CHANGES_KEPT: Final = 200
_TEMPORARY: Final = ".publishing-"


class Aliases(msgspec.Struct, frozen=True):
    """Which version has which role; None: nobody. The champion decides, the challenger scores in shadow.

    batch_champion: the version that scores on the batch path.
    """

    champion: str | None = None
    challenger: str | None = None
    previous: str | None = None
    batch_champion: str | None = None


class Change(msgspec.Struct, frozen=True):
    """One change of the aliases. at: wall clock, ISO, UTC. action: promote, rollback or shadow. by: gate, or a person."""

    at: str
    action: str
    by: str
    reason: str
    before: Aliases
    after: Aliases


class _Stored(Aliases, frozen=True):
    """aliases.json: the roles, and how they came to be, oldest first."""

    changes: tuple[Change, ...] = ()


class AliasConflictError(RuntimeError):
    """The aliases were changed by someone else between reading and writing them."""


class TrainingUnderWayError(RuntimeError):
    """Another process trains for this registry; the message names it."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A verified version: its manifest, the model file's bytes as they were when verified, and its folder."""

    manifest: Manifest
    model: bytes
    folder: Path

    @property
    def version(self) -> str:
        """The version's name."""
        return self.manifest.version


class ModelStore:
    """The registry below `root`; the folder is made when it is missing."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._clock = clock
        root.mkdir(parents=True, exist_ok=True)

    def publish(self, manifest: Manifest, files: Mapping[str, bytes]) -> str:
        """Write a version; return its name. The same content again is the same version and changes nothing.

        Raises ValueError when the files are not those that the manifest hashes, OSError when the disk refuses.
        """
        manifest = manifest.sealed()
        if manifest.files != file_hashes(files) or MODEL_FILE not in files:
            raise ValueError(
                f"the manifest's files {sorted(manifest.files)} are not the given {sorted(files)}, byte for byte"
            )
        with self._locked():
            self._remove_leftovers()
            if (self._root / manifest.version).exists():
                self.read(manifest.version)
                return manifest.version
            temporary = self._root / f"{_TEMPORARY}{manifest.version}"
            temporary.mkdir()
            for name, content in {**files, MANIFEST_FILE: manifest.to_json()}.items():
                _write_durably(temporary / name, content)
            _sync_folder(temporary)
            temporary.rename(self._root / manifest.version)
            _sync_folder(self._root)
        return manifest.version

    def versions(self) -> list[str]:
        """Names of all published versions, oldest as-of time first."""
        return sorted(entry.name for entry in self._root.iterdir() if entry.is_dir() and is_version(entry.name))

    def named(self, begin: str) -> str:
        """The one version whose name begins so. Raises ModelRefusedError when there is none, or more."""
        found = [version for version in self.versions() if version.startswith(begin)]
        if len(found) == 1:
            return found[0]
        what = f"begins {len(found)} versions: {', '.join(found[:4])}" if found and begin else "is no version"
        raise ModelRefusedError(f"{begin!r} {what}; `fraudstream models list` shows all of them")

    def manifest(self, version: str) -> Manifest:
        """The manifest of a version, its own hash checked, its files not. Raises ModelRefusedError."""
        if not is_version(version):
            raise ModelRefusedError(f"{version!r} is no version name; they look like 20180808T000000-1a2b3c")
        manifest = Manifest.from_json(self._content(version, MANIFEST_FILE))
        if manifest.version != version:
            raise ModelRefusedError(f"the folder {version} holds the manifest of {manifest.version}")
        return manifest

    def read(self, version: str) -> StoredModel:
        """A version with every file verified. Raises ModelRefusedError that names the file."""
        manifest = self.manifest(version)
        model = b""
        for name, expected in manifest.files.items():
            content = self._content(version, name)
            if file_hashes({name: content})[name] != expected:
                raise ModelRefusedError(
                    f"{version}/{name} is not the file that was published (SHA-256 differs): train again"
                )
            model = content if name == MODEL_FILE else model
        if not model:
            raise ModelRefusedError(f"{version}/{MODEL_FILE} is missing from the manifest or empty: train again")
        return StoredModel(manifest, model, self._root / version)

    def aliases(self) -> Aliases:
        """The roles as they are now. Raises ModelRefusedError when aliases.json is damaged."""
        return _roles_of(self._stored())

    def changes(self) -> tuple[Change, ...]:
        """The newest changes of the roles, oldest first. Raises ModelRefusedError when aliases.json is damaged."""
        return self._stored().changes

    def champion(self) -> str | None:
        """The version that decides; None before any."""
        return self._stored().champion

    def set_aliases(
        self, expected: Aliases, new: Aliases, action: str = "promote", by: str = "a person", reason: str = ""
    ) -> None:
        """Write `new` if the aliases are still `expected`, else raise AliasConflictError.

        The paths' roles change apart: what happened meanwhile to a role of the other path is kept, and is no conflict.
        """
        with self._locked():
            stored = self._stored()
            now = _roles_of(stored)
            expected, new = _beside(now, expected, new)
            if now != expected:
                raise AliasConflictError(f"{ALIASES_FILE} is {now}, not {expected}: read it again and decide again")
            at = f"{datetime.fromtimestamp(self._clock(), UTC):%Y-%m-%dT%H:%M:%SZ}"
            changes = (*stored.changes, Change(at, action, by, reason, expected, new))[-CHANGES_KEPT:]
            temporary = self._root / f"{ALIASES_FILE}.new"
            content = _Stored(**msgspec.structs.asdict(new), changes=changes)
            _write_durably(temporary, msgspec.json.format(msgspec.json.encode(content), indent=1))
            temporary.rename(self._root / ALIASES_FILE)
            _sync_folder(self._root)

    def promote(
        self,
        version: str,
        expected: Aliases | None = None,
        by: str = "a person",
        reason: str = "",
        action: str = "promote",
    ) -> Aliases:
        """Make a verified version the champion; the old one becomes `previous`. `expected` defaults to the aliases as read now.

        A version of the batch path (its kind tells) becomes that path's champion instead.
        Raises ModelRefusedError for a damaged version, AliasConflictError when the aliases moved in between.
        """
        kind = self.read(version).manifest.kind
        before = self.aliases() if expected is None else expected
        if version in (before.champion, before.batch_champion):
            return before
        if kind == BATCH_KIND:
            after = msgspec.structs.replace(before, batch_champion=version)
        else:
            challenger = None if before.challenger == version else before.challenger
            after = msgspec.structs.replace(before, champion=version, challenger=challenger, previous=before.champion)
        self.set_aliases(before, after, action, by, reason)
        return after

    def rollback(self, by: str = "a person", reason: str = "") -> Aliases:
        """Make the previous version the champion again. Raises ModelRefusedError when there is none."""
        before = self.aliases()
        if before.previous is None:
            raise ModelRefusedError("there is no previous version to go back to: promote one by name")
        return self.promote(before.previous, before, by, reason, "rollback")

    def shadow(
        self, version: str | None, expected: Aliases | None = None, by: str = "a person", reason: str = ""
    ) -> Aliases:
        """Make a verified version the challenger, which scores beside the champion and decides nothing; None: nobody.

        Raises ModelRefusedError for a damaged version or the champion itself, AliasConflictError as `promote`.
        """
        before = self.aliases() if expected is None else expected
        if version is not None:
            self.read(version)
            if version == before.champion:
                raise ModelRefusedError(f"{version} is the champion: what decides cannot score in shadow beside itself")
        after = msgspec.structs.replace(before, challenger=version)
        if after != before:
            self.set_aliases(before, after, "shadow", by, reason)
        return after

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold the registry as the only one that trains for it. Raises TrainingUnderWayError when another does."""
        descriptor = os.open(self._root / TRAINING_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                who = os.read(descriptor, 64).decode(errors="replace").strip() or "unknown"
                raise TrainingUnderWayError(
                    f"another training runs for {self._root} (process {who}): wait for it, or end it"
                ) from None
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            os.close(descriptor)

    def _stored(self) -> _Stored:
        try:
            return msgspec.json.decode((self._root / ALIASES_FILE).read_bytes(), type=_Stored)
        except FileNotFoundError:
            return _Stored()
        except msgspec.DecodeError as error:
            raise ModelRefusedError(
                f"{ALIASES_FILE} cannot be read ({error}): delete it and promote a version again"
            ) from error

    def _content(self, version: str, name: str) -> bytes:
        if "/" in name or name.startswith("."):
            raise ModelRefusedError(f"{version}/{MANIFEST_FILE} names the file {name!r}, which is outside its folder")
        try:
            return (self._root / version / name).read_bytes()
        except OSError as error:
            raise ModelRefusedError(f"{version}/{name} cannot be read ({error.strerror})") from error

    def _remove_leftovers(self) -> None:
        for entry in self._root.iterdir():
            if entry.name.startswith(_TEMPORARY):
                shutil.rmtree(entry)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self._root / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _roles_of(stored: _Stored) -> Aliases:
    """The roles alone."""
    return Aliases(**{name: getattr(stored, name) for name in Aliases.__struct_fields__})


def _beside(now: Aliases, expected: Aliases, new: Aliases) -> tuple[Aliases, Aliases]:
    """`expected` and `new`, with the roles of the path that is not changed as they are now."""
    if new.batch_champion == expected.batch_champion:
        kept = {"batch_champion": now.batch_champion}
    else:
        kept = {"champion": now.champion, "challenger": now.challenger, "previous": now.previous}
    return msgspec.structs.replace(expected, **kept), msgspec.structs.replace(new, **kept)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems cannot sync a folder; the rename is atomic all the same
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
