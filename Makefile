PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all check bench docs clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

demo: $(STAMP)  ## fit a model to a data set that is installed with a dependency, and say where the report is
	rm -rf runs/demo
	$(BIN)/formwright fit --max-latency 1ms --max-size 1MB --max-time 2m --out runs/demo --yes

test: $(STAMP)  ## the whole default suite, or a part: make test PYTEST_ARGS=tests/nn
	$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

test-all: $(STAMP)  ## with the further cases that the default suite leaves out, for a release
	$(BIN)/python -m pytest -n auto --dist loadfile --thorough $(PYTEST_ARGS)

check: $(STAMP)  ## formatting, lint, types, links and cards
	$(BIN)/ruff format --check src tests benchmarks website
	$(BIN)/ruff check src tests benchmarks website
	$(BIN)/mypy
	$(BIN)/python -m formwright.catalog.check

bench: $(STAMP)  ## side by side with other libraries, ratios in one run
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.sequences
	$(BIN)/python -m benchmarks.recurrences
	$(BIN)/python -m benchmarks.streaming
	$(BIN)/python -m benchmarks.series

docs: $(STAMP)  ## the site, in docs/site: guides, how-tos, reference, and the catalogue with a page per card
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	$(BIN)/python -m website.pages build/website
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file website/mkdocs.yml
	@echo "docs/site/index.html; with search: $(PYTHON) -m http.server --directory docs/site"

clean:
	rm -rf $(VENV) runs build/website docs/site
