"""Files of an export of tasks: all of them are written, or what stands in the way is named.

In: file names with their content. Out: a folder.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from rewardloop.errors import BadInputError


def write_files(output: Path, files: Mapping[str, str], keep: Callable[[], object] = lambda: None) -> None:
    """Write the files, unless others of these names are there; ``keep`` stores a key before them.

    Raises:
        BadInputError: the folder cannot be written, or has a file of this name with other content.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if (output / name).exists() and (output / name).read_bytes() != content.encode():
                raise BadInputError(f"--output {output}: {name} is there with other content; name a new folder")
        keep()
        for name, content in files.items():
            (output / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise BadInputError(
            f"--output {output}: {error.strerror or error}; name a folder that can be written"
        ) from error
