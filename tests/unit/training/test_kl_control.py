"""Beta follows the KL as in Ziegler et al. 2019, section 2.2."""

import pytest

from rewardloop.config import KlSettings
from rewardloop.training.kl_control import KlControl


def control(**fields: object) -> KlControl:
    return KlControl(KlSettings.model_validate({"beta": 0.1, "target": 5.0, "horizon": 100} | fields))


@pytest.mark.parametrize(
    ("kl", "beta"),
    [
        (5.5, 0.102),  # 10% above: 1 + 0.1 * 20 / 100
        (4.75, 0.099),
        (5.0, 0.1),
        (50.0, 0.104),  # held at 20%
        (0.0, 0.096),
        (-3.0, 0.096),  # an estimate can be negative
    ],
)
def test_one_update_of_twenty_episodes(kl: float, beta: float) -> None:
    found = control()
    found.update(kl, 20)
    assert found.beta == pytest.approx(beta, rel=1e-12)


def test_a_whole_horizon_moves_beta_by_a_fifth_at_most_and_updates_multiply() -> None:
    found = control()
    found.update(1000.0, 100)
    assert found.beta == pytest.approx(0.12)
    found.update(0.0, 100)
    assert found.beta == pytest.approx(0.096)


def test_more_episodes_than_the_horizon_do_not_turn_the_price_around() -> None:
    found = control(horizon=20)
    found.update(0.0, 200)  # 1 - 0.2 * 10 would be -1
    assert found.beta == pytest.approx(0.05)
    found.update(1000.0, 200)
    assert found.beta == pytest.approx(0.15)


def test_a_fixed_beta_stays() -> None:
    found = control(adaptive=False)
    found.update(1000.0, 100)
    assert found.beta == 0.1
