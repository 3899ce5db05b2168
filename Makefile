# make demo, make test and make lint each set up .venv first if it is missing; a second call skips that.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first of these that lightningdrag runs on; make demo PYTHON=/path/to/python chooses another.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

TORCH := $(shell grep '^torch==' constraints.txt)

# Where CPU builds of torch come from. On Linux the default package index has CUDA builds of several
# gigabytes, so PyTorch's own index for CPU builds is used; empty where pip finds a CPU build by itself
# (macOS, or a "+cpu" build among the places pip is configured to look). For CUDA, see the README.
TORCH_INDEX ?= $(shell [ "$$(uname -s)" != Linux ] \
	|| $(BIN)/pip install -q --dry-run --no-deps '$(TORCH)+cpu' >/dev/null 2>&1 \
	|| echo https://download.pytorch.org/whl/cpu)

.PHONY: demo test lint install examples clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py

# A process of one thread a core, each a file of tests at a time; they take some 2 GB each.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(STAMP)

# The results in examples/ and the README's picture, made anew with the model in the package.
examples: $(STAMP)
	$(BIN)/lightningdrag batch examples --out examples/results
	$(BIN)/python examples/demo.py --readme

clean:
	rm -rf $(VENV) out

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "lightningdrag needs Python 3.10 to 3.13, found $$(python3 --version 2>&1)." \
		"Install one, or name it: make demo PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "This Python cannot make virtual environments;" \
		"on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# A CPU build of torch, once installed, satisfies the constraint of the second line.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@index="$(TORCH_INDEX)"; [ -z "$$index" ] || $(BIN)/pip install --no-deps --index-url "$$index" $(TORCH) \
		|| echo "$$index cannot be reached; taking the build that pip finds by itself"
	$(BIN)/pip install -c constraints.txt -e '.[dev]'
	@touch $@
