# Everything runs in .venv, which is made where it is missing. `make clean` removes it, say to change PYTHON.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo test lint docs queries clean

help:
	@echo "make demo     compile every rule, prove the queries on the fixtures, hunt in the sample logs"
	@echo "make test     lint, and every test, those with a real Elasticsearch included"
	@echo "make lint     ruff and mypy"
	@echo "make docs     write the generated documents again: commands, rules and schemas in docs/"
	@echo "make queries  write the expected queries again: fixtures/queries"
	@echo "make clean    remove .venv and what building leaves behind"
	@echo "PYTHON=python3.12 chooses the interpreter (3.10 or newer)"

demo: $(VENV)/.demo
	@$(BIN)/keytrail demo

test: lint
	@$(BIN)/python -m pytest

lint: $(VENV)/.test
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

docs: $(VENV)/.demo
	@$(BIN)/python -m docs.generate

PAIRS = from keytrail.targets import TARGETS; from keytrail.schemas import SCHEMAS; \
	print(*(f"{target}/{schema}" for target in TARGETS for schema in SCHEMAS))

# Exit code 1 only says that a rule is refused, which is written down like a query.
queries: $(VENV)/.demo
	@rm -rf fixtures/queries
	@for pair in $$($(BIN)/python -c '$(PAIRS)'); do \
		echo "fixtures/queries/$$pair"; \
		$(BIN)/keytrail convert --target $${pair%/*} --schema $${pair#*/} --format json -o fixtures/queries/$$pair \
			2>$(VENV)/verdicts || test $$? = 1 || { cat $(VENV)/verdicts; exit 2; }; \
	done
	@for schema in $$($(BIN)/python -c 'from keytrail.schemas import SCHEMAS; print(*SCHEMAS)'); do \
		$(BIN)/keytrail convert --target kibana --schema $$schema --versions converter/keytrail/kibana/versions.json \
			-o $(VENV)/rules.ndjson 2>$(VENV)/verdicts || test $$? = 1 || { cat $(VENV)/verdicts; exit 2; }; \
	done

clean:
	rm -rf $(VENV) build dist *.egg-info

# Some systems keep what gives a new environment its pip in a package of its own: then this interpreter's pip helps.
$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit("Keytrail needs Python 3.10 or newer" if sys.version_info < (3, 10) else 0)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV) && \
		$(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet pip; } || { rm -rf $(VENV); exit 1; }

$(VENV)/.demo: setup.cfg pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "installing Keytrail into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: setup.cfg pyproject.toml | $(VENV)/pyvenv.cfg
	@echo "installing Keytrail with everything that its tests need into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[elasticsearch,test,lint]'
	@touch $@ $(VENV)/.demo
