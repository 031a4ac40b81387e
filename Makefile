# gradprop: every task of the project, from set-up to report. `make help` lists them.
#
# Needed beforehand: git, GNU make (3.81 or newer) and a Python from 3.11 to 3.13 with its venv
# module. The set-up is the only step that uses the network; everything it installs goes
# into .venv, from requirements.lock, with every file checked against its hash.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
.PHONY: all setup cluster plan docs test test-all test-slurm test-pythons benchmark lock clean distclean help FORCE

# PATH can't hold a colon, Snakemake takes braces in a path for a wildcard, and the programs that pip
# writes into an environment name its folder in the double quotes of a shell.
REFUSED := $(strip $(foreach sign,: { } $$ ` " \,$(findstring $(sign),$(CURDIR))))
ifneq ($(REFUSED),)
$(error gradprop: the folder's path may not hold $(REFUSED) (it is $(CURDIR)); choose another folder)
endif

# How many cores the workflow may use: make CORES=8
CORES ?= 4
# Which Python to set up with: make PYTHON=/path/to/python3.12
PYTHON ?=

# The environment's folder; each of those of `make test-pythons` has its own.
VENV := .venv
BIN := $(VENV)/bin
# Commands run with the environment's programs first, so that the workflow finds `gradprop`.
RUN := PATH="$$(pwd -P)/$(BIN):$$PATH"

# Without byte-code on disk every job that imports TensorFlow starts two to three times
# slower; and the environment holds what the lock file says, not what PYTHONPATH adds to it.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME

# Errors only. uv downloads and unpacks the packages side by side; pip knows of a mirror that its own
# configuration names.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
UV := $(BIN)/uv --no-progress -q pip install --python $(BIN)/python
LOCKED := --require-hashes --no-deps

# The packages of requirements.lock whose names fit, or do not: $(call OF_LOCK,regular expression).
OF_LOCK = awk '/^[^ \#]/ { keep = $(1) } keep' requirements.lock
BUILD := /^(packaging|setuptools|uv|wheel)==/
# Snakemake loads every plugin that is installed, and Slurm's a sixth of its start.
CLUSTER := /^snakemake-executor-plugin-slurm/

PYTHONS := python3.11 python3.12 python3.13
PYTHON_CANDIDATES := $(if $(PYTHON),"$(PYTHON)",$(PYTHONS) python3)
PYTHON_FITS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PLATFORM := import platform, sys; print(sys.platform, platform.machine())

# Sets the shell variable `python` to the first candidate that fits, or stops with one clear line.
# (The interpreter behind a virtual environment, not the environment's own, which may be
# the very one that is about to be replaced.)
define FIND_PYTHON
python=; \
for candidate in $(PYTHON_CANDIDATES); do \
    if "$$candidate" -c '$(PYTHON_FITS)' >/dev/null 2>&1; then \
        python=$$("$$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'); \
        break; \
    fi; \
done; \
if [ -z "$$python" ]; then \
    echo "gradprop: no Python 3.11, 3.12 or 3.13 with the venv module among:" $(PYTHON_CANDIDATES)"." \
        "Install one (Debian, Ubuntu: python3 and python3-venv) or name it: make PYTHON=/path/to/python3" >&2; \
    exit 1; \
fi; \
case $$("$$python" -c '$(PLATFORM)') in \
    "linux x86_64"|"linux aarch64"|"darwin arm64") ;; \
    *) echo "gradprop: TensorFlow is not published for this platform ($$("$$python" -c '$(PLATFORM)'));" \
        "supported are Linux on x86_64 and aarch64, and macOS on arm64" >&2; exit 1 ;; \
esac
endef

## all        set up, train what is missing, write the report (the default; CORES=4)
all: setup
	@$(RUN) $(BIN)/snakemake --cores $(CORES)
	@$(BIN)/python -c 'import pathlib; p = pathlib.Path("reports/index.html"); print(f"\nThe report: {p}\n{p.resolve().as_uri()}")'

## setup      create .venv from requirements.lock (needs the network, once)
setup: $(VENV)/.installed

# An environment does not survive the move or copy of its directory, or the end of its Python.
ifneq ($(shell test -x $(BIN)/python && test "$$(cat $(VENV)/.location 2>/dev/null)" = "$$(pwd -P)" && echo here),here)
$(VENV)/.packages: FORCE
endif

# The stamps are written last: a set-up that was interrupted is done again from the start.
# The installer comes first, also from the lock file, with what builds a package that has no wheel.
$(VENV)/.packages: requirements.lock
	@$(FIND_PYTHON); \
	echo "Setting up $(VENV) with $$("$$python" --version) ($$python)"; \
	rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@$(call OF_LOCK,$(BUILD)) > $(VENV)/build.txt
	@$(call OF_LOCK,!$(CLUSTER)) > $(VENV)/packages.txt
	@$(PIP) install $(LOCKED) --no-compile -r $(VENV)/build.txt
	@echo "Installing $$(grep -c == $(VENV)/packages.txt) packages; 400 to 800 MB to download, a few minutes"
	@$(UV) $(LOCKED) --no-build-isolation -r $(VENV)/packages.txt || { echo "Once more, with pip"; \
	    $(PIP) install $(LOCKED) --no-compile --no-build-isolation -r $(VENV)/packages.txt; }
	@echo "Writing byte-code"
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib >/dev/null || true
	@ls $(VENV)/lib/python3.*/site-packages/tensorflow/__pycache__/__init__.*.pyc >/dev/null
	@pwd -P > $(VENV)/.location
	@touch $@

$(VENV)/.installed: $(VENV)/.packages pyproject.toml
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip --disable-pip-version-check check
	@touch $@
	@echo "Set-up complete"

## cluster    setup, and what the profile for Slurm needs
cluster: $(VENV)/.cluster

$(VENV)/.cluster: $(VENV)/.installed
	@$(call OF_LOCK,$(CLUSTER)) > $(VENV)/cluster.txt
	@$(PIP) install $(LOCKED) -r $(VENV)/cluster.txt
	@touch $@

## plan       what a run would need: networks, jobs, CPU time, memory, disk
plan: setup
	@$(RUN) $(BIN)/gradprop plan

## docs       the manual's tables, the schemas for editors, and the documentation site
docs: setup
	$(BIN)/python -m gradprop.manual
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "The site: docs/_build/html/index.html"

## test       set up, then every check: lint, format, types, order of the rooms, workflow format, tests
test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/snakefmt --check Snakefile workflow
	@echo "mypy, beside the tests: it takes a minute of one core"; \
	$(BIN)/mypy & types=$$!; trap 'kill $$types 2>/dev/null' INT TERM; \
	$(RUN) $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 \
	    --dist loadgroup --no-loadscope-reorder; tests=$$?; \
	wait $$types || { echo "mypy failed: its messages stand among those of the tests" >&2; exit 1; }; \
	exit $$tests

## test-all   the same, and the tests that take minutes
test-all: test
	$(RUN) $(BIN)/python -m pytest -m long

## test-slurm  the workflow on a real Slurm of two nodes on this machine (as root; Debian's packages)
test-slurm: cluster
	$(RUN) $(BIN)/python -m pytest -m slurm tests/slurm

## test-pythons  `make test` with each Python of 3.11, 3.12 and 3.13 that is found, each in its own .venv-*
test-pythons:
	@for python in $(PYTHONS); do \
	    if "$$python" -c '$(PYTHON_FITS)' >/dev/null 2>&1; then \
	        $(MAKE) test PYTHON="$$python" VENV=".venv-$${python#python}" || exit 1; \
	    else \
	        echo "gradprop: no $$python with the venv module: not tested with it"; \
	    fi; \
	done

## benchmark  measure the pipeline against what one would use instead
benchmark: setup
	@$(RUN) $(BIN)/python -m benchmarks

## lock       bring requirements.lock in step with pyproject.toml (UPGRADE=1: newest versions)
lock:
	@test -x $(BIN)/uv || $(MAKE) setup
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile pyproject.toml --all-extras \
	    --universal --python $(BIN)/python --python-version 3.11 --generate-hashes $(if $(UPGRADE),--upgrade) \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	    --quiet --output-file requirements.lock

## clean      remove results, report and caches; .venv stays
clean:
	rm -rf results logs .snakemake .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	rm -rf src/*.egg-info report.zip docs/_build docs/_extra docs/_generated
	if [ -d reports ]; then find reports -mindepth 1 -maxdepth 1 \
	    ! -name README.md ! -name reference -exec rm -rf {} +; fi
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

## distclean  clean, and remove .venv and its like too
distclean: clean
	rm -rf $(VENV) .venv-*

## help       this list
help:
	@sed -n 's/^## /  make /p' Makefile
