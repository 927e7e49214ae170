"""Wins, ties and losses of one set of answers against another on the same prompts, and what length has to do with it.

In: scores of both answers to each prompt. Out: one judge's line of the evidence, and the win rate at equal length.
"""

from collections.abc import Callable

import numpy as np

from rewardloop.bootstrap import Floats
from rewardloop.errors import BadInputError
from rewardloop.evidence import Estimate, JudgeLine


def judge_line(
    judge: str, before: Floats, after: Floats, *, tie_band: float, estimate: Callable[[Floats], Estimate]
) -> JudgeLine:
    """What one judge says of the answers after against those before.

    Args:
        judge: in words.
        before, after: its scores, shape (answers,), all known.
        tie_band: largest difference that is a tie.
        estimate: mean with its interval (``bootstrap.over_documents``).
    """
    outcome = outcomes(before, after, tie_band)
    spread = float(before.std())
    return JudgeLine(
        judge=judge,
        wins=int((outcome == 1).sum()),
        ties=int((outcome == 0.5).sum()),
        losses=int((outcome == 0).sum()),
        win_rate=estimate(outcome),
        tie_band=tie_band,
        # Where it scores all references alike there is no spread to measure with, and its own unit stays.
        gain=estimate((after - before) / (spread or 1.0)),
    )


def outcomes(before: Floats, after: Floats, tie_band: float) -> Floats:
    """1 for a win, one half for a tie, 0 for a loss; shape (answers,)."""
    difference = after - before
    return np.where(np.abs(difference) <= tie_band, 0.5, (difference > 0).astype(float))


def both_scored(judge: str, before: Floats, after: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Where neither score is NaN; shape (answers,).

    Raises:
        BadInputError: nowhere.
    """
    known = ~(np.isnan(before) | np.isnan(after))
    if not known.any():
        raise BadInputError(
            f"policy evaluation: {judge} could score no answer together with its counterpart ({len(known):,} answers); "
            "the answers are longer than it can read: raise its max_length, or lower align.generation.max_new_tokens"
        )
    return known


def length_controlled_win_rate(outcome: Floats, before: Floats, after: Floats) -> float | None:
    """The win rate that is to be expected where both answers are equally long.

    Dubois et al. 2024 ("Length-Controlled AlpacaEval", section 3): logistic regression of the win on tanh of the length
    difference in its standard deviations, predicted at difference 0. Of their model only the term for length is used.
    A tie is half a win and half a loss.

    Args:
        outcome: of ``outcomes``, shape (answers,).
        before, after: lengths of the answers, same shape.

    Returns:
        None where it cannot be told: no difference near 0 was seen (0 is outside of their range), or length separates
        wins from losses, so that the regression has no solution.
    """
    from sklearn.linear_model import LogisticRegression

    difference = after - before
    if not difference.any():
        return float(outcome.mean())
    if difference.min() > 0 or difference.max() < 0:
        return None
    won, lost = difference[outcome > 0], difference[outcome < 1]
    # With one variable the likelihood has its maximum exactly where wins and losses overlap (Albert and Anderson 1984).
    if not len(won) or not len(lost) or won.min() >= lost.max() or lost.min() >= won.max():
        return None
    features = np.tanh(difference / difference.std())[:, None]
    model = LogisticRegression(C=np.inf, max_iter=1000, tol=1e-8)
    model.fit(
        np.concatenate([features, features]),
        np.repeat([1, 0], len(outcome)),
        sample_weight=np.concatenate([outcome, 1 - outcome]),
    )
    return float(model.predict_proba([[0.0]])[0, 1])
