"""The section ``placement``: what is common, what is different, what is refused."""

import json
from pathlib import Path

import pytest

from rewardloop.config import STEPS, PlacementSettings, load_settings
from rewardloop.errors import BadInputError


def placed(tree: dict[str, object]) -> PlacementSettings:
    return PlacementSettings.model_validate(tree)


def test_a_steps_setting_takes_the_place_of_the_defaults() -> None:
    placement = placed(
        {
            "default": {"image": "a", "node_selector": {"pool": "cpu"}, "secrets": {"s": {"A": "a"}}},
            "steps": {"train_sft": {"node_selector": {"gpu": "yes"}}, "align_policy": {"secrets": {}}},
        }
    )
    assert placement.of("train_sft").image == "a"
    assert placement.of("train_sft").node_selector == {"gpu": "yes"}
    assert placement.of("align_policy").secrets == {}
    assert placement.of("load_corpus") == placement.default


def test_the_way_through_json_changes_nothing() -> None:
    """A pod is given the settings as JSON, where every null stands."""
    placement = load_settings(Path("conf/cluster.yaml")).settings.placement
    again = PlacementSettings.model_validate_json(json.dumps(placement.model_dump(mode="json"), sort_keys=True))
    assert again == placement
    assert [again.of(step) for step in STEPS] == [placement.of(step) for step in STEPS]


def test_nothing_set_is_empty() -> None:
    assert placed({}).is_empty()
    assert not placed({"default": {"image": "a"}}).is_empty()
    assert not placed({"home": {"claim": "c", "path": "/c"}}).is_empty()


def test_it_is_no_part_of_what_can_change_a_model() -> None:
    here, there = (load_settings(Path("conf/smoke.yaml"), more) for more in ([], ["placement.default.image=a"]))
    assert here.digest == there.digest


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("placement.steps.train_model.image=a", "'train_model' is no step; expected some of: align_policy"),
        ("placement.steps.train_sft.accelerators=3", "placement.steps.train_sft.accelerators: found 3"),
        ("placement.steps.train_sft.accelerators=2", "steps.train_sft: accelerators = 2, but accelerator names no"),
        ("placement.default.memory_limit=16 GB", "placement.default.memory_limit: found '16 GB'"),
        ("placement.default.cpu_limit=two", "placement.default.cpu_limit: found 'two'"),
        ("placement.default.tolerations=[{value: a}]", "without a key the operator must be Exists"),
        ("placement.default.tolerations=[{key: a, operator: Exists, value: b}]", "operator Exists takes no value"),
        ("placement.home={claim: a, path: /dev/shm}", None),
        ("placement.default.volumes=[{claim: a, path: /m}, {claim: b, path: /m/}]", "two volumes are mounted at /m"),
        ("placement.default.secrets={Store: {A: a}}", "placement.default.secrets"),
        ("placement.default.secrets={store: {9A: a}}", "placement.default.secrets"),
        ("placement.default.retries.times=-1", "placement.default.retries.times: found -1"),
        ("placement.default.gpu=1", "placement.default.gpu: unknown setting"),
        ("schedule.image=a", "schedule.image: unknown setting"),
    ],
)
def test_bad_input_is_named(override: str, words: str | None) -> None:
    if words is None:
        load_settings(Path("conf/smoke.yaml"), [override])
        override, words = (
            "placement.default.shared_memory=1Gi",
            "steps.align_policy: two volumes are mounted at /dev/shm",
        )
        with pytest.raises(BadInputError, match=words):
            load_settings(Path("conf/smoke.yaml"), ["placement.home={claim: a, path: /dev/shm}", override])
        return
    with pytest.raises(BadInputError) as caught:
        load_settings(Path("conf/smoke.yaml"), [override])
    assert words in str(caught.value)


def test_home_sets_its_variable_itself() -> None:
    with pytest.raises(BadInputError, match="environment sets REWARDLOOP_HOME, which home does"):
        load_settings(
            Path("conf/smoke.yaml"),
            ["placement.home={claim: a, path: /a}", "placement.default.environment={REWARDLOOP_HOME: /b}"],
        )
