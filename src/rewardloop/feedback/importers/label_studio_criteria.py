"""Labels of single criteria beside the main verdict of a Label Studio annotation: how coherent, how correct.

In: an annotation's results, the names of the criteria's tags and what the project calls the answers. Out: one label per
criterion. A ``Rating`` says nothing of which answer it rates but by its tag: the object it is connected to
(``to_name``), the item it stands at (``item_index``), or the end of its name (``coherence_answer1``).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rewardloop.feedback.importers.base import LabelOptions, RowError, Scale
from rewardloop.feedback.importers.label_studio_annotations import choices_of, value_of
from rewardloop.feedback.importers.named_answers import Names, about
from rewardloop.feedback.importers.table import number, shown
from rewardloop.records import Choice, Label, Ranking, Rating

Verdict = Literal["left", "right", "tie"]


class CriteriaOptions(LabelOptions):
    """``criteria``: names of tags whose results are labels of their own; ``scale``: of their ratings."""

    criteria: Names = ()
    scale: Scale = None


class Answers(NamedTuple):
    """What the results of an annotation call the answers."""

    tags: Mapping[str, str]
    """Tag name, data key or item id -> response id."""
    items: Sequence[str] = ()
    """Response ids in the order in which the items stand in the task."""


def main_results(results: list[dict[str, Any]], kind: str, options: CriteriaOptions) -> list[dict[str, Any]]:
    """The results of type ``kind`` that are no criterion's."""
    return [one for one in results if one.get("type") == kind and one.get("from_name") not in options.criteria]


def criterion_results(results: list[dict[str, Any]], kind: str, options: CriteriaOptions) -> dict[str, dict[str, Any]]:
    """The results of type ``kind`` of the criteria's tags by criterion.

    Raises:
        RowError: a tag has two results.
    """
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        name = result.get("from_name")
        if result.get("type") != kind or name not in options.criteria:
            continue
        if name in found:
            raise RowError(f"has two results of the tag {shown(name)}; expected one")
        found[str(name)] = result
    return found


def verdict_label(verdict: Verdict, left: str, right: str, fields: dict[str, Any]) -> Label:
    """The label of a comparison; a tie is two equal ranks."""
    if verdict == "tie":
        return Ranking(ranks={left: 1, right: 1}, **fields)
    chosen, rejected = (left, right) if verdict == "left" else (right, left)
    return Choice(chosen=chosen, rejected=rejected, **fields)


def comparisons(
    results: list[dict[str, Any]],
    sides: tuple[str, str],
    tie: str | None,
    labeler: str | None,
    options: CriteriaOptions,
) -> list[Label]:
    """Labels of the criteria that ``Pairwise`` or ``Choices`` tags ask for: left, right or a tie.

    ``sides``: ids of the left and the right response.
    """
    selected = {
        name: value_of(result).get("selected")
        for name, result in criterion_results(results, "pairwise", options).items()
    }
    for name, result in criterion_results(results, "choices", options).items():
        chosen = choices_of([result])
        if name in selected or len(chosen) != 1:
            raise RowError(f"{name}: has {len(chosen) + (name in selected)} answers; expected one")
        selected[name] = chosen[0]
    return [
        verdict_label(_side(name, value, tie), *sides, about(labeler, options, name))
        for name, value in selected.items()
    ]


def _side(criterion: str, selected: Any, tie: str | None) -> Verdict:
    if selected == "left" or selected == "right":
        return "left" if selected == "left" else "right"
    if tie is not None and selected == tie:
        return "tie"
    also = "or name the value of ties: --option tie=VALUE" if tie is None else f"or {shown(tie)} for ties"
    raise RowError(f"{criterion}: found {shown(selected)}; expected 'left' or 'right', {also}")


def ratings(
    results: list[dict[str, Any]], answers: Answers, labeler: str | None, options: CriteriaOptions
) -> list[Label]:
    """Labels of the criteria that ``Rating`` tags ask for: one per criterion with the scores of its answers."""
    scores: dict[str, dict[str, float]] = {}
    for result in results:
        if result.get("type") != "rating":
            continue
        criterion, response = _rated(result, answers, options)
        if criterion is None:
            continue
        if response is None:
            known = ", ".join(answers.tags)
            raise RowError(
                f"{criterion}: a rating of {shown(result.get('to_name'))} does not tell which answer it is about; "
                f"expected a tag that is connected to one of {known}, or whose name ends in it"
            )
        given = scores.setdefault(criterion, {})
        if response in given:
            raise RowError(f"{criterion}: has two ratings of one answer; expected one")
        given[response] = number(value_of(result).get("rating"), criterion, options.scale)
    return [
        Rating(scores=given, scale=options.scale, **about(labeler, options, criterion))
        for criterion, given in scores.items()
    ]


def _rated(result: dict[str, Any], answers: Answers, options: CriteriaOptions) -> tuple[str | None, str | None]:
    """(criterion or None where the tag is none's, id of the rated response or None where nothing tells it)."""
    name, index = result.get("from_name"), result.get("item_index")
    for criterion in options.criteria:
        if name == criterion:
            if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < len(answers.items):
                return criterion, answers.items[index]
            return criterion, answers.tags.get(str(result.get("to_name")))
        for tag, response in answers.tags.items():
            if name in (f"{criterion}_{tag}", f"{criterion}-{tag}"):
                return criterion, response
    return None, None
