"""Where the steps of a run work: in processes of this machine, or in containers of the project's own image.

In: the settings, and the places that the steps use. Out: what KFP's own runner is told. A container sees the folders of
the run at the same paths as here, works as the caller's user, so that what it writes is the caller's, and has a
read-only root file system, no capabilities, and no network where none is needed.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rewardloop.cli.containers import LABEL, check_image
from rewardloop.cli.parameters import code_version
from rewardloop.config import Settings
from rewardloop.config.execution import RunnerSettings

_GIVEN = ("REWARDLOOP_", "MLFLOW_", "AWS_", "S3_", "GOOGLE_", "HF_", "OMP_", "MKL_", "TRANSFORMERS_")
_GIVEN_NAMES = {
    "DO_NOT_TRACK",
    "GX_ANALYTICS_ENABLED",
    "PYTHONSAFEPATH",
    "PYTHONUNBUFFERED",
    "TOKENIZERS_PARALLELISM",
}
_KEPT_BACK = {  # secrets of the command line and of the server, which no step reads
    "REWARDLOOP_API_KEYS_FILE",
    "REWARDLOOP_LABELER_KEY",
    "REWARDLOOP_LABEL_STUDIO_SECRET",
    "REWARDLOOP_NOTIFY_URLS",
    "REWARDLOOP_WEBHOOK_SECRETS",
}
_SQLITE = "sqlite:///"


@dataclass(frozen=True)
class Containers:
    """How the steps' containers are run, all alike."""

    settings: RunnerSettings
    image: str
    network: str
    written: tuple[Path, ...]
    """Folders that steps write to."""
    read: tuple[Path, ...]
    """Folders and files that they read."""
    hub: Path | None
    """Cache of the hub's models, where one is used."""

    def arguments(self, run_dir: Path | None = None) -> dict[str, Any]:
        """What the engine's client is told; without ``run_dir`` the same for a container that is no step's."""
        from docker.types import DeviceRequest, Mount

        environment = given_environment(self.settings.environment)
        if self.hub:
            environment["HF_HOME"] = str(self.hub)
        read = {*self.read, *(path for path in named_files(environment) if not _inside(path, self.written))}
        if run_dir:
            environment["TMPDIR"] = str(run_dir / "tmp")
        mounts = [Mount(str(path), str(path), type="bind") for path in self.written]
        mounts += [Mount(str(path), str(path), type="bind", read_only=True) for path in sorted(read)]
        arguments: dict[str, Any] = {
            "mounts": mounts,
            "environment": environment,
            "labels": {LABEL: str(run_dir)} if run_dir else {},
            "user": f"{os.getuid()}:{os.getgid()}",
            "group_add": [str(group) for group in os.getgroups() if group != os.getgid()],
            "working_dir": str(Path.cwd()),  # settings may name a base model relative to it
            "network_mode": self.network,
            "read_only": True,
            "tmpfs": {"/tmp": "rw,nosuid,nodev,exec"},  # noqa: S108  # the container's own
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "shm_size": self.settings.shared_memory,
            "healthcheck": {"test": ["NONE"]},  # the image's is the server's
        }
        if self.settings.memory:
            arguments["mem_limit"] = self.settings.memory
        if self.settings.gpus == "all":
            arguments["device_requests"] = [DeviceRequest(count=-1, capabilities=[["gpu"]])]
        return arguments

    def check(self) -> None:
        """Raise BadInputError where the engine or the image would not do; takes a container's start."""
        for folder in self.written:
            folder.mkdir(parents=True, exist_ok=True)
        check_image(self.image, code_version(), **self.arguments())


def containers_for(settings: Settings, *, store: str, tracking_uri: str) -> Containers | None:
    """The containers of a run with these settings; None where steps are processes.

    Args:
        settings: the checked settings.
        store: URL of the feedback store, a local one as an absolute path.
        tracking_uri: MLflow, an SQLite file with an absolute path.
    """
    runner = settings.runner
    if runner.kind == "subprocess":
        return None
    assert runner.image is not None
    bases = [settings.model.base, *([settings.align.policy] if settings.align and settings.align.policy else [])]
    local = [Path(base).resolve() for base in bases if Path(base).is_dir()]
    hub = _hub_cache() if any(":" not in base and not Path(base).is_dir() for base in bases) else None
    written = [Path(settings.home).resolve(), *_local_folders(store, tracking_uri), *([hub] if hub else [])]
    read = [*local, *(Path(folder).resolve() for folder in runner.mounts)]
    kept = _outermost(written)
    network = runner.network
    if network == "auto":
        network = _network(_servers(settings, store, tracking_uri), downloads=hub is not None)
    return Containers(
        settings=runner,
        image=runner.image,
        network=network,
        written=kept,
        read=tuple(path for path in _outermost(read) if not _inside(path, kept)),
        hub=hub,
    )


def given_environment(more: tuple[str, ...]) -> dict[str, str]:
    """What of this process's environment a step is given; ``more`` are names besides."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in more or (name not in _KEPT_BACK and (name.startswith(_GIVEN) or name in _GIVEN_NAMES))
    }
    # People read the log of a local run; the image's default is for collectors.
    environment.setdefault("REWARDLOOP_LOG_FORMAT", "text")
    return environment


def named_files(environment: Mapping[str, str]) -> list[Path]:
    """Files that variables name (certificates, credentials): they must be there in the container too."""
    return sorted({Path(value) for value in environment.values() if value.startswith("/") and Path(value).is_file()})


def _hub_cache() -> Path:
    given = os.environ.get("HF_HOME")
    return Path(given).expanduser().resolve() if given else Path.home() / ".cache" / "huggingface"


def _local_folders(store: str, tracking_uri: str) -> list[Path]:
    folders = []
    if tracking_uri.startswith(_SQLITE):
        folders.append(Path(tracking_uri.removeprefix(_SQLITE)).resolve().parent)
    if store.startswith("file://"):
        folders.append(Path(unquote(urlsplit(store).path)))
    elif "://" not in store:
        folders.append(Path(store).resolve())
    return folders


def _servers(settings: Settings, store: str, tracking_uri: str) -> list[str]:
    """Addresses that steps call."""
    urls = [store, tracking_uri, settings.align.reward_url if settings.align else None]
    if store.startswith("s3://"):
        urls += [os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")]
    return [url for url in urls if url and "://" in url and not url.startswith((_SQLITE, "file:"))]


def _network(urls: list[str], *, downloads: bool) -> str:
    """The least that reaches ``urls`` and, where base models are downloaded, the hub."""
    if any(_is_loopback(urlsplit(url).hostname or "") for url in urls):
        return "host"  # an address of this machine's loopback is reached from nowhere else
    return "bridge" if urls or downloads else "none"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _inside(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _outermost(folders: list[Path]) -> tuple[Path, ...]:
    """Each folder once, and none that lies in another."""
    found = sorted(set(folders))
    return tuple(path for path in found if not any(path != other and path.is_relative_to(other) for other in found))
