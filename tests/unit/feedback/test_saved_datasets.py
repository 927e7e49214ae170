"""Data sets that ``datasets`` saved, and names on the hub."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

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


REVIEWS = Dataset.from_dict(
    {"text": ["good", "bad", "unseen"], "label": [0, 1, -1]},
    features=Features({"text": Value("string"), "label": ClassLabel(names=["pos", "neg"])}),
)
NAMED = [{"text": "good", "label": "pos"}, {"text": "bad", "label": "neg"}, {"text": "unseen"}]


def test_classes_have_their_names_whatever_their_numbers(tmp_path: Path) -> None:
    REVIEWS.save_to_disk(tmp_path / "saved")
    REVIEWS.to_parquet(tmp_path / "reviews.parquet")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    for path in (tmp_path / "saved", tmp_path / "reviews.parquet", arrow):
        (source,) = read_sources([path])
        assert values(source) == NAMED, path.name


def test_classes_that_only_the_folder_tells(tmp_path: Path) -> None:
    """What wrote the Arrow file knew nothing of classes."""
    REVIEWS.save_to_disk(tmp_path / "saved")
    (file,) = (tmp_path / "saved").glob("*.arrow")
    table = pa.table({"text": REVIEWS["text"][:], "label": REVIEWS["label"][:]})
    with pa.ipc.new_stream(str(file), table.schema) as stream:
        stream.write_table(table)
    (source,) = read_sources([tmp_path / "saved"])
    assert values(source) == NAMED


def test_metadata_that_are_no_json_are_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "label": [0]}).replace_schema_metadata({"huggingface": "{"})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(BadInputError, match=r"x\.parquet: .*its metadata of `datasets` are no JSON"):
        read_sources([tmp_path / "x.parquet"])


def test_names_of_classes_count_for_the_limit(tmp_path: Path) -> None:
    features = Features({"label": ClassLabel(names=["x" * 10_000])})
    Dataset.from_dict({"label": [0] * 1_000}, features=features).to_parquet(tmp_path / "x.parquet")
    (source,) = read_sources([tmp_path / "x.parquet"], limit=1_000_000)
    with pytest.raises(BadInputError, match=r"store\.max_read_bytes"):
        values(source)


def test_a_split_without_rows_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = Dataset.from_list(ROWS)
    DatasetDict({"train": whole, "test": whole.select([])}).save_to_disk(tmp_path / "pairs")
    (train,) = read_sources([tmp_path / "pairs"])
    assert values(train) == ROWS
    assert "pairs/test: the split has no rows and is left out" in caplog.text


def test_a_data_set_without_any_rows_is_refused(tmp_path: Path) -> None:
    empty = Dataset.from_list(ROWS).select([])
    DatasetDict({"train": empty}).save_to_disk(tmp_path / "splits")
    empty.save_to_disk(tmp_path / "plain")
    for name, path in (("splits/train", tmp_path / "splits"), ("plain", tmp_path / "plain")):
        with pytest.raises(BadInputError, match=f"{name}: the saved data set has no rows"):
            read_sources([path])
