"""Tables of files for the importer that will read them: rows, or one whole text.

In: sources, and the name of a format. Out: ``Table`` s. A format that is no table and no JSON (XML, a table without a
header) is read by its importer from ``Table.text``; looking for rows in it would fail, or find nonsense.
"""

from collections.abc import Iterable

from rewardloop.feedback.importers.base import reads_whole
from rewardloop.feedback.importers.table import Table
from rewardloop.feedback.reading import Source
from rewardloop.storage import Storage


def tables_of(sources: Iterable[Source], format: str, store: Storage | None = None) -> list[Table]:
    """One table per source.

    Raises:
        BadInputError: as ``Table.of``.
    """
    if reads_whole(format):
        return [whole_table(source, store) for source in sources]
    return [Table.of(source, store) for source in sources]


def whole_table(source: Source, store: Storage | None = None) -> Table:
    """A table of which only name and text are known."""
    return Table(source.name, source, "table", (), store)
