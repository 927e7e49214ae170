"""The policy as MLflow serves it: rows of prompts in, answers out, sampled as it was aligned.

This file is registered with every version (models from code, no pickle). A base that is a hub id or a folder is loaded
without rewardloop; one that rewardloop converts (``package:...``) needs it installed.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel  # type: ignore[attr-defined]


class ServedPolicy(PythonModel):
    """Answers prompts: texts, or JSON lists of messages."""

    def load_context(self, context: Any) -> None:
        """Load base and adapter in float32."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

        directory = Path(context.artifacts["policy"])
        self.info = json.loads((directory / "policy.json").read_text(encoding="utf-8"))
        place = str(directory / "model") if (directory / "model").is_dir() else _base(self.info["base"])
        self.tokenizer = AutoTokenizer.from_pretrained(place)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32).to(device)
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


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)  # type: ignore[no-any-return]


set_model(ServedPolicy())
