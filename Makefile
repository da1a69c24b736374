# orderheal: everything a checkout can do. `make help` lists it. Needs Python 3.11 or newer, make and a package index.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check --no-input
PYTEST := $(BIN)/pytest --quiet
WORKERS ?= auto
ARGS ?=

# The first Python that is new enough; `make PYTHON=/path/to/python …` takes another.
PYTHON ?= $(shell for python in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: help demo test lint types layers rules units slow crash-walk big-table chart image cluster observability mutation bench docs site lock venv clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(STAMP) ## the whole system against the sandbox, with ARGS="--keep" or ARGS="--json"
	@$(BIN)/orderheal demo $(ARGS)

test: lint types layers rules units ## every check but the slow ones

lint: $(STAMP) ## ruff and deptry: faults in the code, dependencies that are missing or too many
	@echo "lint: ruff, deptry" && $(BIN)/ruff check --quiet . && { $(BIN)/deptry --no-ansi . 2>deptry.log || { cat deptry.log; exit 1; }; }
	@rm -f deptry.log

types: $(STAMP) ## mypy, strict
	@echo "types: mypy --strict" && $(BIN)/mypy --no-error-summary

layers: $(STAMP) ## import-linter: who may import whom
	@echo "layers: import-linter" && $(BIN)/lint-imports --no-logo >layers.log || { cat layers.log; exit 1; }
	@rm -f layers.log

rules: $(STAMP) ## the shipped rules against the example configuration
	@echo "rules: orderheal rules check" && $(BIN)/orderheal rules check --config config.yaml

units: $(STAMP) ## pytest without the slow tests, with ARGS="tests/domain -k settle"
	@echo "units: pytest" && $(PYTEST) -n $(WORKERS) $(ARGS)

slow: $(STAMP) ## the slow tests, real processes and the big table among them
	@echo "slow: pytest -m slow" && $(PYTEST) -m slow --timeout 1800 $(ARGS)

crash-walk: $(STAMP) ## kill at every statement and at five points of each call, then resume
	@$(PYTEST) -s tests/crash $(ARGS)

big-table: $(STAMP) ## scan five million orders in flat memory
	@$(PYTEST) -m slow --timeout 1800 -s -k big_table $(ARGS)

chart: $(STAMP) ## render helm/ over values and Kubernetes versions and judge it; fetches helm and its like once
	@echo "chart: helm, kubernetes-validate, trivy" && $(BIN)/python -m tests.tools chart
	@$(BIN)/python -m tests.tools operators || echo "!!! so ServiceMonitor and PrometheusRule are not judged by their definitions"
	@$(PYTEST) -m "chart or not chart" tests/chart $(ARGS)

image: $(STAMP) ## build the image, twice, and run it; as root, with buildah and mmdebstrap
	@echo "image: buildah, hadolint, trivy" && $(BIN)/python -m tests.tools image && $(PYTEST) -m image -s tests/image $(ARGS)

cluster: $(STAMP) ## install, upgrade and roll back on a real API server; builds one the first time, in some ten minutes
	@echo "cluster: kube-apiserver, helm" && $(BIN)/python -m tests.tools cluster && $(PYTEST) -m cluster tests/cluster $(ARGS)

observability: $(STAMP) ## alerts, every dashboard query on a real Prometheus that scraped the demo; ARGS="--pictures"
	@echo "observability: promtool, Prometheus, Alertmanager, Chromium" && $(PYTEST) tests/observability tests/telemetry
	@$(BIN)/python -m tools.observe $(ARGS)

mutation: $(STAMP) ## break daemon/domain in every small way and print how many breaks the tests notice
	@echo "mutation: mutmut" && $(BIN)/python -m tests.mutation $(ARGS)

bench: $(STAMP) ## print the figures of bench/
	@for script in bench/*.py; do echo "$$script" && $(BIN)/python "$$script" $(ARGS) || exit 1; done

docs: $(STAMP) ## write the generated files anew
	@$(BIN)/orderheal rules schema >docs/rule.schema.json
	@$(BIN)/python -m tests.chart.readme >helm/README.md
	@$(BIN)/python -m tools.dashboards && $(BIN)/python -m tools.metrics

site: $(STAMP) ## build docs/ as a site in English and Russian into .site/, strictly, and check its links
	@echo "site: zensical" && $(BIN)/python -m tools.site && $(PYTEST) tests/docs $(ARGS)

lock: $(STAMP) ## write the lock files anew, after a change of the dependencies in pyproject.toml
	@$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install --quiet --quiet --disable-pip-version-check uv
	@set -e; compile() { .venv/lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command "make lock" $(ARGS) "$$@"; }; \
	compile pyproject.toml --extra embedded --extra otel --extra sandbox --group dev -o requirements/dev.lock; \
	compile pyproject.toml --extra otel --constraint requirements/dev.lock -o requirements/run.lock; \
	compile --group build --constraint requirements/dev.lock -o requirements/build.lock; \
	compile --group sbom --constraint requirements/dev.lock -o requirements/sbom.lock

venv: $(STAMP) ## install the pinned dependencies into .venv

$(STAMP): requirements/dev.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "orderheal needs Python 3.11 or newer, and none is on the PATH: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) lacks the module venv: apt-get install python3-venv (Debian, Ubuntu), or make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 2; }
	@echo "installing the pinned dependencies into .venv (once, about half a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

clean: ## remove .venv and what the tools left behind
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache mutants
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
