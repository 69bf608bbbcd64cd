# Every target a person calls; continuous integration calls the same ones. `make` alone lists them.

CARGO ?= cargo
NPM ?= npm
PYTHON ?= python3

UI := web/ui
UI_MODULES := $(UI)/node_modules/.package-lock.json
UI_DIST := $(UI)/dist/index.html
UI_SOURCES := $(shell find $(UI) -path $(UI)/node_modules -prune -o -path $(UI)/dist -prune -o -path $(UI)/tests -prune -o -type f -print)

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
HUB := $(TARGET_DIR)/release/pulse-hub
AGENT := $(TARGET_DIR)/release/pulse-agent
LOAD := $(TARGET_DIR)/release/pulse-load

.DEFAULT_GOAL := help
.PHONY: help tools ui build release demo test check check-ui check-rust check-dependencies format bench clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 22

tools: ## Check that rust, node and python are there, and name what is missing
	@scripts/need cargo npm $(PYTHON)

$(UI_MODULES): $(UI)/package.json $(UI)/package-lock.json
	@scripts/need npm
	cd $(UI) && $(NPM) ci
	@touch $@

$(UI_DIST): $(UI_MODULES) $(UI_SOURCES)
	cd $(UI) && $(NPM) run build
	@touch $@

ui: $(UI_DIST) ## Build the dashboard, which is embedded in the hub

build: tools $(UI_DIST) ## Build all programs for development
	$(CARGO) build --workspace --bins

release: tools $(UI_DIST) ## Build all programs for use and for measuring
	$(CARGO) build --workspace --bins --release

demo: build ## Run a hub with three agents and a webhook receiver on this machine
	@$(TARGET_DIR)/debug/pulse-hub demo

test: $(UI_DIST) ## Run every test, on SQLite and on PostgreSQL; what is missing is installed
	@scripts/test-env $(PYTHON) scripts/run_tests.py

check: check-ui check-rust check-dependencies ## Formatting, lints, types and the policy for dependencies

check-ui: $(UI_MODULES)
	cd $(UI) && $(NPM) run check && $(NPM) run lint && $(NPM) run format:check

check-rust: $(UI_DIST)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

check-dependencies:
	scripts/check-dependencies

format: $(UI_MODULES) ## Format everything
	$(CARGO) fmt --all
	cd $(UI) && $(NPM) run format

bench: release ## Measure everything with load-tests; `make bench-report` and the like measure one
	@for scenario in idle connect storm report fanout detect; do $(MAKE) --no-print-directory bench-$$scenario || exit 1; done

bench-idle: release
	$(LOAD) idle --hub $(HUB) --agent $(AGENT)

bench-%: release
	$(LOAD) $* --hub $(HUB)

clean: ## Remove what was built; the caches of cargo and npm stay
	$(CARGO) clean
	rm -rf .cache $(UI)/dist $(UI)/node_modules
