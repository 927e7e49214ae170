"""Output manifests of Amazon SageMaker Ground Truth: one object of JSON per line, with a label and its ``-metadata``.

In: lines whose columns, or the object in ``source``, hold the responses. Out: one feedback group per label: what Ground
Truth consolidated from its workers (one label of nobody in particular), or what each worker said
(``annotationsFromAllWorkers`` of custom tasks).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from rewardloop.config import ValidationSettings
from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.base import (
    WITHHELD,
    Column,
    LabelerId,
    Outcome,
    Rejected,
    Repeated,
    Row,
    RowError,
    Skipped,
    Taken,
    importer,
)
from rewardloop.feedback.importers.ground_truth_answers import (
    TWIN,
    GroundTruthOptions,
    Worker,
    annotations_of,
    answer_in,
    consolidated,
    fields_of,
    kind_of_labeler,
    labels_of,
    worker_of,
)
from rewardloop.feedback.importers.named_answers import (
    NO_ANNOTATION,
    kept,
    kind_of,
    prompt_of,
    response_fields,
    responses_in,
    task_content_id,
)
from rewardloop.feedback.importers.table import Record, Table, raw_row, shown
from rewardloop.records import FeedbackGroup, Label

EXPIRED = "expired before anybody labeled them"
UNSURE = "below the lowest confidence"

_TYPE = "groundtruth/"
_TIME = TypeAdapter(datetime)


class ManifestOptions(GroundTruthOptions):
    """``label`` is the label attribute, by default the only one with a ``-metadata`` twin.

    ``min_confidence``: consolidated labels below it are counted and left out; by default confidence is not looked at.
    """

    label: Column = ""
    min_confidence: float | None = None


def _attributes(values: Mapping[str, Any]) -> list[str]:
    """Label attributes of a line: the names that a ``-metadata`` twin of Ground Truth's belongs to."""
    return [name.removesuffix(TWIN) for name, value in values.items() if name.endswith(TWIN) and _is_twin(value)]


def _is_twin(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return str(value.get("type", "")).startswith(_TYPE) or "failure-reason" in value


def _recognizes(table: Table, options: ManifestOptions) -> str | None:
    found = [_attributes(record.values) for record in table.first]
    if not all(found) or table.shape == "table":
        return None
    return f"its lines have labels with metadata of Ground Truth ({found[0][0][:40] + TWIN!r})"


@importer(
    "ground-truth", "output manifests of SageMaker Ground Truth", ManifestOptions, recognizes=_recognizes, votes=True
)
def ground_truth(table: Table, options: ManifestOptions, limits: ValidationSettings) -> Iterator[Outcome]:
    """A consolidated label is a row, and so is each worker's annotation."""
    name = options.label or _only_attribute(table)
    for record in table.rows():
        if isinstance(record, Rejected):
            yield record
        else:
            yield from _outcomes(record, name, options)


def _only_attribute(table: Table) -> str:
    found = dict.fromkeys(
        name for record in table.rows() if isinstance(record, Record) for name in _attributes(record.values)
    )
    if len(found) != 1:
        names = ", ".join(name[:40] for name in list(found)[:8]) or f"none with a {TWIN} twin of Ground Truth's"
        raise BadInputError(f"{table.name}: found the labels {names}; name one: --column label=NAME")
    return next(iter(found))


def _outcomes(record: Record, name: str, options: ManifestOptions) -> Iterator[Outcome]:
    metadata = record.values.get(name + TWIN)
    value = record.values.get(name)
    row = _row(record, name, options)
    try:
        if not isinstance(metadata, dict):
            raise RowError(f"{name}{TWIN}: found {kind_of(metadata)}; expected an object")
        reason = _not_labeled(name, value, metadata, options)
        annotations = None if reason else annotations_of(value, name)
        if annotations == []:
            reason = NO_ANNOTATION
        answer = None if reason or annotations else consolidated(value, metadata, options)
    except RowError as error:
        yield Rejected(row, str(error))
        return
    if reason:
        yield Skipped(row, reason)
    elif annotations is None:
        yield _taken_or_rejected(record, Worker(None, answer), name, metadata, row, options)
    else:
        yield from _of_workers(record, annotations, name, metadata, options)


def _not_labeled(name: str, value: Any, metadata: Mapping[str, Any], options: ManifestOptions) -> str | None:
    """Why a line has no label to learn from, if it says so itself.

    Raises:
        RowError: Ground Truth failed for another reason than that nobody came.
    """
    failure = metadata.get("failure-reason")
    if failure is not None:
        if "expired" in str(failure)[:200]:
            return EXPIRED
        raise RowError(f"Ground Truth gives no label: {shown(failure)}")
    if value is None:
        return NO_ANNOTATION
    confidence = metadata.get("confidence")
    if options.min_confidence is None or isinstance(value, dict):
        return None
    if isinstance(confidence, bool) or not isinstance(confidence, int | float):
        raise RowError(f"{name}{TWIN}: confidence: found {shown(confidence)}; expected a number")
    return UNSURE if confidence < options.min_confidence else None


def _of_workers(
    record: Record, annotations: list[Any], name: str, metadata: Mapping[str, Any], options: ManifestOptions
) -> Iterator[Outcome]:
    said: dict[str, Any] = {}
    for number, annotation in enumerate(annotations, start=1):
        row = _row(record, name, options)
        try:
            worker = worker_of(annotation)
            row = _row(record, name, options, Worker(worker.id, WITHHELD))
            answer = answer_in(worker.content, options)
            row = _row(record, name, options, Worker(worker.id, answer))
        except RowError as error:
            yield Rejected(row, f"annotation {number}: {error}")
            continue
        before = said.setdefault(worker.id, answer) if worker.id is not None else answer
        if before is not answer:
            yield (
                Repeated(row)
                if before == answer
                else Rejected(
                    row, f"annotation {number}: its worker says otherwise in an earlier annotation of the line"
                )
            )
            continue
        yield _taken_or_rejected(record, Worker(worker.id, answer), name, metadata, row, options)


def _taken_or_rejected(
    record: Record, said: Worker, name: str, metadata: Mapping[str, Any], row: Row, options: ManifestOptions
) -> Outcome:
    try:
        return Taken(_group(record, said, name, metadata, options), (row,))
    except RowError as error:
        return Rejected(row, str(error))


def _group(
    record: Record, said: Worker, name: str, metadata: Mapping[str, Any], options: ManifestOptions
) -> FeedbackGroup:
    fields = fields_of(record.values, name, options)
    responses, prompt = responses_in(fields, options), prompt_of(fields, options)
    labels: list[Label] = labels_of(
        said.content,
        [response.response_id for response in responses],
        name,
        {
            "labeler": said.id,
            "labeler_kind": kind_of_labeler(metadata, options.labeler_kind),
            "criterion": options.criterion,
        },
        options,
    )
    segment = fields.get(options.segment)
    return FeedbackGroup(
        group_id=task_content_id(prompt, responses),
        prompt=prompt,
        responses=responses,
        labels=tuple(labels),
        labeled_at=_time(metadata),
        segment=segment if isinstance(segment, str) and segment else options.default_segment,
        source=options.source,
        sampling=options.sampling,
    )


def _time(metadata: Mapping[str, Any]) -> datetime | None:
    """``creation-date``; it comes without a time zone and is taken for UTC."""
    value = metadata.get("creation-date")
    if value is None:
        return None
    try:
        time = _TIME.validate_python(value)
    except ValidationError:
        raise RowError(f"creation-date: found {shown(value)}; expected a time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _row(record: Record, name: str, options: ManifestOptions, worker: Worker | None = None) -> Row:
    """The row for quarantine: what was asked and one worker's answer; all else may name a person."""
    keep = {"source", "source-ref", options.prompt, options.segment, *response_fields(record.values, options)}
    row = raw_row(record, keep=keep)
    raw = {key: kept(value) for key, value in (row.raw or {}).items()}
    value, metadata = record.values.get(name), record.values.get(name + TWIN)
    if not isinstance(value, dict | list):
        raw[name] = value
    if isinstance(metadata, dict):
        shown_keys = ("class-name", "confidence", "human-annotated", "creation-date", "failure-reason", "type")
        raw[name + TWIN] = {key: kept(metadata[key]) for key in shown_keys if key in metadata}
    if worker is not None:
        raw["workerId"] = None if worker.id is None else LabelerId(worker.id)
        raw["answer"] = kept(worker.content)  # the rest of what was submitted may name a person
    return Row(record.place, raw)
