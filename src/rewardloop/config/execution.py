"""Section on where the steps of ``rewardloop run`` work: in processes of this machine, or in containers.

Where a step works changes no model, so this is no part of the digest of a configuration.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from rewardloop.config.base import Section


class RunnerSettings(Section):
    """What runs the steps of ``rewardloop run``."""

    kind: Literal["subprocess", "docker"] = "subprocess"
    """``docker``: each step in a container of ``image``, through the container engine of this machine."""
    image: str | None = None
    """Image of every step, as ``name:tag``; it must be on this machine and hold this version of rewardloop."""
    network: Annotated[str, Field(min_length=1)] = "auto"
    """Network of the containers, as the engine names it. ``auto``: ``none`` where the store and MLflow are files,
    ``host`` where one of them is a server on 127.0.0.1, else the engine's ``bridge``."""
    gpus: Literal["none", "all"] = "none"
    """``all``: containers see every GPU of this machine; the engine needs NVIDIA's container toolkit."""
    memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*[kmg]$")] | None = None
    """Memory that one container may use, ``8g`` for example; None: as much as there is."""
    shared_memory: Annotated[str, Field(pattern=r"^[1-9][0-9]*[kmg]$")] = "1g"
    """Size of /dev/shm, through which processes of one training exchange tensors."""
    environment: tuple[str, ...] = ()
    """Variables of this process that steps are given besides rewardloop's, MLflow's and the object stores' own."""
    mounts: tuple[str, ...] = ()
    """Folders of this machine that steps may read besides (a cache of base models), at the same place."""

    @field_validator("image")
    @classmethod
    def _with_tag(cls, image: str | None) -> str | None:
        if image is not None and ":" not in image.rpartition("/")[2]:
            raise ValueError(f"{image!r} has no tag; expected name:tag, as `docker images` shows it")
        return image

    @model_validator(mode="after")
    def _image_for_containers(self) -> Self:
        if self.kind == "docker" and self.image is None:
            raise ValueError("runner.image is missing; runner.kind = docker needs one (`make images` builds it)")
        return self
