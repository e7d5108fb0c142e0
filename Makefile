# The front door. The first target you run makes .venv and installs into it; there is no other step.

PROFILE ?= demo
BUDGET ?=
# Settings of the profile to change, such as SET="merge_probability=0.3 seeds=5".
SET ?=
# A stage, or a notebook for all of its stages: only this runs, and what it needs.
UNTIL ?=
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
# The first of these that runs and is a version the packages support; or say make PYTHON=... yourself.
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13,$(shell \
    $(name) -c 'import sys; (3, 11) <= sys.version_info < (3, 14) and print("$(name)")' 2>/dev/null)))
BIN := .venv/bin
# A value as one word for the shell, whatever quotes it holds.
quoted = '$(subst ','\'',$(1))'
VARIANT = --budget=$(call quoted,$(BUDGET)) --set=$(call quoted,$(SET))
OPTIONS = --profile=$(call quoted,$(PROFILE)) $(VARIANT) --cores=$(call quoted,$(CORES)) --until=$(call quoted,$(UNTIL))

.DEFAULT_GOAL := help
.PHONY: help reproduce plan verify explain test bench bench-demo lab lock clean

help:  ## show this list
	@grep -E '^[a-z.]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
	@echo "Options: PROFILE=$(PROFILE) BUDGET=$(BUDGET) CORES=$(CORES) UNTIL=40_pseudo_perplexity SET=\"merge_probability=0.3 seeds=5\""

.venv: .venv/installed  ## build just the environment

# The stamp is written last, so an interrupted installation starts again.
.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "Installing the packages of requirements.lock into .venv (1 to 5 minutes, once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $@

reproduce: .venv  ## run every stage that is not up to date: make reproduce PROFILE=mini BUDGET=0.05
	@$(BIN)/python -m robbertje_lib reproduce $(OPTIONS)

plan: .venv  ## say what `make reproduce` would run, and why
	@$(BIN)/python -m robbertje_lib plan $(OPTIONS)

verify: .venv  ## compare the results on disk with the records of the run: make verify PROFILE=demo
	@$(BIN)/python -m robbertje_lib verify $(call quoted,$(PROFILE)) $(VARIANT)

explain: .venv  ## say where a result comes from: make explain WHAT=figures/demo/pseudo_perplexity.svg
	@$(BIN)/python -m robbertje_lib explain $(call quoted,$(WHAT)) --profile=$(call quoted,$(PROFILE)) $(VARIANT)

# The smoke path takes all cores and touches a module, so nothing runs beside it.
test: .venv  ## lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --ignore tests/workflow/test_smoke.py
	$(BIN)/pytest tests/workflow/test_smoke.py

# bench_demo takes hours and is started by itself; the loop at the paper's shapes wants a GPU, two others have no use for one.
DEVICE ?= cpu
# Of the processor's instructions use only these: ISA=avx2.
ISA ?=
WHOLE := bench_demo
OTHERS = $(if $(filter cpu,$(DEVICE)),bench_training,bench_scaling bench_significance bench_sharing)
BENCHMARKS = $(filter-out $(WHOLE) $(OTHERS),$(basename $(notdir $(wildcard tests/benchmarks/bench_*.py))))

bench: .venv  ## measure speed against named baselines, 20 minutes, idle: make bench, DEVICE=cuda, ISA=avx2
	@for name in $(BENCHMARKS); do \
	    echo "== $$name"; \
	    $(BIN)/python -m tests.benchmarks.$$name --device $(DEVICE) $(if $(ISA),--isa $(ISA)) || exit 1; done
	@$(BIN)/python -m tests.benchmarks.table

bench-demo: .venv  ## time the whole demo, idle, with AVX2 only, and beside a busy process: make bench-demo SEEDS="1 2 3 4"
	@$(BIN)/python -m tests.benchmarks.bench_demo $(if $(SEEDS),--seeds $(SEEDS))
	@$(BIN)/python -m tests.benchmarks.table

lab: .venv  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

# A fresh environment decides what is needed. torch is named, as another version would bring other CUDA packages;
# the local part of its version (+cpu, +cu130) is cut, so that the same lock installs either build.
# Use the oldest Python that is supported, 3.11.0 to 3.11.4: some packages dropped it in the middle of the 3.11 series.
lock:  ## renew requirements.lock from pyproject.toml
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --disable-pip-version-check "torch==2.13.0" ".[lab,test]"
	{ echo "# Exact versions of everything in pyproject.toml with the extras lab and test. Made by: make lock"; \
	  .venv-lock/bin/python -m pip freeze --all --exclude pip --exclude robbertje-reproducible \
	  | sed -E '/ @ /d; s/^(torch==[^+]*)\+.*/\1/; /^(nvidia|cuda|triton)/d'; } > requirements.lock.new
	mv requirements.lock.new requirements.lock && rm -rf .venv-lock

clean:  ## remove the environment and caches; results in papermill_runs and figures stay
	rm -rf .venv .venv-lock .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
