"""What a corpus, or a sample of it, tells about labelers, agreement and segments: evidence for people.

In: feedback and what labelers were found to be worth. Out: the lines of ``PreferenceEvidence`` that rest on them.
"""

import polars as pl

from rewardloop.config import PreferenceSettings
from rewardloop.evidence import AgreementLine, Evidence, LabelerLine, SegmentLine
from rewardloop.preferences.agreement_gate import agreement_lines, within_segments
from rewardloop.preferences.controls import control_shares
from rewardloop.preferences.labelers import labeler_lines
from rewardloop.preferences.model_labelers import feedback_of_people
from rewardloop.preferences.opinions import Opinions
from rewardloop.preferences.segments import segment_lines


class Told(Evidence):
    """As of ``PreferenceEvidence``."""

    agreement: list[AgreementLine]
    labelers: list[LabelerLine]
    labelers_total: int
    reliability: str
    segments: list[SegmentLine]


def tell(feedback: pl.DataFrame, wanted: PreferenceSettings, opinions: Opinions) -> Told:
    """Evidence on labelers, agreement and segments.

    Args:
        feedback: FEEDBACK rows with ``batch``.
        wanted: the section ``preferences``.
        opinions: what was found of the labelers.

    Raises:
        BadInputError: ``preferences.min_agreement`` names a criterion without labels.
    """
    people = feedback_of_people(feedback)
    right = control_shares(feedback, wanted.criterion)
    return Told(
        agreement=agreement_lines(people, wanted),
        labelers=[
            line.model_copy(update={"controls": right.get(line.labeler)}) for line in labeler_lines(opinions.labelers)
        ],
        labelers_total=len(opinions.labelers),
        reliability=opinions.words,
        segments=segment_lines(
            feedback, wanted.criterion, wanted.segments, within_segments(people, wanted.criterion), opinions.between
        ),
    )
