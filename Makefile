# The whole loop: make demo, make test, make lint, make bench.
# Each sets up what it needs on first use: a virtual environment in .venv, and Debian packages where they are missing.
# make model checks the rule of the ledger in every state that a model of it can reach.
# make fuzz SECONDS=60 tries bytes of chance on everything that reads bytes from outside.
# make simulate SEEDS=10000 runs so many simulated ledgers, with all that can befall one, and checks what they promise.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint bench fuzz model simulate format clean

demo: .venv/.demo
	@./systemd/debian-packages dbus-daemon
	@$(BIN)/iomt demo $(ARGS)

test: .venv/.dev
	@./systemd/debian-packages dbus-daemon mosquitto postgresql strace systemd-analyze cc libsodium spin
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev
	@./systemd/debian-packages dbus-daemon mosquitto
	@$(BIN)/python -m tests.bench $(ARGS)

fuzz: .venv/.fuzz
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(ARGS)

model: .venv/.dev
	@./systemd/debian-packages cc spin
	@$(BIN)/python -m tests.model $(ARGS)

simulate: .venv/.dev
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),300) --processes 2 $(ARGS)

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info

.venv/.demo: pyproject.toml constraints.txt
	@./systemd/debian-packages venv
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[demo]'
	@touch $@

.venv/.dev: .venv/.demo
	$(PIP) -e '.[demo,dev]'
	@touch $@

.venv/.fuzz: .venv/.dev
	$(PIP) -e '.[demo,dev,fuzz]'
	@touch $@
