"""Checkpoints of a training run: whole or not at all, and enough to continue at the exact step.

They live in a work folder keyed by what is trained on what, outside any pipeline's outputs: a pipeline gives each try a
new output folder, so a killed training could not find its own checkpoint there.
"""

import os
from pathlib import Path
from typing import Any

import torch


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

    def load(self) -> dict[str, Any] | None:
        """The last state, or None when there is none."""
        if not self.file.is_file():
            return None
        state: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        return state

    def clear(self) -> None:
        """Remove the checkpoint; its work is done."""
        self.file.unlink(missing_ok=True)
        if self.folder.is_dir():
            self.folder.rmdir()
