# Everything a person or a machine runs here. Needs Python 3.11 or later and make, nothing else.
# `make` alone lists the commands. Settings: PYTHON, PORT, DATA_DIR, GATEWAY, GATEWAY_MASTER_KEY,
# ONLY, HISTORIES, MINUTES, EFFORT, ARGS.

.DEFAULT_GOAL := help
SHELL := /bin/sh

UV_VERSION := 0.13.9
DATA_DIR ?= .local
JOBS ?= auto

BIN := .venv/bin
NODE_CLIENTS := .tools/node_clients/.synced
UV := .tools/.uv-$(UV_VERSION)
ENVIRONMENT := .venv/.synced

export DATA_DIR
export UV_PYTHON_DOWNLOADS := never
# Where the system has certificates of its own (a company proxy's among them), trust them as pip does.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),)
UV_SYSTEM_CERTS ?= true
export UV_SYSTEM_CERTS
endif
# Without its bytecode cache every Python process here starts several seconds later.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test e2e screenshots contract gateway soak bench demo manage lint format check requirements clean

help: ## list the commands
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

run: $(ENVIRONMENT) ## the whole product on this machine (PORT, DATA_DIR, GATEWAY); Ctrl-C stops it
	@exec $(BIN)/python -m sandbox.run

test: $(ENVIRONMENT) ## all tests but those of contract, e2e and soak, on a throw-away PostgreSQL and Valkey (ARGS for pytest)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not contract and not browser and not soak" $(ARGS)

e2e: $(ENVIRONMENT) ## the product in a real browser
	@$(BIN)/python -m pytest -n 0 -m browser $(ARGS)

screenshots: $(ENVIRONMENT) ## pictures of every page of the running `make run` (DATA_DIR), where it makes rows to show
	@$(BIN)/python -m tests.e2e.screenshots $(ARGS)

contract: $(ENVIRONMENT) $(NODE_CLIENTS) ## stand-ins held against their contracts, with the real LiteLLM where it can be had
	@$(BIN)/python -m sandbox.real_litellm $(BIN)/python -m pytest -n 0 -m contract \
	  $(or $(ARGS),tests/contract tests/chatproxy/test_node_clients.py)

gateway: $(ENVIRONMENT) ## a real LiteLLM on this machine, for `make run GATEWAY=…` or `make contract`
	@exec $(BIN)/python -m sandbox.real_litellm

soak: $(ENVIRONMENT) ## long random histories (ONLY=name, HISTORIES=number, MINUTES=number, SEED=as printed)
	@$(BIN)/python -m tests.soak $(ONLY)

bench: $(ENVIRONMENT) ## measurements, one JSON object a line (ONLY=name)
	@$(BIN)/python -m bench $(ONLY)

demo: $(ENVIRONMENT) ## the customer's story, driven through HTTP against a running `make run`
	@test -n "$(ARGS)" -o -e "$(DATA_DIR)/endpoints.json" || { echo "No copy runs in $(DATA_DIR):" \
	  "start one with make run, and give both the same DATA_DIR." >&2; exit 1; }
	@$(BIN)/python manage.py demo $(ARGS)

manage: $(ENVIRONMENT) ## any management command: make manage ARGS="shell"
	@$(BIN)/python manage.py $(ARGS)

lint: $(ENVIRONMENT) ## format, lint, types and import rules, without changing anything
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@DEBUG=true $(BIN)/mypy .
	@$(BIN)/lint-imports

format: $(ENVIRONMENT) ## put the code in its format
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

check: ## everything that CI checks
	@.ci/run

requirements: $(UV) ## compile requirements*.txt from pyproject.toml
	@.tools/bin/uv pip compile -q pyproject.toml --universal --generate-hashes \
	  --no-emit-index-url --no-header -o requirements.txt
	@.tools/bin/uv pip compile -q pyproject.toml --universal --generate-hashes --extra sentry \
	  --no-emit-index-url --no-header -c requirements.txt -o requirements-sentry.txt
	@.tools/bin/uv pip compile -q pyproject.toml --universal --generate-hashes --extra otel \
	  --no-emit-index-url --no-header -c requirements.txt -o requirements-otel.txt
	@.tools/bin/uv pip compile -q pyproject.toml --universal --generate-hashes --extra dev \
	  --no-emit-index-url --no-header -c requirements.txt -o requirements-dev.txt

clean: ## remove the data of `make run` (DATA_DIR)
	@$(find_python); "$$python" -m sandbox.datafolder clean "$(DATA_DIR)"

# Clients that contract tests drive, of the versions and checksums in the lock file.
$(NODE_CLIENTS): tests/chatproxy/node/package-lock.json
	@mkdir -p $(@D); cp tests/chatproxy/node/package*.json $(@D)
	@if npm ci --prefix $(@D) --silent --ignore-scripts --no-audit --no-fund; then touch $@; \
	  else echo "OpenAI's client for Node cannot be fetched (npm): its tests are skipped" >&2; fi

# PYTHON=… chooses; otherwise the first of these that is new enough and can make environments. The
# system's own comes first: distributions optimise it by profiles, and what a version manager built
# on this machine mostly is not, which made the tests a tenth slower.
define find_python
python=; incapable=; \
for name in $(or $(PYTHON),/usr/bin/python3 python3 python3.13 python3.12 python3.11); do \
  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
  if "$$name" -c 'import ensurepip, venv' 2>/dev/null; then python=$$name; break; fi; \
  incapable=$${incapable:-$$name}; done; \
if [ -z "$$python" ] && [ -n "$$incapable" ]; then \
  echo "$$incapable cannot make virtual environments: install its venv package" \
    "(Debian, Ubuntu: apt install python3-venv), or name another: make PYTHON=…" >&2; exit 1; fi; \
if [ -z "$$python" ]; then \
  echo "No Python 3.11 or later (tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11))." \
    "Install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; fi
endef

$(UV):
	@$(find_python); \
	echo "Making the environment with $$($$python --version), $$python …"; \
	rm -rf .tools/bin .tools/lib .tools/.uv-*; "$$python" -m venv .tools
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(ENVIRONMENT): requirements-dev.txt $(UV)
	@$(BIN)/python -c '' 2>/dev/null || .tools/bin/uv venv --quiet --clear --python .tools/bin/python .venv
	@.tools/bin/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.txt
	@touch $@
