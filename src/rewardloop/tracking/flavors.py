"""The two kinds of registered models: what lies in a version, and what it answers when MLflow serves it."""

from importlib.metadata import version as installed_version
from pathlib import Path
from typing import NamedTuple

from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema

_PACKAGES = ("mlflow", "pandas", "torch", "transformers", "tokenizers", "safetensors", "numpy")


class Flavor(NamedTuple):
    """One kind of registered model."""

    folder: str
    """Of its files among MLflow's artifacts."""
    python_model: Path
    """The file that serves it; registered with every version (models from code)."""
    signature: ModelSignature
    packages: tuple[str, ...]

    @property
    def pip_requirements(self) -> list[str]:
        """Pinned to what is installed; a local version (torch's +cpu) is on no index."""
        return [f"{package}=={installed_version(package).partition('+')[0]}" for package in self.packages]


REWARD_MODEL = Flavor(
    "reward_model",
    Path(__file__).with_name("pyfunc_model.py"),
    ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "response"), ColSpec(DataType.string, "prompt", required=False)]),
        outputs=Schema(
            [
                ColSpec(DataType.double, "score"),
                ColSpec(DataType.boolean, "allowed", required=False),
                ColSpec(DataType.string, "decision", required=False),
                ColSpec(DataType.double, "threshold", required=False),
                ColSpec(DataType.string, "model_version", required=False),
            ]
        ),
    ),
    (*_PACKAGES, "scipy"),
)
POLICY = Flavor(
    "policy",
    Path(__file__).with_name("pyfunc_policy.py"),
    ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        outputs=Schema([ColSpec(DataType.string, "response")]),
    ),
    (*_PACKAGES, "peft"),
)
