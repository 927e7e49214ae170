"""The errors a user can meet, each with the exit code the command line ends with.

Every message names the place, the value found and the mend, and no password. An error of any other type is a defect of
rewardloop.
"""

import errno
import re
from typing import ClassVar

# What follows a colon may hold anything up to the last @, if it is no port; without a colon there is no password, but a
# token may stand in its place.
_LOGIN = re.compile(r"""(\w://)(?:[^/?#\s'"]*:(?!\d+[/?#])[^\s'"]*|[^/?#\s'"]*)@""")
_SECRET_PARAMETER = re.compile(r"""([?&](?:\w*(?:password|passwd|secret|token)|pwd|\w*key)=)[^&\s'"]+""", re.IGNORECASE)
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


class RewardloopError(Exception):
    """An error that the command line prints without a traceback."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        """The message, without the logins of URLs in it: it may quote a setting, or a library that does."""
        return without_password(super().__str__())


class BadInputError(RewardloopError):
    """What came in cannot be used: a file, a configuration, a batch, a model name, a server, a disk."""

    exit_code: ClassVar[int] = 2


class NotBlessedError(RewardloopError):
    """The candidate did not pass the gate; nothing was registered."""

    exit_code: ClassVar[int] = 3


def without_password(text: str) -> str:
    """``text`` with *** in place of every URL's user and password, and of parameters that are named like secrets."""
    return _SECRET_PARAMETER.sub(r"\1***", _LOGIN.sub(r"\1***@", text))


def disk_error(error: OSError) -> BadInputError | None:
    """A full or read-only disk, or missing permission, as words for a user; None for any other OSError."""
    if error.errno not in _DISK:
        return None
    return BadInputError(f"{error.filename or 'disk'}: {error.strerror}; free space or correct the permissions")
