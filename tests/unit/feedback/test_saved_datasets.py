"""Data sets that ``datasets`` saved, and names on the hub."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from rewardloop.errors import BadInputError
from rewardloop.feedback.importers.table import Record, Table
from rewardloop.feedback.reading import Source, read_sources

ROWS = [{"chosen": f"good {number}", "rejected": f"bad {number}"} for number in range(5)]


def values(source: Source) -> list[dict[str, object]]:
    return [row.values for row in Table.of(source).rows() if isinstance(row, Record)]


def test_a_saved_data_set_is_read_over_all_of_its_files(tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "pairs", num_shards=2)
    assert len(list((tmp_path / "pairs").glob("*.arrow"))) == 2
    (source,) = read_sources([tmp_path / "pairs"])
    assert source.name == "pairs"
    assert values(source) == ROWS
    assert read_sources([tmp_path / "pairs"])[0].sha256 == source.sha256


def test_each_split_is_a_source(tmp_path: Path) -> None:
    whole = Dataset.from_list(ROWS)
    DatasetDict({"train": whole, "test": whole.select([1])}).save_to_disk(tmp_path / "pairs")
    train, test = read_sources([tmp_path / "pairs"])
    assert (train.name, test.name) == ("pairs/train", "pairs/test")
    assert values(test) == ROWS[1:2]


@pytest.mark.parametrize("name", ["../secret.arrow", "/etc/passwd", "..", ""])
def test_nothing_outside_the_folder_is_read(tmp_path: Path, name: str) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "pairs")
    (tmp_path / "secret.arrow").write_bytes(next((tmp_path / "pairs").glob("*.arrow")).read_bytes())
    state = tmp_path / "pairs" / "state.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "_data_files": [{"filename": name}]}))
    with pytest.raises(BadInputError, match="which is no file of the folder; save it again"):
        read_sources([tmp_path / "pairs"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "is not a JSON object"), ("{}", "names no data files; save the data set again")],
)
def test_a_broken_state(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "state.json").write_text(text)
    with pytest.raises(BadInputError, match=rf"state\.json: {message}"):
        read_sources([tmp_path / "pairs"])


def test_the_limit_holds_over_all_splits(tmp_path: Path) -> None:
    whole = Dataset.from_list([{"text": "x" * 4_000}])
    DatasetDict({"train": whole, "test": whole}).save_to_disk(tmp_path / "texts")
    with pytest.raises(BadInputError, match="bytes are left to read at a time"):
        read_sources([tmp_path / "texts"], limit=6_000)


def test_a_name_on_the_hub_without_a_network_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(BadInputError, match=r"hf://datasets/owner/name/train: cannot be had: .*needs the network"):
        read_sources([Path("hf://datasets/owner/name/train")])


@pytest.mark.parametrize("name", ["hf://owner/name", "hf://datasets/name", "hf://datasets/a/b/c/d"])
def test_a_malformed_name_on_the_hub(name: str) -> None:
    with pytest.raises(BadInputError, match=r"expected hf://datasets/OWNER/NAME, or with /SPLIT behind"):
        read_sources([Path(name)])
