"""Checkpoints of a training run: whole or not at all, and enough to continue at the exact step.

They live in a work folder keyed by what is trained on what, outside any pipeline's outputs: a pipeline gives each try a
new output folder, so a killed training could not find its own checkpoint there. Those of several nodes lie where all of
them reach them, perhaps in an object store.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import fsspec
import torch

from rewardloop.errors import BadInputError


class CheckpointFolder:
    """One file, replaced atomically; loaded without pickle (``weights_only``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "checkpoint.pt"
        self.where = str(self.file)

    @classmethod
    def at(cls, place: str) -> "CheckpointFolder":
        """A folder of this machine, or one in an object store."""
        return StoredCheckpoints(place) if "://" in place else cls(Path(place))

    def save(self, state: dict[str, Any]) -> None:
        """Write ``state`` (tensors, numbers, strings and containers of them)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".tmp")
        with temporary.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.file)

    def load(self, about: dict[str, Any]) -> dict[str, Any] | None:
        """The last state, or None when there is none.

        Args:
            about: what the state's own ``about`` must be.

        Raises:
            BadInputError: the checkpoint is of another training; names every difference.
        """
        if not self.file.is_file():
            return None
        return self._checked(self.file, about)

    def _checked(self, file: Path, about: dict[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        was = state["about"]
        different = [
            f"{name} was {was.get(name)!r}, is {about.get(name)!r}"
            for name in sorted(was.keys() | about.keys())
            if was.get(name) != about.get(name)
        ]
        if different:
            raise BadInputError(
                f"{self.where}: is of another training: {'; '.join(different)}. Remove it to train anew, or restore "
                "those settings to go on"
            )
        return state

    def clear(self) -> None:
        """Remove the checkpoint; its work is done."""
        self.file.unlink(missing_ok=True)
        self.file.with_suffix(".tmp").unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


class StoredCheckpoints(CheckpointFolder):
    """The same in an object store, where a file that is put is there whole or not at all."""

    def __init__(self, url: str) -> None:
        self.where = f"{url}/checkpoint.pt"
        self.fs, self.path = fsspec.core.url_to_fs(self.where)

    def save(self, state: dict[str, Any]) -> None:
        """See ``CheckpointFolder``; written here first, so that an error leaves the last one in the store."""
        with tempfile.NamedTemporaryFile(suffix=".pt") as stream:
            torch.save(state, stream)
            stream.flush()
            self.fs.put_file(stream.name, self.path)

    def load(self, about: dict[str, Any]) -> dict[str, Any] | None:
        """See ``CheckpointFolder``."""
        self.fs.invalidate_cache()
        if not self.fs.exists(self.path):
            return None
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "checkpoint.pt"
            self.fs.get_file(self.path, str(file))
            return self._checked(file, about)

    def clear(self) -> None:
        """See ``CheckpointFolder``."""
        self.fs.invalidate_cache()
        if self.fs.exists(self.path):
            self.fs.rm_file(self.path)
