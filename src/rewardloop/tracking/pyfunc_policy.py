"""The policy as MLflow serves it: rows of prompts in, answers out, sampled as it was aligned.

This file is registered with every version (models from code, no pickle). A base that is a hub id or a folder is loaded
without rewardloop; one that rewardloop converts (``package:...``) needs it installed. Nothing of the version is loaded
that differs from its manifest.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow import MlflowClient, is_tracking_uri_set
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]


class ServedPolicy(PythonModel):
    """Answers prompts: texts, or JSON lists of messages."""

    def load_context(self, context: Any) -> None:
        """Load base and adapter in float32."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        directory = _verified(Path(context.artifacts["policy"]))
        self.info = json.loads((directory / "policy.json").read_text(encoding="utf-8"))
        place = str(directory / "model") if (directory / "model").is_dir() else _base(self.info["base"])
        self.tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = AutoModelForCausalLM.from_pretrained(
            place, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        ).to(device)
        own = model.generation_config.eos_token_id
        ends = {self.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
        # Penalties and cut-offs that the base comes with had no part in the alignment.
        model.generation_config = GenerationConfig(eos_token_id=sorted(ends))
        if (directory / "adapter").is_dir():
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, directory / "adapter")
        self.model = model.eval()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One answer per row of ``prompt``."""
        if "prompt" not in model_input.columns:
            raise _refused(f"no column 'prompt'; found {sorted(map(str, model_input.columns))}")
        answers = [self._answer(row, prompt) for row, prompt in enumerate(model_input["prompt"].tolist())]
        return pd.DataFrame({"response": answers}, index=model_input.index)

    def _answer(self, row: int, prompt: Any) -> str:
        if not isinstance(prompt, str) or not prompt.strip():
            raise _refused(f"row {row}: 'prompt' is {prompt!r}; expected a text")
        text = prompt
        if not self.info["plain_text"]:
            listed = json.loads(prompt) if prompt.lstrip().startswith("[{") else [{"role": "user", "content": prompt}]
            text = self.tokenizer.apply_chat_template(listed, tokenize=False, add_generation_prompt=True)
        asked = self.tokenizer(text, add_special_tokens=self.info["plain_text"], return_tensors="pt")
        asked = asked.to(self.model.device)
        made = self.model.generate(
            **asked,
            max_new_tokens=self.info["max_new_tokens"],
            do_sample=True,
            temperature=self.info["temperature"],
            top_k=0,
            top_p=1.0,
            pad_token_id=self.tokenizer.pad_token_id or 0,
        )
        head, whole = (
            str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))
            for ids in (asked["input_ids"][0], made[0])
        )
        return whole[len(head) :]


def _base(base: str) -> str:
    if ":" not in base:
        return base
    try:
        from rewardloop.modeling.base import prepare_base
    except ImportError as error:
        raise _refused(
            f"the base {base!r} is converted by rewardloop; install rewardloop to serve the policy"
        ) from error
    return prepare_base(base, Path.home() / ".cache" / "rewardloop" / "base-models")


def _verified(directory: Path) -> Path:
    """``directory``, if its files are those of ``manifest.json`` and that is the one of the version's tag.

    The same in every file that MLflow serves: such a file travels alone. The registry is asked where MLflow was told
    which one; otherwise, and where it does not know the version, the manifest has to be believed.

    Raises:
        MlflowException: names the first file that is changed, missing or extra.
    """
    path = directory / "manifest.json"
    content = path.read_bytes() if path.is_file() else b"{}"
    try:
        wanted: dict[str, str] = json.loads(content)
    except ValueError:
        wanted = {}
    found: dict[str, str] = {}
    for file in (file for file in directory.rglob("*") if file.is_file() and file != path):
        with file.open("rb") as stream:
            found[file.relative_to(directory).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    # MLflow writes this file beside MLmodel when a version is loaded by its name.
    meta = directory.parents[1] / "registered_model_meta"
    # Without an address MlflowClient would make a database in the current folder.
    if meta.is_file() and is_tracking_uri_set():  # type: ignore[no-untyped-call]
        told = yaml.safe_load(meta.read_bytes())
        with suppress(MlflowException):
            version = MlflowClient().get_model_version(told["model_name"], str(told["model_version"]))
            if version.tags.get("manifest_digest") != hashlib.sha256(content).hexdigest():
                wrong.insert(0, path.name)
    if wrong:
        raise MlflowException(f"{directory / wrong[0]}: not as it was registered; the model is not loaded")
    return directory


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)  # type: ignore[no-any-return]


set_model(ServedPolicy())
