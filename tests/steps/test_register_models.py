"""register_models: only a blessed candidate is registered, once, and becomes the champion."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from rewardloop.errors import NotBlessedError, RewardloopError
from rewardloop.evidence import Check, RegistrationEvidence, StepRecord
from rewardloop.storage import Storage
from rewardloop.tracking.connection import connect
from rewardloop.tracking.history import History
from rewardloop.tracking.promotion import approve, promote, rollback
from rewardloop.tracking.registry import open_version
from tests.registered import Candidate, bless, make_candidate, write
from tests.run_folders import evaluation


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return connect(None, tmp_path_factory.mktemp("tracking"), 5)


@pytest.fixture
def candidate(tiny_base: str, tracking_uri: str, tmp_path: Path) -> Candidate:
    made = make_candidate(tmp_path, tiny_base, tracking_uri)
    return Candidate(tmp_path, made.tracking_uri, organization=f"org-{abs(hash(tmp_path)):x}")


def _evidence(folder: Path) -> RegistrationEvidence:
    return RegistrationEvidence.model_validate_json((folder / "evidence" / "registration.json").read_bytes())


def test_versions_follow_each_other_and_a_retry_registers_nothing_twice(candidate: Candidate, tiny_base: str) -> None:
    first = candidate.register()
    record = StepRecord.model_validate_json((first / "steps" / "register_models.json").read_bytes())
    assert record.produced == f"{candidate.name} version 1, champion, threshold 0.412"
    evidence = _evidence(first)
    assert (evidence.version, evidence.previous, evidence.champion, evidence.history_sequence) == ("1", None, True, 1)
    assert evidence.parity_difference < 1e-5

    assert _evidence(candidate.register(output="again")) == evidence
    client = MlflowClient(candidate.tracking_uri)
    (version,) = client.search_model_versions(f"name = '{candidate.name}'")
    assert version.tags["threshold"] == "0.412"
    assert (version.tags["alpha"], version.tags["delta"], version.tags["blessed"]) == ("0.05", "0.1", "true")
    assert version.tags["corpus_digest"] == "corpus-1"
    assert version.tags["manifest_digest"] == evidence.manifest_digest
    rate = evaluation().threshold.false_accept_rate
    assert rate is not None
    assert float(version.tags["false_accept_rate"]) == rate.value
    assert client.get_run(version.run_id).info.status == "FINISHED"

    # Killed between the registry and the history: the second try completes the same version.
    store = str(candidate.folder / "another store")
    late = _evidence(candidate.register(output="late", store=store))
    assert (late.version, late.history_sequence) == ("1", 1)

    second = Candidate(candidate.folder / "second", candidate.tracking_uri, candidate.organization)
    make_candidate(second.folder, tiny_base, candidate.tracking_uri, seed=1)
    bless(second, champion="1")
    evidence = _evidence(second.register(store=candidate.store))
    assert (evidence.version, evidence.previous, evidence.history_sequence) == ("2", "1", 2)
    aliases = client.get_registered_model(candidate.name).aliases
    assert {name: str(number) for name, number in aliases.items()} == {
        "candidate": "2",
        "champion": "2",
        "previous": "1",
    }


def test_equal_weights_with_another_threshold_are_another_version(candidate: Candidate) -> None:
    candidate.register()
    path = candidate.folder / "evaluation" / "scoring.json"
    write(path, json.loads(path.read_text()) | {"threshold": 0.3})
    bless(candidate, champion="1")
    evidence = _evidence(candidate.register(output="again"))
    assert (evidence.version, evidence.threshold) == ("2", 0.3)
    version = MlflowClient(candidate.tracking_uri).get_model_version_by_alias(candidate.name, "champion")
    assert version.tags["threshold"] == "0.3"


def test_approval_needs_a_person(candidate: Candidate) -> None:
    evidence = _evidence(candidate.register(mode="approval"))
    assert (evidence.version, evidence.champion, evidence.waiting) == ("1", False, True)
    assert (evidence.history_sequence, evidence.previous) == (None, None)
    record = StepRecord.model_validate_json(
        (candidate.folder / "registration" / "steps" / "register_models.json").read_bytes()
    )
    assert record.produced == f"{candidate.name} version 1, waiting for approval, threshold 0.412"
    history = History(Storage.open(candidate.store), candidate.name)
    assert history.records() == []
    client = MlflowClient(candidate.tracking_uri)
    assert {name: str(one) for name, one in client.get_registered_model(candidate.name).aliases.items()} == {
        "candidate": "1"
    }
    assert _evidence(candidate.register(output="again", mode="approval")) == evidence
    said = {"by": "bob", "reason": "read the samples", "store": candidate.store}
    record = approve(candidate.name, "1", tracking_uri=candidate.tracking_uri, compare=_never, **said)
    assert (record.who, record.threshold) == ("bob", 0.412)
    late = _evidence(candidate.register(output="late", mode="approval"))
    assert (late.champion, late.waiting, late.history_sequence) == (True, False, 1)
    assert len(client.search_model_versions(f"name = '{candidate.name}'")) == 1


def test_a_resumed_run_does_not_promote_again_what_was_rolled_back(candidate: Candidate) -> None:
    """Killed after its promotion and gone on with after somebody rolled it back: the person has the last word."""
    history = History(Storage.open(candidate.store), candidate.name)
    candidate.register()
    path = candidate.folder / "evaluation" / "scoring.json"
    write(path, json.loads(path.read_text()) | {"threshold": 0.3})
    bless(candidate, champion="1")
    candidate.register(output="second")
    back = {"store": candidate.store, "tracking_uri": candidate.tracking_uri, "who": "ann", "why": "it blocks all"}
    rollback(candidate.name, **back)
    evidence = _evidence(candidate.register(output="resumed"))
    assert (evidence.version, evidence.champion, evidence.waiting, evidence.history_sequence) == ("2", False, False, 2)
    assert [(one.action, one.version) for one in history.records()] == [
        ("promote", "1"),
        ("promote", "2"),
        ("rollback", "1"),
    ]


def test_a_version_that_was_left_half_made_is_completed(candidate: Candidate) -> None:
    candidate.register()
    client = MlflowClient(candidate.tracking_uri)
    tags = dict(client.get_model_version(candidate.name, "1").tags)
    assert (tags["blessed"], tags["blessed_against"]) == ("true", "none")
    client.delete_model_version_tag(candidate.name, "1", "blessed")
    client.delete_registered_model_alias(candidate.name, "candidate")
    store = str(candidate.folder / "another store")
    with pytest.raises(NotBlessedError, match="was not blessed"):
        promote(
            candidate.name,
            "1",
            store=store,
            tracking_uri=candidate.tracking_uri,
            who="ann",
            why="a test",
            compare=_never,
        )
    assert _evidence(candidate.register(output="again", store=store)).version == "1"
    assert dict(client.get_model_version(candidate.name, "1").tags) == tags
    assert str(client.get_registered_model(candidate.name).aliases["candidate"]) == "1"


def test_the_reference_of_drift_travels_with_the_version(candidate: Candidate) -> None:
    content = b"a reference"
    (candidate.folder / "evaluation" / "reference.parquet").write_bytes(content)
    candidate.register()
    with open_version(f"models:/{candidate.name}/1", candidate.tracking_uri) as (folder, _):
        assert (folder / "reference.parquet").read_bytes() == content
        assert "reference.parquet" in json.loads((folder / "manifest.json").read_text())


def _never(candidate: str, champion: str) -> list[Check]:
    raise AssertionError(f"{candidate} was compared with {champion}")


def test_not_blessed(candidate: Candidate) -> None:
    bless(candidate, blessed=False, reasons=["accuracy: 0.50 is below 0.80"])
    with pytest.raises(NotBlessedError, match=r"accuracy: 0\.50 is below"):
        candidate.register()
    _nothing_registered(candidate)


def test_blessing_of_other_weights(candidate: Candidate) -> None:
    (candidate.folder / "reward_model" / "model" / "config.json").write_text("{}")
    with pytest.raises(RewardloopError, match="the evaluation is for"):
        candidate.register()
    write(candidate.folder / "evaluation" / "candidate.json", {"digest": "0" * 64})
    bless(candidate, candidate="0" * 64)
    with pytest.raises(RewardloopError, match="but the evaluation is for 000000000000"):
        candidate.register()
    _nothing_registered(candidate)


def test_blessing_that_was_edited(candidate: Candidate) -> None:
    bless(candidate, candidate="0" * 64)
    with pytest.raises(RewardloopError, match="but the blessing is for 000000000000"):
        candidate.register()
    _nothing_registered(candidate)


def test_blessing_of_another_corpus(candidate: Candidate) -> None:
    with pytest.raises(RewardloopError, match="blessing is for corpus corpus-1, but this run is for corpus-2"):
        candidate.register(corpus="corpus-2")
    _nothing_registered(candidate)


def test_champion_changed_since_the_comparison(candidate: Candidate) -> None:
    History(Storage.open(candidate.store), candidate.name).append(
        "promote", "5", expected=None, why="somebody else", threshold=None, compared_with="nothing"
    )
    with pytest.raises(RewardloopError, match="compared with no champion, but the champion is now version 5"):
        candidate.register()
    _nothing_registered(candidate)


def test_scores_that_cannot_be_repeated(candidate: Candidate) -> None:
    parity = json.loads((candidate.folder / "evaluation" / "parity.json").read_text())
    parity["scores"][0] += 0.5
    write(candidate.folder / "evaluation" / "parity.json", parity)
    with pytest.raises(RewardloopError, match=r"text 0 of parity\.json"):
        candidate.register()
    _nothing_registered(candidate)
    assert History(Storage.open(candidate.store), candidate.name).records() == []


def _nothing_registered(candidate: Candidate) -> None:
    client = MlflowClient(candidate.tracking_uri)
    assert candidate.name not in [model.name for model in client.search_registered_models()]
