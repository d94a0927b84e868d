# Every target depends on the virtual environment, which is made from the lock.
# A fresh machine needs make and python3 >= 3.11, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := larder runtime initializer webhook agent cli demo
SIZE ?= 512MB
CRASHES ?= 200

.PHONY: install check format lint types imports docs test test-as-agent test-crash demo bench lock clean

install: $(VENV)/.installed

$(VENV)/.installed: requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "larder needs Python 3.11 or newer, found $$($(PYTHON) --version)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
