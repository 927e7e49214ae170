"""By the source itself: no code that comes with a model or a file is ever run, and weights are safetensors."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("src", "components", "pipelines") for path in (ROOT / folder).rglob("*.py"))
_RUNS_CODE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
_UNPACKS = {"extract", "extractall", "unpack_archive"}
_AUTO_MODELS = ("AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoModel")


def _calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """(dotted name, call) of every call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def _given(call: ast.Call) -> dict[str | None, str]:
    return {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}


def findings(source: str) -> list[str]:
    """What a source does that it must not do."""
    tree, found = ast.parse(source), []
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and ast.unparse(node.value) != "False":
            found.append(f"{node.value.lineno}: trust_remote_code={ast.unparse(node.value)}")
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found += [
                f"{node.lineno}: trust_remote_code in a dict is {ast.unparse(value)}"
                for key, value in pairs
                if isinstance(key, ast.Constant) and key.value == "trust_remote_code" and ast.unparse(value) != "False"
            ]
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [f"{node.lineno}: import {name}" for name in names if name.partition(".")[0] in _RUNS_CODE]  # type: ignore[attr-defined]
    for name, call in _calls(source):
        given, last = _given(call), name.rpartition(".")[2]
        where = f"{call.lineno}: {name}"
        if last == "from_pretrained" and name.startswith("Auto"):
            # A GGUF file has no safetensors; what stands in ** is looked at above.
            if given.get("trust_remote_code") != "False" and None not in given:
                found.append(f"{where} without trust_remote_code=False")
            if name.split(".")[0] in _AUTO_MODELS and given.get("use_safetensors") != "True" and None not in given:
                found.append(f"{where} without use_safetensors=True")
        if name == "torch.load" and given.get("weights_only") != "True":
            found.append(f"{where} without weights_only=True")
        if name in ("eval", "exec", "compile", "__import__"):
            found.append(where)
        if last in _UNPACKS:
            found.append(f"{where} writes what an archive names")
        if name in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "numpy.load", "np.load"):
            found.append(where)
        if given.get("shell") == "True" or name in ("os.system", "os.popen"):
            found.append(f"{where} gives text to a shell")
        if given.get("verify") == "False":
            found.append(f"{where} does not check certificates")
    return found


def test_no_source_runs_what_it_was_given() -> None:
    assert len(SOURCES) > 200
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES}
    found = {path: findings(text) for path, text in texts.items()}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "AutoConfig.from_pretrained(x)",
        "AutoTokenizer.from_pretrained(x, trust_remote_code=yes)",
        "AutoModelForCausalLM.from_pretrained(x, trust_remote_code=False)",
        "AutoModelForCausalLM.from_pretrained(x, trust_remote_code=True, use_safetensors=True)",
        "call(**{'trust_remote_code': True})",
        "torch.load(f)",
        "import pickle",
        "from joblib import load",
        "archive.extractall(folder)",
        "yaml.load(text)",
        "subprocess.run(text, shell=True)",
        "requests.get(url, verify=False)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_is_there(source: str) -> None:
    assert findings(source)
