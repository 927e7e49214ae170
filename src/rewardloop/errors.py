"""The errors a user can meet, each with the exit code the command line ends with.

Every message names the place, the value found and the mend. An error of any other type is a defect of rewardloop.
"""

from typing import ClassVar


class RewardloopError(Exception):
    """An error that the command line prints without a traceback."""

    exit_code: ClassVar[int] = 1


class BadInputError(RewardloopError):
    """What came in cannot be used: a file, a configuration, a batch, a model name, a server, a disk."""

    exit_code: ClassVar[int] = 2


class NotBlessedError(RewardloopError):
    """The candidate did not pass the gate; nothing was registered."""

    exit_code: ClassVar[int] = 3
