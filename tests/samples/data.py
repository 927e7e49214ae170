"""Evidence on the data of a run on film reviews."""

from rewardloop.evidence import (
    AgreementLine,
    BatchLine,
    BatchVerdict,
    CorpusEvidence,
    DividedPair,
    ExpectationLine,
    HumanComparison,
    LabelerLine,
    PreferenceEvidence,
    SegmentLine,
    SplitLine,
    ValidationEvidence,
)
from tests.samples.base import HOSTILE, estimate

BATCH, SECOND = "3f" * 32, "a7" * 32


def labeler(name: str, agreement: float, weight: float, *findings: str) -> LabelerLine:
    return LabelerLine(
        labeler=name,
        segment="Berlin",
        kind="human",
        votes=340,
        agreement=estimate(agreement, 0.05, 340),
        reliability=agreement,
        weight=weight,
        findings=list(findings),
    )


def corpus() -> CorpusEvidence:
    def line(digest: str, groups: int, day: int) -> BatchLine:
        return BatchLine(
            digest=digest,
            source=f"film-reviews-{day}.csv",
            importer="ratings-wide",
            ingested_at=f"2026-11-{day}T09:30:00+00:00",
            groups=groups,
            labels=groups * 20,
            labelers=None,
            accepted_by="maria" if day == 21 else None,
        )

    return CorpusEvidence(
        digest="c0" * 32,
        batches=[line(BATCH, 7000, 20), line(SECOND, 1405, 21)],
        left_out={"0b" * 32: "refused: 31.0% of its rows failed, at most 5.0% may"},
        groups=8405,
        labels=168_100,
    )


def comparisons() -> list[HumanComparison]:
    return [
        HumanComparison(
            policy="b1" * 32,
            run_id="20261114T101500-bbbbbbbb",
            prompts=97,
            labels=291,
            labelers=6,
            wins=58,
            ties=11,
            losses=28,
            win_rate=estimate(0.655, 0.088, 97, "prompts"),
        )
    ]


def validation(*, refused: bool = False) -> ValidationEvidence:
    def lines(batch: str, bad: int) -> list[ExpectationLine]:
        return [
            ExpectationLine(
                batch=batch,
                expectation="responses have 1 to 20,000 characters",
                level="row",
                passed=bad == 0,
                checked=7000,
                unexpected=bad,
                examples=[f"row 17: {HOSTILE}", "row 201: (empty)"][: 2 * (bad > 0)],
            ),
            ExpectationLine(
                batch=batch,
                expectation="scores are inside their scale",
                level="row",
                passed=True,
                checked=7000,
                unexpected=0,
            ),
            ExpectationLine(
                batch=batch,
                expectation="no label value has more than 95% of all labels",
                level="batch",
                passed=not refused,
                checked=140_000,
                unexpected=0,
                observed="99.1% are 0" if refused else "17.4% are 0",
            ),
        ]

    reasons = ["no label value has more than 95% of all labels: 99.1% are 0"] if refused else []
    return ValidationEvidence(
        groups_in=8405,
        groups_kept=8393,
        quarantined={"response is empty": 9, "control characters in the text": 3},
        batches=[
            BatchVerdict(digest=BATCH, groups=7000, quarantined=12, limit=0.05, refused=refused, reasons=reasons),
            BatchVerdict(digest=SECOND, groups=1405, quarantined=0, limit=0.05, refused=False, accepted_by="maria"),
        ],
        expectations=[*lines(BATCH, 12), *lines(SECOND, 0)],
    )


def preferences() -> PreferenceEvidence:
    sizes = {"train": 4700, "validation": 650, "calibration": 1300, "test": 1323, "golden": 420}
    return PreferenceEvidence(
        criterion="overall",
        groups_in=8393,
        groups_used=8389,
        groups_built=669,
        left_out={"all labels of the group are ties": 4},
        splits=[
            SplitLine(
                split=name,
                groups=items // 8,
                items=items,
                documents=items,
                pairs=0 if name == "calibration" else items * 3,
                ties=0 if name == "calibration" else items // 50,
                acceptable=items // 2 + 40,
                unacceptable=items // 2 - 40,
            )
            for name, items in sizes.items()
        ],
        agreement=[
            AgreementLine(
                criterion="overall",
                segment="all",
                alpha=0.512,
                alpha_standardized=None,
                measurement="interval",
                labelers=None,
                items=8389,
            ),
            AgreementLine(
                criterion="overall",
                segment="short",
                alpha=None,
                alpha_standardized=0.55,
                measurement="interval",
                labelers=5,
                items=1,
            ),
        ],
        acceptability="the mean rating is at least 0",
        one_labeler=estimate(0.79),
        reliability="Dawid and Skene's model on 4,120 votes of 12 labelers",
        labelers_total=12,
        labelers=[
            labeler("c41f" * 4, 0.87, 1.3),
            labeler("09be" * 4, 0.51, 0.0, "answers at random"),
            labeler("77aa" * 4, 0.14, 0.0, "reverses everyone", "always the longest"),
        ],
        segments=[
            SegmentLine(
                segment=name,
                weight=1.0,
                labelers=6,
                labels=2_000,
                alpha=alpha,
                low=alpha - 0.05,
                high=alpha + 0.05,
                agreement={other: estimate(0.44, 0.06, 380)},
            )
            for name, other, alpha in (("Berlin", HOSTILE, 0.61), (HOSTILE, "Berlin", 0.58))
        ],
        divided=[
            DividedPair(
                prompt="What did you think of it?",
                response_a=HOSTILE,
                response_b="It has its moments.",
                votes_a=6,
                votes_b=5,
                ties=1,
                p=0.53,
                labelers=["c41f" * 4],
            )
        ],
    )
