"""The container engine of this machine: whether it can run an image of ours, and the containers that a run left.

In: an image, the folder of a run. Out: a ``BadInputError`` before anything runs; containers that end with their run;
the exit code of a container, which KFP's own runner can lose.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewardloop.errors import BadInputError

if TYPE_CHECKING:
    from docker import DockerClient

LABEL = "rewardloop.run"
"""Label of a step's container; the value is the run's folder."""
_ASK_CODE = "from rewardloop.cli.parameters import code_version; print(code_version())"


@contextlib.contextmanager
def engine() -> "Iterator[DockerClient]":
    """The engine that ``DOCKER_HOST`` names, or this machine's.

    Raises:
        BadInputError: none answers.
    """
    import docker

    try:
        client = docker.from_env()
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise BadInputError(
            f"runner.kind: docker, but no container engine answers ({_first_line(error)}); start it, name it in "
            "DOCKER_HOST, or set runner.kind to subprocess"
        ) from error
    with contextlib.closing(client):
        yield client


def check_image(image: str, code: str, **arguments: Any) -> None:
    """Start ``image`` as a step would be, and compare its code with ours.

    Args:
        image: ``name:tag``.
        code: what ``code_version()`` says here: results of other code must not be kept under it.
        arguments: as ``containers.run`` of the engine's client takes them.

    Raises:
        BadInputError: the image is not there under exactly this name (KFP would try to pull it), cannot be started with
            these arguments, or holds another rewardloop, or none.
    """
    import docker

    with engine() as client:
        names = {name for found in client.images.list() for name in (*found.tags, *found.attrs["RepoDigests"])}
        if image not in names:
            known = ", ".join(sorted(name for name in names if "rewardloop" in name)) or "none of rewardloop"
            raise BadInputError(
                f"runner.image: {image!r} is not on this machine under exactly this name (there: {known}); build it "
                "with `make images`, pull it, or correct the name"
            )
        try:
            said = client.containers.run(image, ["python3", "-c", _ASK_CODE], remove=True, **arguments)
        except docker.errors.ContainerError as error:
            cause = _last_line(error.stderr)
            raise BadInputError(f"runner.image: {image!r} holds no rewardloop that works: {cause}") from error
        except docker.errors.APIError as error:
            raise BadInputError(
                f"runner: the engine does not start {image!r} as configured: {error.explanation or error}; look at "
                "runner.network, runner.gpus, runner.memory and runner.mounts"
            ) from error
    found = _last_line(said)
    if found != code:
        raise BadInputError(
            f"runner.image: {image!r} holds other code ({found}) than the rewardloop that starts the run ({code}); "
            "build it again with `make images`, or run with the rewardloop that it was built from"
        )


def end_containers(run_dir: Path) -> int:
    """End every container that works in the run's folder; the number of them. No engine: none."""
    import docker

    ended = 0
    with contextlib.suppress(BadInputError, docker.errors.DockerException, OSError), engine() as client:
        for container in client.containers.list(all=True, filters={"label": f"{LABEL}={run_dir}"}):
            with contextlib.suppress(docker.errors.APIError):  # it may end by itself meanwhile
                container.remove(force=True)
                ended += 1
    return ended


@contextlib.contextmanager
def exit_codes_kept() -> Iterator[None]:
    """Make KFP's runner look at a container's exit code before the container is gone.

    It lets the engine remove a container that ends, reads the output, then asks for the exit code, and takes "no such
    container" for success: a step that fails while its last lines are still being read would have succeeded.
    """
    from kfp.local import docker_task_handler

    original = docker_task_handler.run_docker_container
    docker_task_handler.run_docker_container = _run_container
    try:
        yield
    finally:
        docker_task_handler.run_docker_container = original


def _run_container(
    client: "DockerClient", image: str, command: list[str], volumes: Mapping[str, Any], **arguments: Any
) -> int:
    import docker

    container = client.containers.run(image, command, detach=True, volumes=volumes, **arguments)
    try:
        for line in container.logs(stream=True):
            print(line.decode(errors="replace"), end="")
        return int(container.wait()["StatusCode"])
    finally:
        with contextlib.suppress(docker.errors.APIError):  # whoever ended the run may have removed it
            container.remove(force=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _last_line(output: bytes) -> str:
    return (output.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
