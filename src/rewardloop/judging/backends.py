"""What answers a judge's questions: an endpoint, or a model of this machine.

In: a question. Out: its answer, or why this one cannot be answered.
"""

from typing import Protocol

from rewardloop.judging.cache import Answer
from rewardloop.judging.limits import Budget
from rewardloop.judging.questions import Question


class UnanswerableError(Exception):
    """This question cannot be answered, in words; others may be."""


class Backend(Protocol):
    """A model that judges."""

    @property
    def identity(self) -> dict[str, object]:
        """The model and how it is asked: part of the labeler's id."""

    @property
    def place(self) -> str:
        """Where it is asked: two places may serve different models under one name."""

    @property
    def budget(self) -> Budget:
        """What was asked and what it cost."""

    @property
    def concurrent(self) -> int:
        """Questions to ask at a time."""

    def answer(self, question: Question) -> Answer:
        """Ask.

        Raises:
            UnanswerableError: this question cannot be answered.
            BudgetSpentError: asking could cost more than is left.
            RewardloopError: no question can be answered now.
        """

    def stop(self) -> None:
        """Ask nothing again from now on."""
