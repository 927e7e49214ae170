"""What must be there before anything costs money: one finding per thing looked at, and the check of the store.

In: a store's URL. Out: ``Finding``s. Those of MLflow are in ``tracking.write_check``, those of a machine in
``operation.machine``, those of a cluster and of containers in ``cli``; the step ``check_prerequisites`` and
``rewardloop doctor`` put them together.
"""

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rewardloop.errors import BadInputError
from rewardloop.storage import Storage

State = Literal["ok", "failed", "not checked"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """What it is: ``store``, ``MLflow``, ``base model``."""
    state: State
    found: str
    """What was seen, with the value of the setting; why, where it was not checked."""
    mend: str = ""
    """The setting to change; empty where there is nothing to mend."""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def check_store(url: str) -> Finding:
    """Create a file in the store, see a second creation of it refused, and remove it.

    Args:
        url: ``store.url``.
    """
    name = f".tmp-prerequisites-{secrets.token_hex(8)}"
    try:
        storage = Storage.open(url)
        new = storage.is_local and not Path(storage.root).exists()
        try:
            exclusive = storage.create(name, b"1") and not storage.create(name, b"2")
        finally:
            with contextlib.suppress(OSError):
                storage.fs.rm_file(storage.path(name))
                if new:  # looking leaves nothing behind
                    Path(storage.root).rmdir()
    except BadInputError as error:
        return failed("store", error, "store.url")
    except Exception as error:
        # Drivers have error types of their own for what storage does not know: no credentials, no such bucket.
        return Finding(
            "store", "failed", f"{url}: {_words(error)}", "store.url, or the credentials that its driver reads"
        )
    if not exclusive:
        return Finding("store", "failed", f"{url}: lets two writers create the same file", "store.url")
    return Finding("store", "ok", f"{url}: can be written, and creates a file only where it is absent")


def failed(check: str, error: Exception, mend: str) -> Finding:
    """A check that ended in an error; where the error names a mend itself, ``mend`` says the setting once more."""
    return Finding(check, "failed", _words(error), mend)


def raise_failures(findings: Sequence[Finding]) -> None:
    """Raise one error that lists every finding that failed; nothing where none did.

    Raises:
        BadInputError: at least one failed.
    """
    bad = [one for one in findings if one.state == "failed"]
    if bad:
        many = "1 prerequisite is" if len(bad) == 1 else f"{len(bad)} prerequisites are"
        lines = [f"{one.check}: {one.found} [{one.mend}]" for one in bad]
        raise BadInputError("\n  ".join([f"{many} missing", *lines]))


def _words(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else "no message"
    return text if isinstance(error, BadInputError) else f"{type(error).__name__}: {text}"
