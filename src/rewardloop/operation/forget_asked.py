"""What a forgetting is asked for, and what it reports.

In: the options of ``rewardloop forget``. Out: what they mean to ``rewardloop.operation.forget``, and what became of it.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Subject:
    """Whom or what; ``texts`` are SHA-256 (hex) of texts as they are, of normalized texts, or of whole prompts."""

    labelers: frozenset[str] = frozenset()
    """Pseudonyms."""
    texts: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.labelers or self.texts)


@dataclass(frozen=True)
class Asked:
    """How it is asked for."""

    subject: Subject
    by: str
    reason: str
    dry_run: bool = False
    wait: bool = False
    """For runs that are under way, in place of refusing."""
    take_over: bool = False
    """Go on with what a process of another machine began: it is surely gone."""
    despite: frozenset[str] = frozenset()
    """Ids of runs that are surely not at work."""


@dataclass(frozen=True)
class ForgetReport:
    """What went and what is left; of a dry run: what would go."""

    dry_run: bool
    sequence: int | None
    """None: nothing had to be done."""
    batches: dict[str, str | None] = field(default_factory=dict)
    """Batch -> the batch in its place; None: nothing was left of it. A dry run does not say which."""
    groups: int = 0
    labels: int = 0
    quarantined: int = 0
    decisions: int = 0
    places: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)
