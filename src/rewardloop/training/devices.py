"""Which device a setting means, checked before any work."""

import torch

from rewardloop.errors import BadInputError


def gpus() -> int:
    """GPUs of this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def choose_device(wanted: str, setting: str) -> torch.device:
    """The device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Args:
        wanted: the value.
        setting: its name, for messages.

    Raises:
        BadInputError: it is no device, or this machine has none of it.
    """
    found = gpus()
    if wanted == "auto":
        return torch.device("cuda" if found else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise BadInputError(f"{setting}: found {wanted!r}; expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise BadInputError(f"{setting}: found {wanted!r}; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= found:
        raise BadInputError(
            f"{setting}: {wanted!r} is asked for, but this machine has {found or 'no'} CUDA device(s); set it to auto "
            "or cpu, or run the step where there is one"
        )
    return device
