"""The status as people read it.

In: a ``StatusReport``. Out: lines of text; what needs somebody's decision comes with the command for it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from rewardloop.operation.status_report import ClaimLine, StatusReport, VersionLine


def table(report: StatusReport) -> str:
    """The report as people read it."""
    waits = report.pending
    oldest = f", the oldest from {_time(waits.oldest_at)}" if waits.oldest_at else ""
    lines = [
        f"{report.organization}, {_time(report.at)}",
        f"New labels      {waits.labels:,} in {waits.batches:,} batches{oldest} (a run starts at {waits.needed:,})",
    ]
    for one in report.champions:
        forced = " FORCED" if one.forced else ""
        lines.append(
            f"Champion        {one.model} version {one.version}, threshold {_number(one.threshold)}; before it "
            f"{one.previous or 'none'}; {one.action}{forced} {one.since} by {one.who}: {one.why}"
        )
    lines += _waiting(report)
    if report.drift:
        word = "drifted" if report.drift.drifted else "no drift"
        why = f": {report.drift.reasons[0]}" if report.drift.reasons else ""
        lines.append(f"Drift           {word}, version {report.drift.version}, {_time(report.drift.at)}{why}")
    next_start = f"{_time(report.next_start)} where the schedule is deployed" if report.next_start else "no schedule"
    lines.append(f"Next start      {next_start}")
    lines += _rows("Claims", (_claim_cells(one, report.at) for one in report.claims if one.state != "finished"))
    lines += _rows("Runs", ((one.run_id, one.status, one.started_at, one.reason) for one in report.runs))
    lines += _rows("Versions", (_version_cells(one) for one in report.versions))
    lines += [f"Warning: {problem}" for problem in report.problems]
    return "\n".join(lines)


def _waiting(report: StatusReport) -> list[str]:
    lines = []
    for one in report.versions:
        option = " --policy" if one.model.endswith("-policy") else ""
        if one.waiting:
            lines.append(
                f"Approval        {one.model} version {one.version} waits: rewardloop approve {one.version}{option} "
                "--reason WHY"
            )
        if one.reward_model_rolled_back is not None and "champion" in one.aliases:
            lines.append(
                f"Flagged         {one.model} version {one.version}, the champion, is aligned to a reward model that "
                f"was rolled back (history {one.reward_model_rolled_back}): rewardloop rollback{option} --reason WHY"
            )
    return lines


def _claim_cells(claim: ClaimLine, now: datetime) -> tuple[str, ...]:
    silent = timedelta(seconds=round((now - claim.last_beat).total_seconds()))
    return claim.run_id, claim.state, claim.owner, f"last heartbeat {silent} ago", claim.reason


def _version_cells(one: VersionLine) -> tuple[str, ...]:
    notes = [*one.aliases]
    notes += ["waiting"] if one.waiting else []
    notes += [] if one.blessed else ["not blessed"]
    notes += ["forced"] if one.forced else []
    notes += [] if one.rolled_back is None else [f"rolled back (history {one.rolled_back})"]
    notes += [] if one.reward_model_rolled_back is None else ["its reward model was rolled back"]
    accuracy = "" if one.accuracy is None else f"accuracy {one.accuracy:.3f}"
    return one.model, one.version, f"threshold {_number(one.threshold)}", accuracy, ", ".join(notes)


def _rows(name: str, rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell, below a heading; nothing without rows."""
    cells = list(rows)
    if not cells:
        return []
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    return [name, *("  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)]


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:+.3f}"


def _time(moment: datetime | None) -> str:
    return "never" if moment is None else moment.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
