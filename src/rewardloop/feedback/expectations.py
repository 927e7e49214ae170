"""What a batch must satisfy, as Great Expectations suites: one for each row, one for the batch as a whole.

Each expectation's ``meta`` says in words what is expected, and what is wrong with a row that fails it.
"""

from typing import Any

from rewardloop.config import ValidationSettings


def row_expectations(settings: ValidationSettings) -> list[Any]:
    """Expectations on the columns of ``row_facts``; a row that fails one is quarantined."""
    import great_expectations.expectations as gxe

    def between(column: str, low: float | None, high: float | None, expected: str, found: str) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, meta={"expected": expected, "found": found}
        )

    def true(column: str, expected: str, found: str, *, value: bool = True) -> Any:
        return gxe.ExpectColumnValuesToBeInSet(
            column=column, value_set=[value], meta={"expected": expected, "found": found}
        )

    def present(column: str) -> Any:
        return gxe.ExpectColumnValuesToNotBeNull(
            column=column, meta={"expected": f"{column} is known", "found": f"{column} is missing"}
        )

    lowest, highest = settings.min_response_characters, settings.max_response_characters
    return [
        present("group_id"),
        present("content"),
        between("missing_texts", None, 0, "no missing texts", "a response or a turn of the prompt without text"),
        between(
            "shortest_response", lowest, None, f"responses of {lowest:,} characters or more", "too short a response"
        ),
        between(
            "longest_response", None, highest, f"responses of at most {highest:,} characters", "too long a response"
        ),
        between(
            "prompt_characters",
            None,
            settings.max_prompt_characters,
            f"prompts of at most {settings.max_prompt_characters:,} characters",
            "too long a prompt",
        ),
        between("control_characters", None, 0, "no control characters", "control characters in a text"),
        true("repeats_response", "different responses in a group", "two equal responses in one group", value=False),
        between(
            "labels",
            settings.min_labelers_per_item,
            None,
            f"{settings.min_labelers_per_item:,} labelers or more per group",
            "too few labelers",
        ),
        true("kinds_known", "labels of known kinds", "a label of an unknown kind"),
        true("values_finite", "finite ratings and ranks", "a rating or rank that is no finite number"),
        true("ranks_valid", "ranks 1, 2, 3 and so on", "a rank that is not 1, 2, 3 and so on"),
        true("inside_scale", "ratings inside their scale", "a rating outside its scale"),
    ]


def batch_expectations(settings: ValidationSettings, criterion: str) -> list[Any]:
    """Expectations on the one row of ``batch_facts``; a batch that fails one is refused."""
    import great_expectations.expectations as gxe

    def between(column: str, low: float | None, high: float | None, fact: str, expected: str) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, meta={"fact": fact, "expected": expected}
        )

    def at_most(column: str, share: float, fact: str) -> Any:
        return between(column, None, share, fact, f"at most {share:.1%}")

    groups, labelers = settings.min_groups_per_batch, settings.min_labelers_per_batch
    columns = {
        "groups",
        "failed_share",
        "labels",
        "labelers",
        "duplicate_share",
        "label_imbalance",
        "decided",
        "agreement",
    }
    wanted = [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=sorted(columns),
            exact_match=True,
            meta={"fact": "facts of the batch", "expected": "every fact of the batch is known"},
        ),
        between("groups", groups, None, "usable groups", f"{groups:,} or more"),
        at_most("failed_share", settings.max_failed_share, "share of unusable rows"),
        between("labels", 1, None, f"labels on criterion {criterion!r}", "1 or more, or verdicts on any criterion"),
        between(
            "labelers",
            labelers,
            None,
            "labelers",
            f"{labelers:,} labelers or more (without identities: labels of one answer)",
        ),
        at_most("duplicate_share", settings.max_duplicate_share, "share of groups that repeat another one"),
        at_most("label_imbalance", settings.max_label_imbalance, "share of the most frequent label value"),
        between(
            "decided",
            1,
            None,
            "groups in which an answer is preferred",
            "1 or more: nothing can be learnt where all is a tie",
        ),
    ]
    if settings.min_agreement is not None:
        fact = "agreement among labelers (Krippendorff's alpha)"
        # Agreement that cannot be computed is null, which a range would let pass.
        wanted += [
            gxe.ExpectColumnValuesToNotBeNull(
                column="agreement", meta={"fact": fact, "expected": "agreement that can be computed"}
            ),
            between("agreement", settings.min_agreement, None, fact, f"{settings.min_agreement:g} or more"),
        ]
    return wanted
