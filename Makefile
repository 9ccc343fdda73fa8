# Everything here needs only Python 3.11, 3.12 or 3.13, make and git; the rest is installed into .venv.

.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

PYTHON ?=
VENV   := .venv
# pip puts programs elsewhere on Windows
BIN    := $(if $(filter Windows_NT,$(OS)),$(VENV)/Scripts,$(VENV)/bin)
RUN    := $(BIN)/python -m
PIP    := $(RUN) pip --disable-pip-version-check --quiet
# stamps: .venv was installed from these files
RUNTIME := $(VENV)/.stamp-runtime
DEV     := $(VENV)/.stamp-dev
SOURCES := pyproject.toml constraints.txt

# Training options beyond the instrument's name: make train-flute TRAIN_ARGS="--steps 500"
TRAIN_ARGS ?=
# Two workers, each with files of its own: TensorFlow is loaded twice, no more.
PYTEST_ARGS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help
help: ## List the targets
	@echo "make demo         sing through a flute: examples/voice.wav -> demo/"
	@echo "make test         run the tests, without those marked slow"
	@echo "make test-all     run all tests, as continuous integration does"
	@echo "make test-backends run the engine's tests, and train a little, on TensorFlow, JAX and PyTorch"
	@echo "make lint         run the linters, the type checker and the import rules"
	@echo "make bench        run the speed benchmarks"
	@echo "make fuzz         test the readers with damaged files, and the commands with kills"
	@echo "make licences     list the installed packages and their licences, and write an SBOM"
	@echo "make train-NAME   train an instrument on datasets/NAME (see: ddsp prepare)"
	@echo "make instruments  make the bundled instruments again from their recordings (see: models/RECIPES.md)"
	@echo "make instrument-NAME make one of them again: make instrument-violin AUDIO=/path/to/recordings"
	@echo "make data-NAME    only prepare its recordings, into datasets/NAME"
	@echo "make clean        remove the files that tools have made"
	@echo "make distclean    remove .venv and the demo's results as well"
	@echo
	@echo "Each target first installs its requirements into .venv. PYTHON=/path/to/python chooses the interpreter."

# --- the environment -----------------------------------------------------------------------------------

# The first Python that starts, is of a version we support and can make a virtual environment.
$(VENV)/pyvenv.cfg:
	@for python in $(if $(PYTHON),'$(PYTHON)',python3.13 python3.12 python3.11 python3 python); do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
			>/dev/null 2>&1; then \
			echo "Making $(VENV) with $$("$$python" --version)"; \
			"$$python" -m venv --clear $(VENV) && exit 0 || exit 1; \
		fi; \
	done; \
	echo "error: no Python 3.11, 3.12 or 3.13 with venv and pip was found$(if $(PYTHON), at $(PYTHON))." >&2; \
	echo "hint:  install one (Debian, Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python" >&2; \
	exit 1

$(RUNTIME): $(SOURCES) | $(VENV)/pyvenv.cfg
	@echo "Installing ddsp into $(VENV) (TensorFlow is large: a few minutes the first time)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(DEV): $(SOURCES) | $(VENV)/pyvenv.cfg
	@echo "Installing ddsp and the development tools into $(VENV) (a few minutes the first time)"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $(RUNTIME) $@

# --- what people want ----------------------------------------------------------------------------------

.PHONY: demo
demo: $(RUNTIME) ## A sung phrase, played by the flute
	@$(BIN)/ddsp transfer examples/voice.wav --model flute --out demo/ --plot --force
	@echo
	@echo "The voice:   examples/voice.wav"
	@echo "The results: in demo/"
	@for file in demo/*; do echo "             $$file"; done

.PHONY: test
test: $(DEV) ## The tests, without those marked slow
	@$(RUN) pytest -m 'not slow' $(PYTEST_ARGS)

.PHONY: test-all
test-all: $(DEV) ## All tests
	@$(RUN) pytest $(PYTEST_ARGS)

# The engine runs wherever Keras runs. JAX and PyTorch have environments of their own, without TensorFlow; on another
# platform or a GPU name the packages that suit it: make test-backends TORCH="torch==2.9.0" JAX="jax[cuda12]"
JAX   ?= jax
TORCH ?= torch==2.13.0
ENGINE_NEEDS := 'keras>=3.10' numpy msgspec pyyaml safetensors scipy soundfile soxr hypothesis pytest pytest-xdist
ENGINE_TESTS := tests/engine tests/training/test_backends.py

.venv-jax/.stamp: $(SOURCES) | $(VENV)/pyvenv.cfg
	@$(RUN) venv .venv-jax
	@.venv-jax/bin/python -m pip --disable-pip-version-check --quiet install $(ENGINE_NEEDS) '$(JAX)'
	@touch $@

.venv-torch/.stamp: $(SOURCES) | $(VENV)/pyvenv.cfg
	@$(RUN) venv .venv-torch
	@.venv-torch/bin/python -m pip --disable-pip-version-check --quiet install $(ENGINE_NEEDS) '$(TORCH)'
	@touch $@

.PHONY: test-backends test-tensorflow test-jax test-torch
test-backends: test-tensorflow test-jax test-torch ## The engine and a few steps of training, on every backend of Keras

test-tensorflow: $(DEV)
	@echo "The engine on TensorFlow:"; KERAS_BACKEND=tensorflow $(RUN) pytest $(ENGINE_TESTS) $(PYTEST_ARGS)

test-jax test-torch: test-%: .venv-%/.stamp
	@echo "The engine on $*:"; KERAS_BACKEND=$* PYTHONPATH=src .venv-$*/bin/python -m pytest $(ENGINE_TESTS) $(PYTEST_ARGS)

.PHONY: lint
lint: $(DEV) ## Linters, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff check --preview --select PLW1514 . # text files without an encoding: Windows has another one
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

BENCHMARKS := engine train prepare transfer live export

.PHONY: bench
bench: $(DEV) ## Run the speed benchmarks
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python "benchmarks/$$name.py" || exit 1; done

.PHONY: licences
licences: $(RUNTIME) ## Write the licences of installed packages and an SBOM (CycloneDX) into build/licences
	@$(BIN)/python tools/licences.py --audit

# Random attacks go on with other seeds for so long.
FUZZ_MINUTES ?= 10

.PHONY: fuzz
fuzz: $(DEV) ## Thousands of hostile and damaged files, flipped bits, and runs killed at random moments
	@DDSP_FUZZ_EXAMPLES=2000 $(RUN) pytest tests/test_fuzz_readers.py tests/importers $(PYTEST_ARGS)
	@$(BIN)/python benchmarks/attack.py --all --minutes $(FUZZ_MINUTES)
	@$(BIN)/python benchmarks/fuzz.py
	@$(BIN)/python benchmarks/fuzz_guided.py --minutes $(FUZZ_MINUTES)
	@$(BIN)/python benchmarks/kill_resume.py
	@$(BIN)/python benchmarks/kill_train.py

# Where the recordings of the bundled instruments are: a folder for each instrument. They are not part of the project.
AUDIO  ?=
PRESET ?= hifi
include models/recipes/instruments.mk

.PHONY: audio
audio:
	@test -n "$(AUDIO)" || { echo "error: give AUDIO=folder that holds violin/, cello/, ...: the recordings" >&2; \
		echo "hint:  models/RECIPES.md tells which these are" >&2; exit 1; }

.PHONY: base instruments $(addprefix instrument-,$(INSTRUMENTS)) $(addprefix data-,$(INSTRUMENTS) $(BASE_ONLY))
instruments: $(addprefix instrument-,$(INSTRUMENTS)) ## All bundled instruments, from their recordings

$(addprefix data-,$(INSTRUMENTS) $(BASE_ONLY)): data-%: audio $(RUNTIME) ## The data set of a bundled instrument
	$(BIN)/ddsp prepare "$(AUDIO)/$*" --name $* --sources models/recipes/$*.yaml $(PREPARE_$*)

$(addprefix instrument-,$(INSTRUMENTS)): instrument-%: data-% ## A bundled instrument, from its recordings
	$(BIN)/ddsp train --instrument $* --preset $(PRESET) --force $(if $(filter hifi,$(PRESET)),$(TRAIN_$*)) $(TRAIN_ARGS)

base: $(addprefix data-,$(INSTRUMENTS) $(BASE_ONLY)) ## The base, with which new instruments begin
	$(BIN)/python models/recipes/make_base.py $(addprefix datasets/,$(INSTRUMENTS) $(BASE_ONLY))

train-%: $(RUNTIME) ## An instrument, from datasets/NAME
	$(BIN)/ddsp train --instrument $* $(TRAIN_ARGS)

.PHONY: clean distclean
clean: ## Leftovers of the tools
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean
	rm -rf $(VENV) .venv-jax .venv-torch demo
