"""What an ingest did, in figures and in one line for people."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did: rows_in = rows_taken + rows_quarantined + rows_duplicate + the sum of skipped."""

    digest: str | None
    """The new batch; None when there was nothing new, and no batch was written."""
    importer: str
    importer_reason: str
    rows_in: int
    rows_taken: int
    rows_quarantined: int
    rows_duplicate: int
    groups: int
    labels: int
    labelers: int | None
    reasons: list[str]
    """The first reasons for quarantine, with their places."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Why nobody judged anything in them -> rows."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Why something inside rows that were taken is in no label -> how often."""
    redacted: dict[str, int] = field(default_factory=dict)
    """What was taken out of texts -> how often."""
    labels_forgotten: int = 0
    """Labels that were not taken, since their labeler or what they judge was forgotten."""

    @property
    def summary(self) -> str:
        """One line for people."""
        counts = f"{self.rows_quarantined:,} quarantined, {self.rows_duplicate:,} duplicates"
        counts += "".join(f", {rows:,} {reason}" for reason, rows in self.skipped.items())
        if self.digest is None:
            return f"nothing new in {self.rows_in:,} rows ({counts}): no batch was written"
        left_out = "".join(f"; left out in them: {count:,} {reason}" for reason, count in self.left_out.items())
        who = "anonymous labelers" if self.labelers is None else f"{self.labelers:,} labelers"
        return (
            f"batch {self.digest[:12]}: {self.rows_in:,} rows = {self.rows_taken:,} taken, {counts}; "
            f"{self.groups:,} groups, {self.labels:,} labels by {who}{left_out}{_protected(self)}"
        )


def _protected(report: IngestReport) -> str:
    """What was taken out; nothing where nothing was."""
    found = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.redacted.items()))
    words = f"; taken out of texts: {found}" if found else ""
    return words + (f"; {report.labels_forgotten:,} labels left out, as forgotten" if report.labels_forgotten else "")
