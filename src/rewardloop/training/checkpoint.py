"""Checkpoints of a training run: whole or not at all, and enough to continue at the exact step.

They live in a work folder keyed by what is trained on what, outside any pipeline's outputs: a pipeline gives each try a
new output folder, so a killed training could not find its own checkpoint there.
"""

import os
from pathlib import Path
from typing import Any

import torch

from rewardloop.errors import BadInputError


class CheckpointFolder:
    """One file, replaced atomically; loaded without pickle (``weights_only``)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "checkpoint.pt"

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
        state: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        was = state["about"]
        different = [
            f"{name} was {was.get(name)!r}, is {about.get(name)!r}"
            for name in sorted(was.keys() | about.keys())
            if was.get(name) != about.get(name)
        ]
        if different:
            raise BadInputError(
                f"{self.file}: is of another training: {'; '.join(different)}. Remove {self.folder} to train anew, or "
                "restore those settings to go on"
            )
        return state

    def clear(self) -> None:
        """Remove the checkpoint; its work is done."""
        self.file.unlink(missing_ok=True)
        self.file.with_suffix(".tmp").unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
