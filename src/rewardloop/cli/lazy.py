"""A group of commands whose modules are imported when one of them is called.

In: name -> (where it is, its line in the overview). Out: a group for Typer. Most commands import pydantic's models of
the whole configuration; whoever asks for help, or for one command, need not wait for all of them.
"""

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, cast

import typer
from typer.core import TyperGroup
from typer.main import get_group

Commands = Mapping[str, tuple[str, str]]
"""Name -> (``module:function`` or ``module:app`` inside ``rewardloop.cli``, one line)."""


class _Loaded(Mapping[str, Any]):
    """The commands themselves, each made when it is asked for."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def __getitem__(self, name: str) -> Any:
        place, _ = self._commands[name]
        module, _, attribute = place.partition(":")
        found = getattr(importlib.import_module(f"rewardloop.cli.{module}"), attribute)
        holder = typer.Typer(rich_markup_mode=None, add_completion=False)
        holder.callback()(_nothing)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=name)
        else:
            holder.command(name)(found)
        return get_group(holder).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._commands)

    def __len__(self) -> int:
        return len(self._commands)


class LazyGroup(TyperGroup):
    """Subclasses name their commands."""

    table: ClassVar[Commands] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # The base class only reads it.
        self.commands = cast(MutableMapping[str, Any], _Loaded(self.table))

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the table."""
        del ctx
        return list(self.table)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The overview, from the table alone."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.table.items()])


def _nothing() -> None:
    """A group of one command stays a group."""
