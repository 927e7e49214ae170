"""Where a base model comes from: the hub, a directory, a GGUF file inside an installed package, or made on the spot.

In: ``model.base`` of the configuration. Out: what ``from_pretrained`` takes (a directory or a hub id). Conversions are
made once and kept under a digest of their source; a killed conversion leaves nothing behind. Weights are safetensors
(or GGUF, which is converted) and code that comes with a model is never run: whoever writes either could run anything.
"""

import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from rewardloop.errors import BadInputError

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_KINDS = "a hub id (org/name), a local directory, package:NAME/FILE.gguf, or random:tiny"


def prepare_base(base: str, cache: Path) -> str:
    """Make ``base`` loadable and return its directory or hub id; conversions are kept under ``cache``.

    Raises:
        BadInputError: there is no such model, it has no safetensors, or it can only be loaded by running its own code.
    """
    kind, colon, rest = base.partition(":")
    if colon and kind == "package":
        return str(_convert_gguf(packaged_file(base, rest), cache))
    if colon and kind == "random":
        if rest != "tiny":
            raise BadInputError(f"model.base: {base!r}: the only model made on the spot is random:tiny")
        return str(_make_once(cache / "random-tiny", _write_tiny))
    if Path(base).is_dir():
        if not (Path(base) / "config.json").is_file():
            raise BadInputError(f"model.base: {base}: the directory has no config.json; expected {_KINDS}")
        require_safetensors(Path(base), "model.base")
        _check_config(base)
        return base
    _check_config(base)
    _check_hub_weights(base)
    return base


def require_safetensors(folder: Path, setting: str, names: tuple[str, ...] = _SAFE) -> None:
    """Refuse a model's folder whose weights could run code as they are loaded. Pickles beside safetensors are not read.

    Args:
        folder: where ``from_pretrained`` would look.
        setting: what named it, for the message.
        names: of the files one of which must be there.

    Raises:
        BadInputError: none of them is.
    """
    if any((folder / name).is_file() for name in names):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES) if folder.is_dir() else []
    found = f"found {', '.join(pickles)}: a pickle can run any code as it is loaded. C" if pickles else "c"
    raise BadInputError(
        f"{setting}: {folder}: has no {names[0]}; {found}onvert the model to safetensors (load it in a sandbox, and "
        "save_pretrained)"
    )


def packaged_file(base: str, rest: str) -> Path:
    """The GGUF file that ``package:NAME/FILE`` names; ``rest`` is what follows the colon.

    Raises:
        BadInputError: the package is not installed, or has no such file.
    """
    name, _, file = rest.partition("/")
    # Importing the package could run anything; its place on disk is all that is needed.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError(
            f"model.base: {base!r}: package {name!r} is not installed here; install it, without its dependencies"
        )
    folder = Path(spec.submodule_search_locations[0])
    if not (folder / file).is_file() or not file.endswith(".gguf"):
        known = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.gguf"))
        raise BadInputError(f"model.base: {base!r}: no such GGUF file; the package has {known or 'none'}")
    return folder / file


def _check_config(base: str) -> None:
    from transformers import AutoConfig

    try:
        # False, not left out: a terminal would be asked whether the code may run.
        AutoConfig.from_pretrained(base, trust_remote_code=False)
    except (OSError, ValueError) as error:
        if "trust_remote_code" in str(error):
            raise BadInputError(
                f"model.base: {base!r} comes with code of its own (auto_map in config.json), which is never run; "
                "choose a model of an architecture that transformers knows"
            ) from error
        first = str(error).strip().splitlines()[0]
        raise BadInputError(
            f"model.base: {base!r} does not exist or cannot be read: {first} Expected {_KINDS}"
        ) from error


def _check_hub_weights(base: str) -> None:
    from transformers.utils import cached_file

    # What is loaded next is fetched here: a model without it must not get as far as that.
    if not any(cached_file(base, name, _raise_exceptions_for_missing_entries=False) for name in _SAFE):
        raise BadInputError(
            f"model.base: {base!r} has no safetensors, only weights that could run code as they are loaded; choose one "
            "with model.safetensors, or convert it"
        )


def _convert_gguf(source: Path, cache: Path) -> Path:
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)

    def write(folder: Path) -> None:
        """The converted model and its tokenizer."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where = {"gguf_file": source.name, "trust_remote_code": False}
        model = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **where)
        # transformers refuses to save what it still believes to be quantized.
        del model.config.quantization_config
        model.hf_quantizer = None
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source.parent, **where).save_pretrained(folder)

    return _make_once(cache / f"{source.stem}-{digest.hexdigest()[:16]}", write)


def _write_tiny(folder: Path) -> None:
    """A Llama of 2 layers and 64 dimensions with a byte-level tokenizer: for trying the graph, not for answers."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>")  # noqa: S106  no password
    wrapped.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)


def _make_once(folder: Path, write: Callable[[Path], None]) -> Path:
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".making-"))
    try:
        write(temporary)
        try:
            temporary.replace(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster and its result is as good
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder
