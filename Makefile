# Everything installs into .venv from the versions in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-gpu lint docs figures clean

demo: .venv/installed
	$(BIN)/python benchmarks/demo.py

# The tests of the plugins look at what compilers make of them, those of pages open a browser, those of cpp/ build it,
# those of the completion ask zsh and fish; without these some skip, and say so.
test: .venv/installed
	-plugins/scripts/install-sm70-toolchain build/sm70-toolchain
	-plugins/scripts/fetch-sass-tools build/sass-tools
	-cpp/scripts/install-dependencies
	-tests/scripts/install-browser
	-tests/scripts/install-shells
	$(BIN)/python -m pytest

# What no machine without a GPU can show: plugins/README.md says what it needs.
test-gpu: export TRTBERT_TEST_DEVICE := gpu
test-gpu: .venv/installed
	$(BIN)/python -m tests.gpu.preflight
	$(BIN)/python -m tests.gpu.library
	$(BIN)/python -m pytest --numprocesses=0 tests/plugins
	$(BIN)/python -m pytest --numprocesses=0 -m gpu tests/gpu
	$(BIN)/python benchmarks/plugins.py

lint: .venv/linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	git ls-files '*.cu' '*.cuh' '*.h' '*.cpp' | xargs $(BIN)/clang-format --dry-run -Werror
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site in site/; the search needs a server: .venv/bin/python -m http.server --directory site
docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/docs
	$(BIN)/mkdocs build --strict

# Measures what docs/measured.md, docs/benchmark.md and docs/compress show, on a quiet machine: hours. DATA= names the folder of data sets.
# Where the C++ runner cannot be built, its figure is left as it was.
figures: .venv/installed
	-cpp/scripts/install-dependencies && cmake --preset cpp && cmake --build --preset cpp --parallel
	$(BIN)/python benchmarks/figures.py $(if $(DATA),--data "$(DATA)")

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "trtbert needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(PIP) --constraint constraints.txt --editable '.[compress,openvino,ray,serve,tensorrt-rtx,test]'
	touch $@

.venv/linters: .venv/installed
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/docs: .venv/installed
	$(PIP) --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv build demo-output site
