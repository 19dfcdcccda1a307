# make demo            install, train on mosaics of real textures, score, and write a report
# make demo IMAGES=DIR the same on your own images (pictures, no scores); OUT=DIR for its output
# make test            the tests, on CPU; PYTHON=python3.13 VENV=.venv-3.13 by another Python
# make test-all        the slow ones as well, which vary at length what others show
# make lint            ruff, mypy, the directions of imports, and the Dockerfile
# make lock            resolve requirements/*.in again
# make docs            the pages as a site, in build/site
# make dist            sdist and wheel in dist/, looked through, and installed in a new environment

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# As they were typed: the shell that runs the recipe reads them out of its environment.
export VICE_DEMO_IMAGES := $(value IMAGES)
export VICE_DEMO_OUT := $(value OUT)

.PHONY: demo test test-all lint lock docs dist clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,8s/^# //p' Makefile

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: $(PYTHON) is older than 3.10; name a newer one with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Stamps are younger than what they installed: nothing is installed twice.
$(VENV)/%.stamp: requirements/%.txt setup.py | $(VENV)/bin/python
	scripts/install.sh $(VENV) $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(VENV)/runtime.stamp
	"$(BIN)/python" tools/demo.py $${VICE_DEMO_OUT:+"--out=$$VICE_DEMO_OUT"} \
		$${VICE_DEMO_IMAGES:+"--images=$$VICE_DEMO_IMAGES"}

# One process more than two cores can serve: the tests on SLURM are in one, and wait.
test test-all: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadgroup --no-loadscope-reorder $(SLOW) $(ARGS)

test-all: SLOW := --slow

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint scripts/Dockerfile

lock:
	scripts/lock_requirements.sh

docs: $(VENV)/dev.stamp
	cd docs/site && NO_MKDOCS_2_WARNING=1 "$(abspath $(BIN))/mkdocs" build --quiet --config-file mkdocs.yml

dist: $(VENV)/dev.stamp
	PATH="$(abspath $(BIN)):$$PATH" scripts/make_dist.sh

clean:
	rm -rf $(VENV) outputs build dist *.egg-info
