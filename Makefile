# The words that people and CI use. Each of them sets itself up in $(VENV); nothing else has to be installed.

VENV ?= .venv
BIN := $(VENV)/bin
# The first Python that is new enough: pyenv's names exist even where their version is not chosen, so each is tried.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { echo "$$name"; break; }; done)
# Of `make bench` and `make matrix`: which parts. Of `make bench`: a version to measure beside ours, a page of docs/ whose figures are to be replaced.
PARTS ?=
PEER ?=
PAGE ?=
PEER_VENV := .venv-peer
, := ,
# What both sides have in the same version, as far as the peer allows it.
SHARED := fastapi|starlette|pydantic|pydantic_core|PyJWT|argon2-cffi|uvicorn|aiosqlite|asyncpg

.PHONY: help demo test matrix check fmt docs bench peer clean

help:
	@echo "make demo    run the example application on http://127.0.0.1:8000"
	@echo "make test    run the tests; PostgreSQL, MariaDB and Redis are used where they answer"
	@echo "make matrix  the wheel by itself, with each extra, over other adapters, with the newest and the lowest requirements"
	@echo "make check   format, lint, types, imports"
	@echo "make fmt     format, and mend what the linter can mend"
	@echo "make docs    build the site into site/"
	@echo "make bench   measure our speed; PARTS=\"read hashing\" does that only, PEER=fastapi-users==15.0.5 measures it too"

demo: $(VENV)/.demo
	$(BIN)/python -m examples.demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=16 --dist=worksteal --cov --cov-report=
	@if [ -s .missing-services ]; then \
		echo "Coverage is not judged, since some of the code is for $$(cat .missing-services)."; \
		$(BIN)/coverage report; \
	else $(BIN)/coverage report --fail-under=100; fi

matrix: $(VENV)/.dev
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -u .ci/matrix.py $(PARTS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

fmt: $(VENV)/.dev
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

docs: $(VENV)/.docs
	$(BIN)/zensical build --strict --clean

bench: $(VENV)/.dev $(if $(PEER),peer)
	$(BIN)/python -m benchmarks $(PARTS) $(if $(PEER),--peer $(PEER_VENV)/bin/python) $(if $(PAGE),--page $(PAGE))

peer: $(VENV)/.dev
	@test -n "$(PEER)" || { echo "Which one? make bench PEER=fastapi-users==15.0.5"; exit 1; }
	test -x $(PEER_VENV)/bin/python || $(BIN)/python -m venv $(PEER_VENV)
	$(BIN)/python -m pip freeze --exclude-editable | grep -E "^($(SHARED))==" > $(PEER_VENV)/constraints.txt
	$(PEER_VENV)/bin/python -m pip install --quiet --constraint $(PEER_VENV)/constraints.txt \
		"$(subst fastapi-users,fastapi-users[sqlalchemy$(,)beanie$(,)redis$(,)oauth],$(PEER))" aiosqlite asyncpg httpx uvicorn

clean:
	rm -rf $(VENV) $(PEER_VENV) site dist .cache .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.venv:
	@test -n "$(PYTHON)" || { echo "Python 3.10 or newer is needed, and none was found: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[sqlalchemy,mail,oauth]" --group demo
	touch $@

$(VENV)/.dev: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[sqlalchemy,beanie,redis,oauth,mail,breached,throttle,testing,cli]" --group dev
	touch $@

$(VENV)/.docs: $(VENV)/.venv pyproject.toml
	$(BIN)/python -m pip install --quiet --group docs
	touch $@
