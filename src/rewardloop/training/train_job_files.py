"""The folder through which a step and the nodes of its TrainJob hand each other files.

In: a URL that both reach, and a job. Out: on a node, the job with folders of its own; in the step, what the nodes made.
Checkpoints stay there until the work is done, so that a job that is started again goes on. On a shared volume nodes
read and write in place; from an object store each node takes one copy.

    job.json   inputs/NAME/...   checkpoints/   output/   error.json
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fsspec
from filelock import FileLock
from fsspec.implementations.local import LocalFileSystem

from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from rewardloop.training.job import Job

_DRIVERS = ("botocore", "aiohttp", "s3fs", "gcsfs", "google")
"""Packages whose errors mean that the store did not do as asked."""


class Taken(NamedTuple):
    """A job as a process of a node does it."""

    step: str
    fields: dict[str, Any]
    carried: bool
    """Whether files were carried here, so that the output must be carried back."""


class Exchange:
    """One job's part of the folder."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._in_words("cannot be opened"):
            self.fs, root = fsspec.core.url_to_fs(self.url)
        self.root = str(root).rstrip("/")
        self.is_local = isinstance(self.fs, LocalFileSystem)

    # In the step -----------------------------------------------------------------------------------------------------
    def send(self, step: str, job: "Job") -> None:
        """Put the job and its inputs there; checkpoints of an earlier try stay."""
        with self._in_words("cannot be written"):
            for name in ("job.json", "error.json", "inputs", "output"):
                self._remove(name)
            carried = job.inputs()
            for name, folder in carried.items():
                for path in sorted(Path(folder).rglob("*")):
                    if path.is_file():
                        self._put(path, f"inputs/{name}/{path.relative_to(folder).as_posix()}")
            fields = asdict(job) | {"checkpoints": self._place("checkpoints")}  # type: ignore[call-overload]
            told = {"step": step, "job": fields, "carried": sorted(carried)}
            self._write("job.json", json.dumps(told))

    def fetch(self, output: Path) -> None:
        """Take what the first node made."""
        with self._in_words("cannot be read"):
            self._get("output", output)

    def error(self) -> str | None:
        """What a process found wrong with its input."""
        with self._in_words("cannot be read"):
            if not self.fs.exists(f"{self.root}/error.json"):
                return None
            return str(json.loads(self.fs.cat_file(f"{self.root}/error.json"))["error"])

    def clear(self) -> None:
        """Remove everything of this job; its work is done."""
        with self._in_words("cannot be written"):
            self._remove("")

    # On a node, or in a process of the same machine ------------------------------------------------------------------
    def take(self) -> Taken:
        """The job, its inputs brought to this machine; processes of one machine share them."""
        with self._in_words("cannot be read"):
            told = json.loads(self.fs.cat_file(f"{self.root}/job.json"))
            if not told["carried"]:
                return Taken(told["step"], told["job"], carried=False)
            inputs = Path(f"{self.root}/inputs") if self.is_local else self._bring(told)
        names = {name.partition("/")[0] for name in told["carried"]}
        here = {name: str(inputs / name) for name in names}
        output = Path(f"{self.root}/output") if self.is_local else inputs.parent / "output"
        output.mkdir(parents=True, exist_ok=True)
        return Taken(told["step"], told["job"] | here | {"output": str(output)}, carried=True)

    def give(self, output: str) -> None:
        """Put what was made where the step finds it."""
        if self.is_local:
            return  # it was made there
        with self._in_words("cannot be written"):
            for path in sorted(Path(output).rglob("*")):
                if path.is_file():
                    self._put(path, f"output/{path.relative_to(output).as_posix()}")

    def give_error(self, text: str) -> None:
        """Tell the step what is wrong with its input."""
        self._write("error.json", json.dumps({"error": text}))

    def _bring(self, told: dict[str, Any]) -> Path:
        name = hashlib.sha256(json.dumps([self.url, told], sort_keys=True).encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"rewardloop-{name}"
        folder.mkdir(exist_ok=True)
        done = folder / "brought"
        # One process of the machine brings them, the others wait.
        with FileLock(folder / ".lock"):
            if not done.exists():
                self._get("inputs", folder / "inputs")
                done.touch()
        return folder / "inputs"

    # Files -----------------------------------------------------------------------------------------------------------
    def _place(self, name: str) -> str:
        return f"{self.root}/{name}" if self.is_local else f"{self.url}/{name}"

    def _put(self, path: Path, name: str) -> None:
        target = f"{self.root}/{name}"
        if self.is_local:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        else:
            self.fs.put_file(str(path), target)

    def _write(self, name: str, text: str) -> None:
        if self.is_local:
            Path(self.root).mkdir(parents=True, exist_ok=True)
        self.fs.pipe_file(f"{self.root}/{name}", text.encode())

    def _get(self, name: str, folder: Path) -> None:
        self.fs.invalidate_cache()
        start = f"{self.root}/{name}"
        for found in self.fs.find(start):
            target = folder / str(found).removeprefix(start).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(found, str(target))

    def _remove(self, name: str) -> None:
        self.fs.invalidate_cache()
        place = f"{self.root}/{name}" if name else self.root
        if self.fs.exists(place):
            self.fs.rm(place, recursive=True)

    @contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(error, OSError | ImportError | ValueError) or type(error).__module__.startswith(_DRIVERS):
                raise BadInputError(
                    f"distributed.exchange: {self.url} {what}: {type(error).__name__}: {error}; choose a folder that "
                    "the step and all nodes reach, and give them the right to read and write it"
                ) from error
            raise
