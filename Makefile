.NOTPARALLEL:
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# The name of the stamp depends on what the dependencies are, so a change to them installs again
STAMP := .venv/.ready-$(shell cat settings.ini setup.py pyproject.toml | cksum | cut -d' ' -f1)
# Cells that run Triton's interpreter, which has to be asked for before Triton is imported: a process for each notebook
KERNELS = $(shell grep -rl --include='*.ipynb' --exclude-dir='.*' '"\#| triton' nbs)
SLOW = $(shell grep -rl --include='*.ipynb' --exclude-dir='.*' '"\#| slow' nbs)
# The working tree, uncommitted and untracked files too, as one git tree
TREE = $$(export GIT_INDEX_FILE="$$(mktemp -u)"; git add -A && git write-tree; ok=$$?; rm -f "$$GIT_INDEX_FILE"; exit $$ok)

.PHONY: help setup demo test nightly nbs outputs lint readme docs board site check lock clean-env

help: ## what you can do
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv with woofbench and its developer tools; install the commit hooks
	@! git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/pre-commit install --hook-type pre-commit --hook-type commit-msg

demo: $(STAMP) ## a first leaderboard row on a small built-in dataset, on CPU
	$(BIN)/woofbench run --dataset digits --out demo

test: $(STAMP) ## run the notebooks, then the tests
	WOOFBENCH_LESSONS=short OMP_NUM_THREADS=1 $(BIN)/nbdev-test --n-workers 2
	@$(BIN)/python -c 'import triton' 2>/dev/null || exit 0; for o in $(KERNELS); do OMP_NUM_THREADS=1 $(BIN)/nbdev-test $$o --flags triton || exit 1; done
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -rs -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

nightly: $(STAMP) ## what takes too long for every change: slow cells and slow tests
	@for o in $(SLOW); do OMP_NUM_THREADS=2 $(BIN)/nbdev-test $$o --flags slow || exit 1; done
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -rs -m slow -n logical --maxprocesses 8 --dist loadfile

nbs: $(STAMP) ## clean the notebooks and export them to woofbench/
	@$(BIN)/nbdev-clean
	@$(BIN)/nbdev-export

outputs: $(STAMP) ## run the notebooks and store their outputs, for the documentation
	PYTHONWARNINGS=ignore OMP_NUM_THREADS=1 $(BIN)/nbdev-test --n-workers 2 --save
	@for o in $(KERNELS); do PYTHONWARNINGS=ignore OMP_NUM_THREADS=1 $(BIN)/nbdev-test $$o --flags triton --save || exit 1; done
	@$(BIN)/nbdev-clean

lint: $(STAMP) ## check notebooks, tests and scripts with ruff, and types with ty
	@$(BIN)/ruff check .
	@$(BIN)/ty check --output-format concise --no-progress

readme: $(STAMP) ## README.md, docs/board.md and the cards, from notebooks and records
	@$(BIN)/python -m woofbench.site readme

docs: $(STAMP) ## the documentation in _site/docs, from the notebooks
	@$(BIN)/python -m woofbench.site docs

board: $(STAMP) ## leaderboard.csv from the records
	@$(BIN)/woofbench board

site: $(STAMP) ## the web board in _site/, from the records
	@$(BIN)/woofbench site

check: $(STAMP) ## all generated files are in step, the records hold, and ruff is content
	@before=$(TREE) && \
	$(MAKE) --no-print-directory nbs lint readme && \
	$(BIN)/woofbench board --check && \
	after=$(TREE) && \
	{ git diff --no-ext-diff --stat --exit-code $$before $$after || \
	{ echo "Generated files were out of step. They are up to date now: look at the files above, then run make check again."; exit 1; }; }

lock: $(STAMP) ## pin what the workflows install, with hashes, in .github/requirements.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@{ echo '# What the workflows install, to the byte; `make lock` makes it anew'; \
	  $(BIN)/python -c 'from configparser import ConfigParser as C; c = C(delimiters="="); c.read("settings.ini"); print("setuptools>=77", *(c["DEFAULT"][k+"requirements"] for k in ("","docs_","submit_","dev_")))' | \
	  $(BIN)/uv pip compile - --python-version 3.12 --python-platform x86_64-unknown-linux-gnu \
	  --only-binary :all: --generate-hashes --no-header --no-annotate --no-emit-index-url -q; } > .github/requirements.txt.new && mv .github/requirements.txt.new .github/requirements.txt

clean-env: ## remove .venv
	rm -rf .venv

$(STAMP):
	@test -d .venv || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
	  { echo "woofbench needs Python 3.10 or newer, and $(PYTHON) is not: try make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -d .venv || $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) has no venv module: install it (Debian and Ubuntu: apt install python3-venv), then try again"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing woofbench into .venv: PyTorch is large, so the first time takes some minutes"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@rm -f .venv/.ready-*
	@touch $@
