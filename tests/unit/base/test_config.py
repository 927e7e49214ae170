"""Settings: all mistakes at once, overrides, origins, and a digest of what can change a model."""

from pathlib import Path

import pytest

from rewardloop.config import load_settings, without_password
from rewardloop.errors import BadInputError

MINIMAL = "organization: acme\nmodel: {base: random:tiny}\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "rewardloop.yaml"
    path.write_text(text)
    return path


def test_five_mistakes_are_five_lines_with_path_value_and_what_is_allowed(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "organization: Acme Inc\nmodel: {}\ntraining: {method: magic, epochz: 2}\nsplits: {train: 0.9}\n",
    )
    with pytest.raises(BadInputError) as caught:
        load_settings(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 5 mistakes in the configuration"
    text = "\n".join(lines[1:])
    assert "organization: found 'Acme Inc'" in text
    assert "model.base: missing" in text
    assert "training.method: found 'magic'. Input should be 'full', 'top_layers' or 'lora'" in text
    assert "training.epochz: unknown setting; did you mean 'epochs'? Allowed here: centering, " in text
    assert "splits: train + validation + calibration + test = 1.2; expected 1" in text


def test_every_value_knows_where_it_came_from(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    loaded = load_settings(path, ["training.seed=7", "threshold.alpha=0.2"])
    assert loaded.settings.training.seed == 7
    assert loaded.settings.threshold.alpha == 0.2
    assert loaded.origins["organization"] == str(path)
    assert loaded.origins["training.seed"] == "--set"
    assert loaded.origins["training.epochs"] == "default"


@pytest.mark.parametrize("override", ["training.seed", "=3", "training..seed=3", "organization.x=1", "a=[1"])
def test_unreadable_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(BadInputError, match="--set"):
        load_settings(written(tmp_path, MINIMAL), [override])


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "expected a mapping"), (b"a: [1", "not valid YAML"), (b"\xff\xfe", "byte 0 is not UTF-8")],
)
def test_file_that_is_no_configuration(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=says):
        load_settings(path)


def test_missing_file_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere.yaml: cannot be read: .*--config"):
        load_settings(tmp_path / "nowhere.yaml")


def test_digest_changes_with_the_model_and_not_with_the_place(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    digest = load_settings(path).digest
    assert load_settings(path, ["home=/elsewhere", "store.url=s3://bucket"]).digest == digest
    assert load_settings(path, ["training.seed=1"]).digest != digest


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:secret@host/db", "postgresql://***@host/db"),
        ("https://token@host:5000", "https://***@host:5000"),
        ("s3://bucket/path", "s3://bucket/path"),
        ("not a url, but who@where", "not a url, but who@where"),
    ],
)
def test_passwords_are_not_recorded(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_one_limit_of_any_kind_is_a_limit(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    assert not load_settings(path).settings.gate.any_limit()
    assert load_settings(path, ["gate.max_unacceptable_among_accepted=0.1"]).settings.gate.any_limit()
