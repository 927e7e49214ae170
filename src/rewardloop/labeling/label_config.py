"""The labeling configuration of Label Studio for pairs and rankings, with guidelines and criteria.

In: the section ``labeling``. Out: XML. What the tags are called is what ``importers/label_studio_tasks.py`` reads.
"""

import re
from xml.etree.ElementTree import Element, SubElement, indent, tostring  # nosec B405 - nothing is parsed

from rewardloop.config import LabelingSettings
from rewardloop.config.labeling import tag_name
from rewardloop.errors import BadInputError
from rewardloop.feedback.task_keys import ANSWERS, COMPARISON, ITEMS, PROMPT, RANK, TIE, TaskKind

_TAGS = {PROMPT, *ANSWERS, ITEMS, COMPARISON, RANK, TIE}
_FRAME = "border: 1px solid #999; padding: 1em; margin-top: 1em; white-space: pre-wrap"
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def criteria_tags(settings: LabelingSettings, kind: TaskKind) -> dict[str, str]:
    """Tag -> criterion.

    Raises:
        BadInputError: a criterion has the name of another tag, or cannot be asked for in tasks of this kind.
    """
    if settings.criteria and settings.criteria_as == "comparison" and kind == "ranker":
        raise BadInputError(
            "labeling.criteria_as: comparison asks which of two answers is better; a ranking takes rating"
        )
    tags = {tag_name(criterion): criterion for criterion in settings.criteria}
    for tag in tags:
        if tag in _TAGS:
            raise BadInputError(f"labeling.criteria: {tags[tag]!r} is a part of the task; choose another word")
    return tags


def label_config(settings: LabelingSettings, kind: TaskKind) -> str:
    """The XML of a project for tasks of this kind."""
    tags = criteria_tags(settings, kind)
    view = Element("View")
    for line in settings.guidelines.splitlines():
        if line.strip():
            SubElement(view, "Header", value=_shown(line), size="5")
    if kind == "pairwise":
        _pair(view, settings, tags)
    else:
        _ranking(view, settings, tags)
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


def _pair(view: Element, settings: LabelingSettings, tags: dict[str, str]) -> None:
    SubElement(view, "Header", value="Which answer to the prompt is better? Click on it.")
    SubElement(view, "Text", name=PROMPT, value=f"${PROMPT}")
    style = "background-color: #d7ecd9"
    SubElement(view, "Pairwise", name=COMPARISON, toName=",".join(ANSWERS), selectionStyle=style)
    side_by_side = SubElement(view, "View", style="display: flex; gap: 1em")
    for answer in ANSWERS:
        frame = SubElement(side_by_side, "View", style=f"flex: 1; cursor: pointer; {_FRAME}")
        SubElement(frame, "Text", name=answer, value=f"${answer}")
    tie = SubElement(view, "Choices", name=TIE, toName=PROMPT, choice="single")
    SubElement(tie, "Choice", value=TIE, hint="Neither answer is better")
    for tag, criterion in tags.items():
        SubElement(view, "Header", value=_shown(criterion), size="5")
        if settings.criteria_as == "comparison":
            choices = SubElement(view, "Choices", name=tag, toName=PROMPT, choice="single-radio", showInLine="true")
            for value in ("left", TIE, "right"):
                SubElement(choices, "Choice", value=value)
        else:
            beside = SubElement(view, "View", style="display: flex; gap: 1em")
            for answer in ANSWERS:
                _stars(SubElement(beside, "View", style="flex: 1"), tag, answer, settings)


def _ranking(view: Element, settings: LabelingSettings, tags: dict[str, str]) -> None:
    SubElement(view, "Header", value="Sort the answers to the prompt: the best one to the top.")
    SubElement(view, "Text", name=PROMPT, value=f"${PROMPT}")
    SubElement(view, "List", name=ITEMS, value=f"${ITEMS}", title="Answers")
    SubElement(view, "Ranker", name=RANK, toName=ITEMS)
    if not tags:
        return
    # As many answers as the task has: each copy of what stands inside has the number of its answer.
    repeated = SubElement(view, "Repeater", on=f"${ITEMS}", indexFlag="{{idx}}")
    frame = SubElement(repeated, "View", style=_FRAME)
    name = item_name("{{idx}}")
    SubElement(frame, "Text", name=name, value=f"${ITEMS}[{{{{idx}}}}].body")
    for tag, criterion in tags.items():
        SubElement(frame, "Header", value=_shown(criterion), size="6")
        _stars(frame, tag, name, settings)


def item_name(place: int | str) -> str:
    """What the answer at a place of a ranking is called, and the tag that shows it."""
    return f"answer_{place}"


def _stars(parent: Element, tag: str, answer: str, settings: LabelingSettings) -> None:
    SubElement(parent, "Rating", name=f"{tag}_{answer}", toName=answer, maxRating=str(settings.rating_stars))


def _shown(text: str) -> str:
    """Text for an attribute: without characters that XML has not, and without names of data (``$name``)."""
    # A word joiner is not seen, and Label Studio no longer takes what follows for the name of a field.
    return re.sub(r"\$(?=\w)", "$\u2060", _NO_XML.sub("", text))
