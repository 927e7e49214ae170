"""SHA-256 of every file of a version, checked before anything of it is loaded.

In: the folder of a reward model. Out: ``manifest.json`` in it, whose own digest becomes a tag of the version: whoever
changes a byte of the files would have to change the registry too.
"""

import hashlib
import json
from pathlib import Path

from rewardloop.errors import RewardloopError

NAME = "manifest.json"


def write_manifest(folder: Path) -> str:
    """Write ``manifest.json`` over all other files of ``folder``; returns the manifest's own SHA-256."""
    content = json.dumps(_digests(folder), indent=1, sort_keys=True).encode()
    (folder / NAME).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def verify_manifest(folder: Path, expected: str) -> None:
    """Compare ``folder`` with its manifest, and the manifest with the digest that the registry holds.

    Raises:
        RewardloopError: names the first file that is changed, missing or extra.
    """
    path = folder / NAME
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != expected:
        raise RewardloopError(f"{path}: the manifest is not the registered one; the model is not loaded")
    wanted, found = json.loads(content), _digests(folder)
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            state = "missing" if name not in found else "not part of the version" if name not in wanted else "changed"
            raise RewardloopError(f"{folder / name}: the file is {state} since registration; the model is not loaded")


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != NAME)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
