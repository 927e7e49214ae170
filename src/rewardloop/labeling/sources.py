"""The models that responses are sampled from.

In: the section ``labeling``, or what the command line names. Out: for each model its name, a digest of what decides its
answers, and a way to load it. A folder, a base or a registered policy.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from rewardloop.config import SampledModel, Settings
from rewardloop.errors import BadInputError
from rewardloop.modeling.base import prepare_base
from rewardloop.modeling.policy import (
    Policy,
    PolicyInfo,
    asks_plainly,
    load_policy,
    place_tokenizer,
    policy_digest,
)
from rewardloop.modeling.reward_model import weights_digest
from rewardloop.training.devices import choose_device
from rewardloop.training.hardware import choose_precision

REGISTERED = "models:/"
Resolve = Callable[[str], str]
"""``models:/NAME/ALIAS`` -> ``models:/NAME/VERSION``."""
Registered = Callable[[str, Callable[[Path], Policy]], Policy]
"""Loads a registered version from its verified files."""


class SampledSource(NamedTuple):
    """One model at one temperature."""

    name: str
    """As responses name it."""
    digest: str
    temperature: float
    share: float
    load: Callable[[], Policy]


def wanted_models(settings: Settings, named: Sequence[str]) -> tuple[SampledModel, ...]:
    """The models to sample from: those named on the command line, those of the configuration, or the aligned policy's
    base."""
    temperature = settings.align.generation.temperature if settings.align else 1.0
    if named:
        return tuple(SampledModel(base=base, temperature=temperature) for base in dict.fromkeys(named))
    if settings.labeling.models:
        return settings.labeling.models
    base = (settings.align.policy if settings.align else None) or settings.model.base
    return (SampledModel(base=base, temperature=temperature),)


def open_sources(
    models: Sequence[SampledModel], settings: Settings, *, resolve: Resolve, registered: Registered
) -> list[SampledSource]:
    """Check every model, without loading it.

    Raises:
        BadInputError: there is no such model, or no such device.
    """
    labeling = settings.labeling
    device = choose_device(labeling.device, "labeling.device")
    rounded = choose_precision(labeling.precision, device) == "bfloat16"
    cache = Path(settings.home).resolve() / "base-models"
    bases = [model.base for model in models]

    def load(folder: Path) -> Policy:
        return load_policy(folder, cache, device=device, rounded=rounded)

    found = []
    for model in models:
        several = bases.count(model.base) > 1
        if model.base.startswith(REGISTERED):
            uri = resolve(model.base)
            name, digest, loader = uri, uri, _registered(registered, uri, load)
        elif (Path(model.base) / "policy.json").is_file():
            folder = Path(model.base)
            name, digest, loader = model.base, policy_digest(folder), _folder(folder, load)
        else:
            try:
                place = prepare_base(model.base, cache)
                plain = asks_plainly(place_tokenizer(place), labeling.plain_text)
            except BadInputError as error:
                words = str(error).replace("align.plain_text", "labeling.plain_text").replace("model.base: ", "")
                raise BadInputError(f"labeling.models: {words}") from error
            digest = weights_digest(Path(place)) if Path(place).is_dir() else place
            name, digest, loader = model.base, f"{digest} {plain}", _base(model.base, plain, load)
        name = f"{name} (temperature {model.temperature:g})" if several else name
        found.append(SampledSource(name, f"{digest} {rounded}", model.temperature, model.share, loader))
    return found


def _registered(registered: Registered, uri: str, load: Callable[[Path], Policy]) -> Callable[[], Policy]:
    return lambda: registered(uri, load)


def _folder(folder: Path, load: Callable[[Path], Policy]) -> Callable[[], Policy]:
    return lambda: load(folder)


def _base(base: str, plain: bool, load: Callable[[Path], Policy]) -> Callable[[], Policy]:
    def made() -> Policy:
        with tempfile.TemporaryDirectory() as folder:
            PolicyInfo(base=base, start="base", plain_text=plain).write(Path(folder))
            return load(Path(folder))

    return made


def free_memory() -> None:
    """Give back what a model that is no longer needed held on the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
