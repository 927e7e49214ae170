"""The errors a user can meet, each with the exit code the command line ends with.

Every message names the place, the value found and the mend. An error of any other type is a defect of rewardloop.
"""

import errno
from typing import ClassVar

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class RewardloopError(Exception):
    """An error that the command line prints without a traceback."""

    exit_code: ClassVar[int] = 1


class BadInputError(RewardloopError):
    """What came in cannot be used: a file, a configuration, a batch, a model name, a server, a disk."""

    exit_code: ClassVar[int] = 2


class NotBlessedError(RewardloopError):
    """The candidate did not pass the gate; nothing was registered."""

    exit_code: ClassVar[int] = 3


def disk_error(error: OSError) -> BadInputError | None:
    """A full or read-only disk, or missing permission, as words for a user; None for any other OSError."""
    if error.errno not in _DISK:
        return None
    return BadInputError(f"{error.filename or 'disk'}: {error.strerror}; free space or correct the permissions")
