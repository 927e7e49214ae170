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
        present("shortest_response"),
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
        true("values_finite", "finite ratings and ranks", "a rating or rank that is no finite number"),
        true("ranks_from_one", "ranks that start at 1", "a rank below 1"),
        true("inside_scale", "ratings inside their scale", "a rating outside its scale"),
    ]


def batch_expectations(settings: ValidationSettings) -> list[Any]:
    """Expectations on the one row of ``batch_facts``; a batch that fails one is refused."""
    import great_expectations.expectations as gxe

    def between(column: str, low: float | None, high: float | None, expected: str) -> Any:
        return gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=low, max_value=high, meta={"expected": expected}
        )

    fewest, most_failed = settings.min_groups_per_batch, settings.max_failed_share
    columns = ["groups", "failed_share", "labelers", "duplicate_share", "label_imbalance", "agreement", "decided"]
    wanted = [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=columns, exact_match=True, meta={"expected": "every fact of the batch is known"}
        ),
        between("groups", fewest, None, f"{fewest:,} usable groups or more"),
        between("failed_share", None, most_failed, f"at most {most_failed:.1%} unusable rows"),
        between(
            "labelers",
            settings.min_labelers_per_batch,
            None,
            f"{settings.min_labelers_per_batch:,} labelers or more (without identities: labels of one group)",
        ),
        between(
            "duplicate_share",
            None,
            settings.max_duplicate_share,
            f"at most {settings.max_duplicate_share:.1%} of groups repeat another one",
        ),
        between(
            "label_imbalance",
            None,
            settings.max_label_imbalance,
            f"no label value has more than {settings.max_label_imbalance:.1%} of all labels",
        ),
        between("decided", 1, None, "a label that prefers one answer to another: not all ties"),
    ]
    if settings.min_agreement is not None:
        # Agreement that cannot be computed is null, which a range would let pass.
        wanted += [
            gxe.ExpectColumnValuesToNotBeNull(column="agreement", meta={"expected": "agreement that can be computed"}),
            between(
                "agreement",
                settings.min_agreement,
                None,
                f"Krippendorff's alpha of {settings.min_agreement:g} or more among labelers",
            ),
        ]
    return wanted
