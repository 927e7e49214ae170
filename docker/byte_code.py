"""Compile what rewardloop imports, and only that: all of the libraries' byte code would add a fifth to an image.

In: the environment of the image that is being built, which holds the dependencies but not rewardloop. Out: byte code
beside each source that the names below import. A module that is missing here costs its compilation in every container
(the image cannot be written to), a name that does not exist ends the build.
"""

import importlib
import py_compile
import sys
from pathlib import Path

MODULES = """
    accelerate accelerate.commands.launch apprise crowdkit.aggregation croniter datasets fastapi fastapi.openapi.utils
    filelock fsspec great_expectations great_expectations.checkpoint great_expectations.expectations jinja2
    kfp.dsl.executor_main krippendorff matplotlib.backends.backend_agg matplotlib.backends.backend_svg matplotlib.figure
    mlflow mlflow.artifacts mlflow.models mlflow.pyfunc mlflow.server mlflow.store.artifact.artifact_repository_registry
    mlflow.store.artifact.s3_artifact_repo mlflow.store.model_registry.sqlalchemy_store
    mlflow.store.tracking.sqlalchemy_store numpy pandas peft phonenumbers polars profanity_check
    prometheus_client.multiprocess psutil psycopg2 pyarrow.dataset pyarrow.parquet requests s3fs safetensors.torch
    scipy.interpolate scipy.optimize scipy.special scipy.stats sklearn.feature_extraction.text sklearn.linear_model
    stamina standardwebhooks stdnum.iban stdnum.luhn tokenizers torch torch._dynamo torch._inductor.config
    torch.distributed.checkpoint.state_dict torch.distributed.elastic.multiprocessing torch.nn.attention.flex_attention
    torch.optim torch.utils.checkpoint tqdm.auto transformers transformers.modeling_gguf_pytorch_utils
    transformers.models.auto.modeling_auto transformers.models.auto.tokenization_auto
    transformers.models.gpt2.modeling_gpt2 transformers.models.llama.modeling_llama
    transformers.models.mistral.modeling_mistral transformers.models.qwen2.modeling_qwen2 transformers.trainer
    trl.trainer.dpo_trainer trl.trainer.grpo_trainer trl.trainer.rloo_trainer trl.trainer.sft_trainer typer.core
    typer.main uvicorn uvicorn.protocols.http.auto uvicorn.supervisors watchfiles yaml zstandard
""".split()  # noqa: SIM905  # a list of one name a line is two pages


def main() -> None:
    """Import, then compile what has been imported."""
    for name in MODULES:
        importlib.import_module(name)
    home = Path(sys.prefix)
    sources = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    mine = sorted(path for path in sources if path.suffix == ".py" and path.is_relative_to(home))
    for path in mine:
        # Not by time stamp: layers of an image may round it, and nobody edits what lies in one.
        py_compile.compile(str(path), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    print(f"byte code of {len(mine)} modules")


if __name__ == "__main__":
    main()
