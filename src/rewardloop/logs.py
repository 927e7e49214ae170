"""Log lines of rewardloop's processes: readable on a terminal, one JSON object a line in a container.

In: ``REWARDLOOP_LOG_FORMAT`` (``json`` or ``text``), else where the process runs. Out: lines on stderr with the fields
``ts``, ``level``, ``logger``, ``message`` and, where they are known, ``step`` and ``run_id``; an exception's text is
``exception``.
"""

import json
import logging
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from rewardloop.errors import BadInputError

FORMAT = "REWARDLOOP_LOG_FORMAT"
_IN_A_POD = "KUBERNETES_SERVICE_HOST"
_RUN_DIR = "REWARDLOOP_RUN_DIR"
_KFP_RUN = "KFP_RUN_ID"
_NAME = "rewardloop"


class JsonFormatter(logging.Formatter):
    """One JSON object a line; ``extra={"fields": {...}}`` of a log call adds fields of its own."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__()
        self.fields = fields

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= self.fields | getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """``2026-01-31 12:00:00Z warning rewardloop.storage: message``."""

    def __init__(self) -> None:
        self.converter = time.gmtime
        super().__init__("%(asctime)s %(level)s %(name)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        """The record as text; a traceback follows on lines of its own."""
        record.level = record.levelname.lower()
        return super().format(record)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at that moment, and is known again by its type."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self.stream = sys.stderr
        super().emit(record)


def _as_json() -> bool:
    """As the variable says, else in a pod, unless somebody looks at a terminal."""
    wanted = os.environ.get(FORMAT, "")
    if wanted not in ("", "json", "text"):
        raise BadInputError(f"{FORMAT}: found {wanted!r}; expected json or text")
    return not sys.stderr.isatty() and (wanted == "json" or (not wanted and _IN_A_POD in os.environ))


def set_up_logging(*, step: str | None = None) -> bool:
    """Give the process its log lines; called again, it changes what the lines say of the step.

    Returns whether lines are JSON.

    As text, rewardloop's own loggers are shown. As JSON, warnings of libraries are lines too: whoever collects a
    container's stderr wants no other kind.

    Args:
        step: the step this process is; it is a field of every line.

    Raises:
        BadInputError: ``REWARDLOOP_LOG_FORMAT`` holds an unknown word.
    """
    json_lines = _as_json()
    handler = _Handler()
    handler.setFormatter(JsonFormatter(_fields(step)) if json_lines else TextFormatter())
    root, own = logging.getLogger(), logging.getLogger(_NAME)
    for logger in (root, own):
        for old in [one for one in logger.handlers if isinstance(one, _Handler)]:
            logger.removeHandler(old)
    for other in [one for one in root.handlers if _is_console(one)]:  # KFP's executor has one
        if json_lines:
            root.removeHandler(other)
        else:
            other.addFilter(_of_others)
    (root if json_lines else own).addHandler(handler)
    logging.captureWarnings(json_lines)
    if own.level == logging.NOTSET:
        own.setLevel(logging.INFO)
    return json_lines


def _is_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr)


def _of_others(record: logging.LogRecord) -> bool:
    """Ours have a line already."""
    return record.name.partition(".")[0] != _NAME


def _fields(step: str | None) -> dict[str, str]:
    folder = os.environ.get(_RUN_DIR)
    run_id = Path(folder).name if folder else os.environ.get(_KFP_RUN, "")
    return {name: value for name, value in (("step", step), ("run_id", run_id)) if value}
