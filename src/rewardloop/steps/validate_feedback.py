"""Great Expectations judge every batch of the corpus: bad rows go to quarantine, a bad batch stops the run.

In: the corpus. Out: its rows without the bad ones, Great Expectations' Data Docs, and rows in the store's quarantine. A
refused batch is marked in the store and left out of later corpora, so that it never blocks the loop. A batch that was
judged under the same limits before is not judged again (``rewardloop.feedback.verdicts``).
"""

import json
from pathlib import Path

from rewardloop.config import PreferenceSettings, ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.evidence import BatchVerdict, CorpusEvidence, ValidationEvidence
from rewardloop.feedback.store import FeedbackStore
from rewardloop.feedback.validation import BatchResult
from rewardloop.feedback.verdicts import Verdicts
from rewardloop.kept import Kept
from rewardloop.snapshots import Snapshot, hand_on, read_snapshot
from rewardloop.steps.step_run import StepRun, step_run

_SHOWN = 3


def validate_feedback(
    *,
    corpus: Path,
    store: str,
    settings: str,
    code_version: str,
    validated: Path,
    data_docs: Path,
    verdicts_count: bool = True,
) -> None:
    """Validate each batch alone.

    Args:
        corpus: output of ``load_corpus``.
        store: URL of the feedback store, for quarantine and refusals.
        settings: JSON with the sections ``validation`` and ``preferences``.
        code_version: fingerprint of the code; part of the pipeline's cache key.
        validated: output folder.
        data_docs: output folder of Great Expectations' own pages.
        verdicts_count: False: nothing is quarantined or refused in the store, and every batch is kept. For looking
            again at a corpus that a run accepted, maybe under other limits than those of now.

    Raises:
        BadInputError: a batch is refused (all of them are named), no row is left, or no batch has labels on the trained
            criterion (nothing is refused then: the configuration is to blame).
    """
    del code_version  # known to the cache, not to the work
    sections = json.loads(settings)
    limits = ValidationSettings.model_validate(sections["validation"])
    criterion = PreferenceSettings.model_validate(sections["preferences"]).criterion
    with step_run("validate_feedback", inputs=[corpus], output=validated) as run:
        about = CorpusEvidence.model_validate_json((corpus / "evidence" / "corpus.json").read_bytes())
        accepted = {line.digest: line.accepted_by for line in about.batches}
        snapshot = read_snapshot(corpus)
        opened = FeedbackStore.open(store)
        verdicts = Verdicts(snapshot, Kept(opened.storage), limits, criterion, data_docs)
        _check_criterion(verdicts.criteria, criterion)
        results = verdicts.results()
        if verdicts_count:
            verdicts.quarantine(opened)
        refused = [
            result for result in results if verdicts_count and result.reasons and not accepted.get(result.digest)
        ]
        _write_evidence(run, results, {result.digest for result in refused}, accepted, limits)
        for result in refused:
            opened.refuse(result.digest, result.reasons)
        if refused:
            raise BadInputError(_explain(refused, about, snapshot))
        kept = sum(len(result.kept) for result in results)
        lost = sum(len(result.failed) for result in results)
        if not kept:
            raise BadInputError("validate_feedback: every row is in quarantine, nothing is left to train on")
        hand_on(snapshot, validated, {result.digest: [row for row, _ in result.failed] for result in results})
        passed = sum(line.passed for result in results for line in result.lines)
        checks = sum(len(result.lines) for result in results)
        run.produced = f"{kept:,} groups kept, {lost:,} quarantined; {passed} of {checks} expectations met"


def _check_criterion(found: list[str], criterion: str) -> None:
    if criterion not in found:
        raise BadInputError(
            f"preferences.criterion: found {criterion!r}, on which no batch has labels; "
            f"expected one of {', '.join(map(repr, found)) or 'none: there are no labels at all'}"
        )


def _write_evidence(
    run: StepRun,
    results: list[BatchResult],
    refused: set[str],
    accepted: dict[str, str | None],
    limits: ValidationSettings,
) -> None:
    counts: dict[str, int] = {}
    for result in results:
        for _, reason in result.failed:
            counts[reason] = counts.get(reason, 0) + 1
    kept = sum(len(result.kept) for result in results)
    run.write(
        "validation",
        ValidationEvidence(
            groups_in=kept + sum(len(result.failed) for result in results),
            groups_kept=kept,
            quarantined=counts,
            batches=[
                BatchVerdict(
                    digest=result.digest,
                    groups=len(result.kept) + len(result.failed),
                    quarantined=len(result.failed),
                    limit=limits.max_failed_share,
                    refused=result.digest in refused,
                    accepted_by=accepted.get(result.digest),
                    reasons=result.reasons,
                )
                for result in results
            ],
            expectations=[line for result in results for line in result.lines],
        ),
    )


def _explain(refused: list[BatchResult], about: CorpusEvidence, snapshot: Snapshot) -> str:
    sources = {line.digest: line.source for line in about.batches}
    parts = []
    for result in refused:
        batch = next(batch for batch in snapshot.batches if batch.digest == result.digest)
        place = snapshot.scan_batch(batch).select("place").collect()["place"]
        bad = [f"{place[row]}: {reason}" for row, reason in result.failed[:_SHOWN]]
        more = len(result.failed) - len(bad)
        title = f"batch {result.digest[:12]} ({sources.get(result.digest, '?')}) is refused:"
        parts.append("\n  ".join([title, *result.reasons, *bad, *([f"and {more:,} rows more"] if more else [])]))
    commands = "\n  ".join(f"rewardloop accept {result.digest[:12]} --reason WHY" for result in refused)
    them = "it" if len(refused) == 1 else "them"
    return (
        "\n".join(parts) + f"\nThe next run goes on without {them}. To mend a batch, correct its file and ingest it "
        f"again; to use it all the same:\n  {commands}"
    )
