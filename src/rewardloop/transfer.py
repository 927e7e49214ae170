"""Files of a store on this machine's disk: hard links where the store is on it too, copies elsewhere.

In: a store, a name, a local path. Out: the file at that path. Whoever has it keeps it, whatever becomes of the store's.
Files of the store are replaced and never written into, so that a link never changes under its reader.
"""

import hashlib
import os
import shutil
from pathlib import Path

from rewardloop.storage import Storage, ask


def fetch(storage: Storage, name: str, target: Path) -> None:
    """Put the store's file ``name`` at ``target``, in the place of what is there.

    Raises:
        FileNotFoundError: the store does not have it.
        OSError: it cannot be read, or ``target`` cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if storage.is_local:
        link(Path(storage.path(name)), target)
    else:
        ask(storage.fs.get_file, storage.path(name), str(target))


def link(source: Path, target: Path) -> None:
    """``target`` as a hard link of ``source``; a copy where the two are on different disks or links are not allowed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source.resolve(), target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove(storage: Storage, name: str) -> None:
    """Remove a file, or an empty folder where the store has such; fine when it is gone."""
    try:
        if storage.is_local and storage.fs.isdir(storage.path(name)):
            storage.fs.rmdir(storage.path(name))
        else:
            storage.fs.rm_file(storage.path(name))
    except FileNotFoundError:
        return
