# Every target works on a machine that has only Python 3.11 or newer and make: it builds its own virtual environment first.
# `make` alone lists the targets. `check` reads and never writes; `fix` writes.

VENV   ?= .venv
BIN    := $(VENV)/bin
SERVE_ARGS  ?=
PYTEST_ARGS ?=
# Three at a time, whole files each: many tests wait for processes, disks and clocks. PYTEST_WORKERS=0 runs one after the
# other.
PYTEST_WORKERS ?= 3
PYTEST      := $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadfile --no-loadscope-reorder
BENCH_ARGS  ?=
DEMO_ARGS   ?=
NEMESIS_ARGS ?= --minutes 30 --html nemesis.html

# The first interpreter that is new enough; PYTHON=... overrides.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)

# Where the environment keeps Python from writing bytecode (containers, build machines) every process would compile all of
# it anew: a second of the processor for each node that is started.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help kernels serve demo test check fix bench bench-cluster crash nemesis day fuzz sim-long docs clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | awk -F '\t' '{printf "  make %-13s %s\n", $$1, $$2}'

serve: $(VENV)/.run ## Start a node on port 8000 with its data in ./data (SERVE_ARGS="--port 9000 --data-dir D")
	@exec $(BIN)/python -m arc serve $(SERVE_ARGS)

demo: $(VENV)/.run ## Stream this machine's own metrics into a throw-away node and query them
	@exec $(BIN)/python -m arc demo $(DEMO_ARGS)

test: $(VENV)/.dev kernels ## Run the tests (PYTEST_ARGS="tests/ingest -k escapes")
	$(PYTEST) $(PYTEST_ARGS)

check: $(VENV)/.dev kernels ## Format, lint, types and tests; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST) $(PYTEST_ARGS)

fix: $(VENV)/.dev ## Format, repair what lint can repair, rewrite generated pages
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m docs.generate

docs: $(VENV)/.dev ## Rewrite the generated pages of docs/
	$(BIN)/python -m docs.generate

bench: $(VENV)/.dev ## Measure against peers and floors in the same run; prints a table of ratios
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-cluster: $(VENV)/.dev ## Lose, load and rest three whole nodes, beside etcd; simulate a hundred (BENCH_ARGS=--quick)
	$(BIN)/python -m benchmarks.cluster $(BENCH_ARGS)

crash: $(VENV)/.dev ## Kill a loaded node at random moments, many rounds, and look for every acknowledged row
	$(BIN)/python -m pytest -m long -k crash --timeout=3600 $(PYTEST_ARGS)

nemesis: $(VENV)/.dev ## Hurt real nodes for 30 minutes while clients write; look for every row (NEMESIS_ARGS="--seed 7 --minutes 5 --nodes 5")
	$(BIN)/python -m tests.e2e.nemesis $(NEMESIS_ARGS)

day: $(VENV)/.dev ## Write a day of metrics, merged live on three nodes that are asked and killed (DAY_ARGS="--hosts 100")
	$(BIN)/python -m tests.e2e.day $(DAY_ARGS)

fuzz: $(VENV)/.dev ## Feed the parsers and the HTTP API with nonsense for minutes
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -m "" -k fuzz --timeout=1800 $(PYTEST_ARGS)

# In parts: SIM_FROM=20000 SIM_SEEDS=10000 runs seeds 20000 to 29999; SIM_SEEDS=0 or SIM_WORLD=0 leaves that part out.
SIM_FROM  ?= 0
SIM_SEEDS ?= 100000
SIM_WORLD ?= 2000
SIM_JOBS  ?= 2
SIM_MUTANTS ?= yes
# As simulations.exhaustive.LONG: nodes, terms, entries, crashes, rounds.
SIM_BOUNDS ?= 2,2,2,1,1 2,3,1,0,1 2,2,1,1,2 3,1,1,0,1 3,2,2,1,1

sim-long: $(VENV)/.dev ## The long campaign of the simulator: seeds, whole nodes, planted bugs, every state (SIM_FROM=, SIM_SEEDS=)
	test $(SIM_SEEDS) -eq 0 || $(BIN)/python -m simulations swarm --first $(SIM_FROM) --seeds $(SIM_SEEDS) --jobs $(SIM_JOBS)
	test $(SIM_WORLD) -eq 0 || $(BIN)/python -m simulations swarm --scenario world --first $(SIM_FROM) --seeds $(SIM_WORLD) --jobs $(SIM_JOBS)
	test $(SIM_WORLD) -eq 0 || $(BIN)/python -m simulations swarm --scenario world_named --first $(SIM_FROM) --seeds $(SIM_WORLD) --jobs $(SIM_JOBS)
	test $(SIM_WORLD) -eq 0 || $(BIN)/python -m pytest -m long -k "red_once or named_world or far_apart" --timeout=900
	test $(SIM_MUTANTS) = no || $(BIN)/python -m simulations mutants --ranges 5 --black-box
	test $(SIM_MUTANTS) = no || for bounds in $(SIM_BOUNDS); do set -- $$(echo $$bounds | tr , ' '); echo "every state: $$bounds"; \
		$(BIN)/python -m simulations exhaustive --nodes $$1 --terms $$2 --entries $$3 --crashes $$4 --rounds $$5 --states-max 3000000 || exit 1; done

clean: ## Remove what the targets made, but never data
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build

PIP        := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NO_KERNELS := echo "make: could not install the compiled kernels (numba); going on without them, parsing will be slower" >&2

# What a node needs; the compiled kernels are an extra that some platforms have no wheel for.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	@$(PIP) --editable '.[fast]' || { $(NO_KERNELS); $(PIP) --editable .; }
	@touch $@

# That, and what a developer needs besides: much of which is never imported, so bytecode is left to whoever does.
$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@$(PIP) --no-compile --editable '.[fast,dev]' || { $(NO_KERNELS); $(PIP) --no-compile --editable '.[dev]'; }
	@touch $(VENV)/.run $@

# The tests start hundreds of processes, and each would compile them for half a minute while they are not there.
kernels: $(VENV)/.dev
	@$(BIN)/python -c 'from tests.e2e import warm; warm.import_all()'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or newer; none found. PYTHON=/path/to/python3 make ... names one" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make a virtual environment here (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip || echo "make: going on with the pip that came with $(PYTHON), which takes twice as long" >&2
