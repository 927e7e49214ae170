"""One YAML file becomes a checked ``Settings``; every mistake in it is reported at once.

A value's origin is the YAML file, a ``--set section.key=value`` override, a profile, or the default; ``load_settings``
keeps it for the record of the run. Unknown keys are refused: a misspelt setting must not silently keep its default.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from rewardloop.config.alignment import PLACES
from rewardloop.config.profiles import profile_settings
from rewardloop.config.settings import OPERATION, Settings
from rewardloop.errors import BadInputError


@dataclass(frozen=True)
class LoadedSettings:
    """Settings and, per flattened key (``training.seed``), where the value came from."""

    settings: Settings
    origins: dict[str, str]
    path: Path

    @property
    def digest(self) -> str:
        """SHA-256 of everything that can change a model: all sections but the places and the operation."""
        places: Any = dict.fromkeys({"home", "store", "tracking", *OPERATION}, True) | {"align": PLACES}
        tree = self.settings.model_dump(mode="json", exclude=places)
        text = json.dumps(tree, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) for each leaf of nested mappings."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def load_settings(path: Path, overrides: Sequence[str] = (), profile: str | None = None) -> LoadedSettings:
    """Read ``path``, apply ``section.key=value`` overrides (values are YAML), then the profile, check everything.

    Args:
        path: the YAML file.
        overrides: they win over the file.
        profile: one of ``PROFILES``; it sets what neither the file nor an override does.

    Raises:
        BadInputError: the file cannot be read, or lists every setting that is wrong with its path and what is allowed.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}; name a configuration with --config") from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise BadInputError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise BadInputError(f"{path}: expected a mapping of settings, found {type(tree).__name__}")
    origins = {key: str(path) for key, _ in flatten(tree)}
    for override in overrides:
        _apply(tree, override)
        origins[override.partition("=")[0].strip()] = "--set"
    if profile is not None:
        origins |= _complete(tree, profile)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors(include_url=False)]
        many = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        message = "\n  ".join([f"{path}: {many} in the configuration", *lines])
        raise BadInputError(message) from error
    resolved = {key: origins.get(key, "default") for key, _ in flatten(settings.model_dump(mode="json"))}
    return LoadedSettings(settings=settings, origins=resolved, path=path)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise BadInputError(f"--set {override!r}: expected section.key=value, for example training.seed=1")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"--set {override!r}: the value is not valid YAML: {error}") from error
    for name in names[:-1]:
        branch = tree.setdefault(name, {})
        if not isinstance(branch, dict):
            raise BadInputError(f"--set {override!r}: {name!r} is a value, not a section")
        tree = branch
    tree[names[-1]] = value


def _complete(tree: dict[str, Any], profile: str) -> dict[str, str]:
    """Set what the profile says and nobody else did; the origin of each."""
    origins = {}
    for key, value in profile_settings(profile, aligns=bool(tree.get("align"))):
        *sections, name = key.split(".")
        branch: Any = tree
        for section in sections:
            branch = branch.setdefault(section, {}) if isinstance(branch, dict) else None
        if isinstance(branch, dict) and name not in branch:
            branch[name] = value
            origins[key] = f"profile {profile}"
    return origins


def _explain(item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "(whole file)"
    if item["type"] == "extra_forbidden":
        section = _section_at([str(part) for part in item["loc"][:-1]])
        allowed = sorted(section.model_fields) if section else []
        close = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        return f"{place}: unknown setting{hint} Allowed here: {', '.join(allowed)}"
    if item["type"] == "missing":
        return f"{place}: missing; it has no default"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"{place}: {message}"
    return f"{place}: found {item['input']!r}. {message}"


def _section_at(names: list[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = Settings
    for name in names:
        field = model.model_fields.get(name)
        # An optional section is a union of the section and None.
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        sections = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not sections:
            return None
        model = sections[0]
    return model
