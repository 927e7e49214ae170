"""The reference of all settings, made from the models that check them.

In: ``Settings``. Out: Markdown, a table per section: name, type, default, and the words that stand below the field in
the source. ``docs/configuration.md`` is this text.
"""

import ast
import inspect
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rewardloop.config import Settings

_HEAD = """\
# Configuration

Made by `rewardloop config reference > docs/configuration.md` from the models that check a configuration; do not edit it
here. One YAML file holds everything; `--set section.key=value` overrides one setting, `rewardloop config check` lists
every mistake at once, or every value with its origin. Unknown keys are refused. Complete examples are in `conf/`.

A setting without a default must be given. `null` is YAML's word for "None". `NAME` in a section's title stands for a
name of your own, `[]` for an entry of a list.
"""


def reference() -> str:
    """The whole page."""
    parts = [_HEAD, "## At the top", "", _table(Settings), ""]
    seen: dict[type[BaseModel], str] = {}
    for path, model, words in _sections(Settings, ""):
        title = f"## {path}" if "." not in path else f"### {path}"
        parts += [title, "", " ".join(filter(None, (_words(model), words))), ""]
        if model in seen:
            parts += [f"The settings are those of `{seen[model]}`.", ""]
            continue
        seen[model] = path
        if table := _table(model):
            parts += [table, ""]
    return "\n".join(parts).rstrip() + "\n"


def _sections(
    model: type[BaseModel], prefix: str, seen: set[type[BaseModel]] | None = None
) -> Iterator[tuple[str, type[BaseModel], str]]:
    """Path, model and the words of its field, outer sections first; what lies in a model is told once."""
    seen = set() if seen is None else seen
    words = _field_words(model)
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if inner is None:
            continue
        path = f"{prefix}{name}{_place(field.annotation)}"
        absent = "Absent by default." if not field.is_required() and field.default is None else ""
        yield path, inner, " ".join(filter(None, (words.get(name), absent)))
        if inner not in seen:
            seen.add(inner)
            yield from _sections(inner, f"{path}.", seen)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for part in typing.get_args(annotation):
        if found := _model_in(part):
            return found
    return None


def _place(annotation: Any) -> str:
    """Where a section lies inside its setting: ``.NAME`` in a mapping, ``[]`` in a list."""
    origin = typing.get_origin(annotation)
    if origin is dict:
        return ".NAME"
    if origin in (list, tuple):
        return "[]"
    found = [_place(part) for part in typing.get_args(annotation)]
    return next((one for one in found if one), "")


def _table(model: type[BaseModel]) -> str:
    """The settings that are no sections; empty where there are none."""
    words = _field_words(model)
    rows = [(name, field) for name, field in model.model_fields.items() if _model_in(field.annotation) is None]
    lines = ["| Setting | Type | Default | Meaning |", "|---|---|---|---|"] if rows else []
    for name, field in rows:
        cells = (f"`{name}`", _type(field), _default(field), words.get(name, ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _words(model: type[BaseModel]) -> str:
    return _plain(inspect.getdoc(model) or "")


def _plain(text: str) -> str:
    """One paragraph of Markdown from a docstring."""
    return re.sub(r"\s+", " ", text).strip().replace("``", "`")


def _field_words(model: type[BaseModel]) -> dict[str, str]:
    """The string below each field, in the class and those that it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not (issubclass(cls, BaseModel) and cls is not BaseModel):
            continue
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in zip(definition.body, definition.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[field.target.id] = _plain(below.value.value)
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value, ensure_ascii=False, default=str)}`"


def _type(field: FieldInfo) -> str:
    limits = [text for one in field.metadata for text in _limits(one)]
    return ", ".join([_name(field.annotation), *limits])


def _name(annotation: Any) -> str:
    """An annotation as people say it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        limits = [text for one in arguments[1:] for text in _limits(one)]
        return ", ".join([_name(arguments[0]), *limits])
    if origin is typing.Literal:
        return " or ".join(f"`{json.dumps(one)}`".replace('"', "") for one in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_name(one) for one in arguments)
    if origin is dict:
        return f"mapping of {_name(arguments[0])} to {_name(arguments[1])}"
    if origin in (list, tuple):
        return f"list of {_name(arguments[0])}"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "anything"}
    if annotation in names:
        return names[annotation]
    return str(annotation)


def _limits(constraint: Any) -> Iterator[str]:
    if isinstance(constraint, FieldInfo):
        for one in constraint.metadata:
            yield from _limits(one)
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    for name, word in words.items():
        if getattr(constraint, name, None) is not None:
            yield f"{word} {getattr(constraint, name):g}"
    if getattr(constraint, "pattern", None):
        yield f"like `{constraint.pattern}`"
