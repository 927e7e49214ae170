"""A policy as it is asked, stored and made ready to learn."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from rewardloop.errors import BadInputError
from rewardloop.modeling.policy import (
    Policy,
    PolicyInfo,
    asks_plainly,
    load_policy,
    load_start,
    place_tokenizer,
    policy_digest,
    save_policy,
    start_place,
    start_tokenizer,
    with_adapters,
)
from rewardloop.modeling.policy_rows import RowReader
from rewardloop.modeling.scoring import Block
from rewardloop.training.policies import trainable
from tests.policies import (
    EOS,
    blocks_of,
    causal_of,
    letters_base,
    letters_tokenizer,
    policy_of,
    settings_of,
    start_folder,
)

TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
IDS = torch.tensor([[2, 3, 4, 5, 6, 7]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return letters_base(tmp_path_factory.mktemp("letters"), layers=3)


@pytest.fixture
def start(base: Path, tmp_path: Path) -> Path:
    return start_folder(tmp_path / "start", base)


def logits(policy: Policy) -> Tensor:
    with torch.no_grad():
        found: Tensor = policy.causal_model(input_ids=IDS).logits
    return found


def disturb(policy: Policy, seed: int = 0) -> None:
    """What learning would do, to everything that trains."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for value in policy.model.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))


def aligned(start: Path, tmp_path: Path, **fields: Any) -> Policy:
    policy = trainable(load_start(start, tmp_path), settings_of(**fields))
    disturb(policy)
    return policy


# How it is asked ------------------------------------------------------------------------------------------------------
def byte_policy(tiny_base: str, plain: bool) -> Policy:
    tokenizer = place_tokenizer(tiny_base)
    tokenizer.chat_template = TEMPLATE
    return Policy(causal_of("llama"), tokenizer, plain_text=plain)


def test_plain_prompts_are_their_text_and_chats_go_through_the_template(tiny_base: str) -> None:
    messages = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": " c"}]
    plain, chat = byte_policy(tiny_base, True), byte_policy(tiny_base, False)
    assert plain.tokenizer.decode(plain.prompt_ids(messages[:1])) == "a b"
    # Turns are written as the reward model reads them.
    turns = "\n\nHuman: a b\n\nAssistant:  c\n\nAssistant:"
    assert plain.tokenizer.decode(plain.prompt_ids(messages)) == turns
    assert chat.tokenizer.decode(chat.prompt_ids(messages)) == "[user]a b[assistant] c[assistant]"


def test_an_end_that_the_tokenizer_adds_is_no_end_of_the_prompt() -> None:
    from tokenizers.processors import TemplateProcessing

    policy = policy_of(causal_of("llama"))
    policy.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", EOS)]
    )
    assert policy.tokenizer("ab")["input_ids"] == [2, 3, EOS]
    assert policy.prompt_ids([{"role": "user", "content": "ab"}]) == [2, 3]


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(BadInputError, match="has no tokens"):
        policy_of(causal_of("llama")).prompt_ids([{"role": "user", "content": ""}])


def test_answers_keep_the_space_that_they_begin_with(tiny_base: str) -> None:
    for plain in (True, False):
        policy = byte_policy(tiny_base, plain)
        prompt, response = (policy.tokenizer(text)["input_ids"] for text in ("hello", " you  there .\n"))
        assert policy.text(prompt, [*response, EOS]) == " you  there .\n"
        assert policy.text(prompt, [EOS]) == ""


def test_an_answer_is_what_stands_behind_the_prompt_also_where_decoding_drops_its_space() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1, "▁so": 2, "▁it": 3, "▁is": 4}, unk_token="<pad>"))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>")
    assert tokenizer.decode([3, 4]) == "it is"
    assert Policy(causal_of("llama"), tokenizer, plain_text=True).text([2], [3, 4, 1]) == " it is"
    assert Policy(causal_of("llama"), tokenizer, plain_text=False).text([2], [3, 4, 1]) == "it is"


def test_ends_are_those_of_the_tokenizer_and_of_the_model() -> None:
    model = causal_of("llama")
    model.generation_config.eos_token_id = [7, 9]
    policy = policy_of(model)
    assert policy.ends == {1, 7, 9}
    assert policy.finished([4, 9])
    assert not policy.finished([9, 4])
    assert not policy.finished([])
    tokenizer = letters_tokenizer()
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    with pytest.raises(BadInputError, match=r"align.policy: .* no token that ends an answer"):
        Policy(model, tokenizer, plain_text=True)


def test_plain_or_chat_is_chosen_by_the_tokenizer_unless_it_is_said() -> None:
    tokenizer = letters_tokenizer()
    assert asks_plainly(tokenizer, None)
    with pytest.raises(BadInputError, match=r"align.plain_text: false, .*no chat template; set it to true"):
        asks_plainly(tokenizer, False)
    tokenizer.chat_template = TEMPLATE
    assert not asks_plainly(tokenizer, None)
    assert asks_plainly(tokenizer, True)


# How it is stored -----------------------------------------------------------------------------------------------------
def test_an_adapter_comes_back_with_the_same_logits(start: Path, base: Path, tmp_path: Path) -> None:
    policy = aligned(start, tmp_path, method="lora", lora_layers=2)
    info = PolicyInfo(base=str(base), start="base", trained="adapter", plain_text=True, temperature=0.9, scored="text")
    save_policy(policy, info, tmp_path / "saved", start)
    assert PolicyInfo.read(tmp_path / "saved") == info
    found = load_policy(tmp_path / "saved", tmp_path)
    assert torch.equal(logits(found), logits(policy))
    assert not torch.allclose(logits(found), logits(load_start(start, tmp_path)), atol=1e-2)
    # A base that was not changed is named, not copied.
    assert sorted(path.name for path in (tmp_path / "saved").rglob("*") if path.is_file()) == [
        "adapter_config.json", "adapter_model.safetensors", "policy.json",
    ]  # fmt: skip


def test_an_adapter_holds_no_path_of_this_machine(start: Path, base: Path, tmp_path: Path) -> None:
    policy = aligned(start, tmp_path, method="lora")
    info = PolicyInfo(base="random:tiny", start="base", trained="adapter")
    save_policy(policy, info, tmp_path / "saved", start)
    for path in (tmp_path / "saved").rglob("*"):
        if path.is_file():
            assert str(base).encode() not in path.read_bytes(), path.name
            assert b"/tmp" not in path.read_bytes(), path.name
            assert path.suffix in (".json", ".safetensors")


def test_a_tuned_start_travels_with_its_adapter(base: Path, tmp_path: Path) -> None:
    tuned = start_folder(tmp_path / "tuned", "random:tiny", start="sft")
    begun = load_start(start_folder(tmp_path / "bare", base), tmp_path)
    disturb(begun, seed=4)
    begun.model.save_pretrained(tuned / "model")
    begun.tokenizer.save_pretrained(tuned / "model")
    assert start_place(tuned, tmp_path) == str(tuned / "model")
    policy = aligned(tuned, tmp_path, method="lora")
    info = PolicyInfo(base="random:tiny", start="sft", trained="adapter", plain_text=True)
    save_policy(policy, info, tmp_path / "saved", tuned)
    found = load_policy(tmp_path / "saved", tmp_path)
    assert torch.equal(logits(found), logits(policy))
    with found.as_reference():
        assert torch.equal(logits(found), logits(load_start(tuned, tmp_path)))


def test_all_weights_come_back_with_the_same_logits(start: Path, base: Path, tmp_path: Path) -> None:
    policy = aligned(start, tmp_path, method="full")
    save_policy(
        policy, PolicyInfo(base=str(base), start="base", trained="model", plain_text=True), tmp_path / "s", start
    )
    assert (tmp_path / "s" / "model" / "model.safetensors").is_file()
    assert torch.equal(logits(load_policy(tmp_path / "s", tmp_path)), logits(policy))
    assert not torch.allclose(logits(policy), logits(load_start(start, tmp_path)), atol=1e-2)
    with pytest.raises(ValueError, match="no reference of itself"), policy.as_reference():
        pass


@pytest.mark.parametrize(
    "content", [None, "{", "[1]", '{"base": "b"}', '{"base": "b", "start": "base", "colour": 1}', '"text"']
)
def test_what_is_no_policy_is_refused_with_its_place(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "policy.json").write_text(content, encoding="utf-8")
    with pytest.raises(BadInputError, match=r"policy\.json: is not a policy of rewardloop"):
        PolicyInfo.read(tmp_path)


def test_the_digest_names_weights_and_how_they_are_asked(start: Path, base: Path, tmp_path: Path) -> None:
    info = PolicyInfo(base=str(base), start="base", trained="adapter", plain_text=True)
    policy = aligned(start, tmp_path, method="lora")
    digests = []
    for name, change in (("first", lambda: None), ("again", lambda: None), ("other", lambda: disturb(policy))):
        change()
        save_policy(policy, info, tmp_path / name, start)
        digests.append(policy_digest(tmp_path / name))
    assert digests[0] == digests[1] != digests[2]
    PolicyInfo(base=str(base), start="base", trained="adapter", plain_text=False).write(tmp_path / "first")
    assert policy_digest(tmp_path / "first") != digests[0]


def test_the_starts_tokenizer_comes_alone(start: Path, tmp_path: Path) -> None:
    assert start_tokenizer(start, tmp_path)("abi")["input_ids"] == [2, 3, 10]


# How it is made ready to learn ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("top", "numbers"), [(None, {0, 1, 2}), (1, {2}), (2, {1, 2}), (3, {0, 1, 2})])
def test_adapters_are_on_the_last_layers_alone(start: Path, tmp_path: Path, top: int | None, numbers: set[int]) -> None:
    policy = with_adapters(load_start(start, tmp_path), settings_of(method="lora", lora_layers=top))
    trained = [name for name, value in policy.model.named_parameters() if value.requires_grad]
    assert {int(name.partition(".layers.")[2].partition(".")[0]) for name in trained} == numbers
    assert len(trained) == len(numbers) * 7 * 2  # A and B for the seven linear layers of a Llama's layer
    assert all(".lora_" in name for name in trained)
    assert policy.reading.kind == "packed"


@pytest.mark.parametrize("rounded", [False, True])
def test_merged_adapters_answer_alike_and_leave_the_weights_bit_for_bit(
    start: Path, tmp_path: Path, rounded: bool
) -> None:
    policy = with_adapters(load_start(start, tmp_path, rounded=rounded), settings_of(method="lora"))
    disturb(policy)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    with policy.autocast():
        expected = logits(policy)
        with policy.as_reference():
            reference = logits(policy)
        with policy.merged_adapters():
            found = logits(policy)
    moved = float((expected - reference).abs().max())
    assert float((found - expected).abs().max()) < (0.1 if rounded else 1e-4) * moved
    after = policy.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    with policy.autocast():
        assert torch.equal(logits(policy), expected)


def test_without_adapters_there_is_nothing_to_merge(start: Path, tmp_path: Path) -> None:
    policy = load_start(start, tmp_path)
    with policy.merged_adapters():
        merged = logits(policy)
    assert torch.equal(logits(policy), merged)


def bare(kind: str, **fields: Any) -> Any:
    common = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
              "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common | fields), dtype=torch.float32).eval()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("cohere", {"num_key_value_heads": 2, "intermediate_size": 64}),
        # It has the field that Granite divides by, and multiplies.
        ("hyperclovax", {"num_key_value_heads": 2, "intermediate_size": 64, "logits_scaling": 4.0}),
    ],
)
def test_logits_that_are_scaled_in_an_unknown_way_are_refused(kind: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadInputError, match=r"align.policy: \w+ForCausalLM scales its logits in a way"):
        policy_of(bare(kind, **fields))


def test_hidden_states_may_be_projected_before_the_head() -> None:
    """As OPT-350M's are."""
    policy = policy_of(bare("opt", ffn_dim=64, word_embed_proj_dim=16, do_layer_norm_before=False))
    assert policy.width == 16
    blocks = blocks_of(1, 50)
    reader = RowReader(policy.causal_model, policy.reading, 0)
    with torch.no_grad():
        found = reader.hidden(reader.row(blocks))
        torch.testing.assert_close(found @ policy.model.lm_head.weight.T, logits_one_by_one(policy, blocks))


def logits_one_by_one(policy: Policy, blocks: Sequence[Block]) -> Tensor:
    rows = []
    for block in blocks:
        for response in block.responses:
            whole = policy.model(input_ids=torch.tensor([[*block.prompt, *response]])).logits[0]
            rows.append(whole[len(block.prompt) - 1 : -1])
    return torch.cat(rows)


@pytest.mark.parametrize("name", ["gpt2", "opt", "falcon", "gptj", "bloom"])
def test_every_family_has_linear_layers_to_adapt(name: str) -> None:
    policy = with_adapters(policy_of(causal_of(name)), settings_of(method="lora", lora_layers=1))
    trained = [name for name, value in policy.model.named_parameters() if value.requires_grad]
    assert len(trained) >= 8
    last = len(next(m for n, m in policy.causal_model.named_modules() if n.endswith((".layers", ".h")))) - 1
    assert all(f".{last}." in name for name in trained)


def test_more_layers_than_there_are_is_refused(start: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"align.lora_layers: found 4; the policy has 3 layers"):
        with_adapters(load_start(start, tmp_path), settings_of(method="lora", lora_layers=4))


def test_adapters_begin_as_nothing_and_the_reference_stays_the_start(start: Path, tmp_path: Path) -> None:
    before = logits(load_start(start, tmp_path))
    policy = with_adapters(load_start(start, tmp_path), settings_of(method="lora"))
    assert torch.equal(logits(policy), before)
    disturb(policy)
    assert not torch.allclose(logits(policy), before, atol=1e-2)
    with policy.as_reference():
        assert torch.equal(logits(policy), before)
    assert not torch.allclose(logits(policy), before, atol=1e-2)
    assert [value.requires_grad for name, value in policy.model.named_parameters()] == [
        ".lora_" in name for name, _ in policy.model.named_parameters()
    ]


def test_a_rounded_policy_trains_float32_adapters(start: Path, tmp_path: Path) -> None:
    rounded = load_start(start, tmp_path, rounded=True)
    policy = with_adapters(rounded, settings_of(method="lora"))
    for name, value in policy.model.named_parameters():
        linear = "_proj" in name or "lm_head" in name
        expected = torch.bfloat16 if linear and ".lora_" not in name else torch.float32
        assert value.dtype == expected, name
        assert value.requires_grad == (".lora_" in name), name
    with policy.autocast():
        near = logits(policy)
    torch.testing.assert_close(near.float(), logits(load_start(start, tmp_path)), rtol=0.05, atol=0.02)
    # It is read as the exact weights were found to be read.
    assert policy.reading.kind == "packed"
    save_policy(policy, PolicyInfo(base="x", start="base", trained="adapter"), tmp_path / "saved", start)
    from safetensors.torch import load_file

    kept = load_file(tmp_path / "saved" / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in kept.values()} == {torch.float32}


def test_equal_seeds_give_equal_adapters(start: Path, tmp_path: Path) -> None:
    make: Callable[[int], dict[str, Tensor]] = lambda seed: {  # noqa: E731
        name: value
        for name, value in with_adapters(
            load_start(start, tmp_path), settings_of(method="lora", seed=seed)
        ).model.named_parameters()
        if "lora_A" in name
    }
    first, again, other = make(1), make(1), make(2)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_adapter_config_names_no_base(start: Path, tmp_path: Path) -> None:
    policy = aligned(start, tmp_path, method="lora")
    save_policy(policy, PolicyInfo(base="x", start="base", trained="adapter"), tmp_path / "saved", start)
    config = json.loads((tmp_path / "saved" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] is None
    assert config["r"] == 4
