"""Votes, majorities and agreement by hand; real corpora in the shape their authors distribute."""

import csv
import io
import tarfile
from pathlib import Path

import polars as pl
import pytest

from benchmarks.decisions import consensus, real_labels

_PAIR = """<list><annotatedArgumentPair><id>7_8</id>
<arg1><text>{first}</text></arg1><arg2><text>{second}</text></arg2>
<debateMetaData><title>Tea</title></debateMetaData><mTurkAssignments>
<mTurkAssignment><turkID>x</turkID><value>a1</value></mTurkAssignment>
<mTurkAssignment><turkID>y</turkID><value>a2</value></mTurkAssignment>
<mTurkAssignment><turkID>z</turkID><value>equal</value></mTurkAssignment>
<mTurkAssignment><turkID>u</turkID><value>a1</value></mTurkAssignment>
</mTurkAssignments></annotatedArgumentPair></list>"""


def ukp(folder: Path, first: str = "Tea is warm, and it is cheap.", second: str = "No.") -> Path:
    content = _PAIR.format(first=first, second=second).encode()
    member = tarfile.TarInfo("UKPConvArg1-full-XML/tea_yes.xml")
    member.size = len(content)
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / "UKPConvArg1-full-XML.tar.gz", "w:gz") as archive:
        archive.addfile(member, io.BytesIO(content))
    return folder


def politeness(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    names = ["Community", "Request", *(f"Score{i}" for i in range(1, 6)), *(f"TurkId{i}" for i in range(1, 6))]
    with (folder / "wikipedia.annotated.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerow(["Wikipedia", "Please?", 20, 21, 22, 23, 5, *"vwxyz"])
        writer.writerow(["Wikipedia", "Now!\nAt once.", 3, 2, 22, 9, 8, *"vwxyz"])
        writer.writerow(["Wikipedia", "Alone", 3, 2, 22, 9, 8, *"abcde"])
    return folder


def votes(feedback: pl.DataFrame) -> list[tuple[str, str, str, float]]:
    return sorted(real_labels.votes(feedback).rows())


def test_arguments_as_their_authors_distribute_them(tmp_path: Path) -> None:
    feedback = real_labels.ukpconvarg1(ukp(tmp_path / "ukp"))
    a, b = "tea_yes/7_8/a", "tea_yes/7_8/b"
    assert votes(feedback) == [(a, b, "u", 1.0), (a, b, "x", 1.0), (a, b, "y", 0.0), (a, b, "z", 0.5)]
    assert real_labels.length_only_accuracy(feedback) == 1.0


def test_length_alone_is_wrong_where_the_shorter_one_wins(tmp_path: Path) -> None:
    assert real_labels.length_only_accuracy(real_labels.ukpconvarg1(ukp(tmp_path / "a", "Yes.", "By no means."))) == 0.0
    assert real_labels.length_only_accuracy(real_labels.ukpconvarg1(ukp(tmp_path / "b", "Yes.", "Noo!"))) == 0.5


def test_requests_as_their_authors_distribute_them(tmp_path: Path) -> None:
    feedback = real_labels.politeness(politeness(tmp_path / "politeness"))
    # The third request was rated alone by its five workers, so nothing is compared with it.
    assert [(who, vote) for _, _, who, vote in votes(feedback)] == [
        ("v", 1.0), ("w", 1.0), ("x", 0.5), ("y", 1.0), ("z", 0.0),
    ]  # fmt: skip
    assert feedback["segment"].to_list() == ["wikipedia.annotated"]


def test_only_some_labelers(tmp_path: Path) -> None:
    feedback = real_labels.ukpconvarg1(ukp(tmp_path / "ukp"))
    assert [who for _, _, who, _ in votes(real_labels.only(feedback, ["x", "z"]))] == ["x", "z"]
    assert real_labels.only(feedback, ["nobody"]).is_empty()


def test_pairs_in_order() -> None:
    pairs = pl.DataFrame({"a": ["1", "4"], "b": ["2", "3"], "p": [0.9, 0.9]})
    assert real_labels.in_order(pairs, "p").rows() == [("1", "2", 0.9), ("3", "4", pytest.approx(0.1))]


def test_agreement_with_who_was_left_out(tmp_path: Path) -> None:
    # x and u prefer the first argument, y the second, z neither (and is not asked). Left out one at a time, the others'
    # majority is undecided for x and for u (1, 0, 1/2: one half each) and against y.
    found = consensus.left_out(real_labels.ukpconvarg1(ukp(tmp_path / "ukp")))
    assert (found["votes"], found["labelers"]) == (3, 4)
    assert found["majority_agreement"] == pytest.approx(1 / 3, abs=1e-4)


def test_reliable_labelers_gain_over_the_majority() -> None:
    found = consensus.planted(1)
    assert found["accuracy"] > found["majority_accuracy"] > 0.7
    assert found["gain_points"] == pytest.approx(100 * (found["accuracy"] - found["majority_accuracy"]), abs=0.02)
    assert found["gain_points"] >= 4


def test_corpora_that_are_not_there_are_skipped_with_a_word(tmp_path: Path) -> None:
    found = consensus.real(tmp_path / "nowhere", tmp_path / "nor-here")
    assert "nowhere" in found["politeness"]["skipped"]
    assert "nor-here" in found["ukpconvarg1"]["skipped"]
