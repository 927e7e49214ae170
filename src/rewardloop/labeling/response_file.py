"""The file that sampled responses are appended to: one line per prompt, in the order of the prompts.

In: prompts, and a function that answers some of them. Out: the file, and how many lines were there already. It may be
killed anywhere: a line that was not finished is cut off, and the same command goes on behind the last whole one.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rewardloop.errors import BadInputError
from rewardloop.labeling.sampling import Asked

Answer = Callable[[Sequence[Asked]], list[dict[str, Any]]]


def append_responses(
    output: Path,
    asked: Sequence[Asked],
    answer: Answer,
    *,
    sampled: str,
    at_once: int,
    progress: Callable[[int], object] = lambda count: None,
) -> int:
    """Append a line for each prompt that has none yet; returns how many had one.

    Args:
        output: the file.
        asked: all prompts.
        answer: lines for some prompts that follow each other.
        sampled: names models and settings; every line of the file must have it.
        at_once: prompts that are answered together. A started batch is answered again as a whole, because answers
            depend by rounding on the prompts beside them.
        progress: told how many lines are there.

    Raises:
        BadInputError: the file is another one, or cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        there = done = _whole_lines(output, asked, sampled)
        progress(done)
        with output.open("ab") as stream:
            while done < len(asked):
                start = done // at_once * at_once
                lines = answer(asked[start : start + at_once])[done - start :]
                stream.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
                stream.flush()
                os.fsync(stream.fileno())
                done += len(lines)
                progress(len(lines))
    except OSError as error:
        raise BadInputError(f"--output {output}: {error.strerror or error}; name a file that can be written") from error
    return there


@contextmanager
def alone(output: Path, home: Path) -> Iterator[None]:
    """Keep a second process from appending to the same file.

    Raises:
        BadInputError: one is at it.
    """
    name = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / f"sample-responses-{name}.lock", timeout=0):
            yield
    except Timeout:
        raise BadInputError(f"--output {output}: another process is writing it; wait, or name another file") from None


def _whole_lines(output: Path, asked: Sequence[Asked], sampled: str) -> int:
    """Check what is there, cut off a line without an end, and count the rest."""
    if not output.exists():
        return 0
    count = whole = 0
    with output.open("r+b") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            _check(output, count + 1, line, asked, sampled)
            count += 1
            whole += len(line)
        stream.truncate(whole)
    return count


def _check(output: Path, number: int, line: bytes, asked: Sequence[Asked], sampled: str) -> None:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "sampled" not in found:
        raise BadInputError(f"--output {output}: line {number} was not written by sample-responses; name a new file")
    if found["sampled"] != sampled:
        raise BadInputError(
            f"--output {output}: line {number} was sampled with other models or settings; name a new file, or take "
            "the settings of that one"
        )
    if number > len(asked) or found.get("prompt") != asked[number - 1].prompt:
        raise BadInputError(
            f"--output {output}: line {number} answers another prompt than the file of prompts has there; name a new "
            "file, or add new prompts at the end"
        )
