PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Other libraries' pins stay out of the main environment.
OTHERS := .venv-integrations
INSTALL := pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types unit test-slow test-integrations mutation benchmark docs wheel test-wheel clean

demo: $(READY)                      ## a fair comparison of twenty losses on handwritten digits
	$(BIN)/lossmith compare

test: lint types unit               ## what continuous integration runs

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[compare,dev]"
	touch $@

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache --no-logo

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest -n auto -m "not slow"

test-slow: $(READY)                 ## the tests that take minutes each
	$(BIN)/pytest -n auto -m slow

# timm lies in a folder of its own with its torchvision, which the package index has for CUDA only. Beside a torch for the
# CPU that cannot be imported as it is (see tests/integrations/test_training_code.py), and transformers would try to.
$(OTHERS)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OTHERS)
	$(OTHERS)/bin/$(INSTALL) -e ".[compare,dev,integrations]"
	$(OTHERS)/bin/$(INSTALL) --no-deps --upgrade --target $(OTHERS)/timm timm torchvision
	touch $@

test-integrations: $(OTHERS)/.ready ## the losses in other libraries' training loops, clusters and trackers
	$(OTHERS)/bin/pytest -n auto tests/integrations tests/test_examples.py

mutation: $(READY)                  ## small faults in the modules that decide: do the tests notice? MODULE=comparison.verdict: one
	$(BIN)/python tools/mutation.py $(MODULE)

benchmark: $(READY)                 ## cost of every loss against cross-entropy
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/losses.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/adaptive.py

docs: $(READY)                      ## the documentation site, in site/
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[compare,docs]"
	$(BIN)/python tools/documentation.py

wheel: $(READY)                     ## the package as a wheel and a source archive, in dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

test-wheel: $(READY)                ## install the wheel into fresh environments; PYTHONS="python3.11 python3.13" names them
	WHEEL_PYTHONS="$(PYTHONS)" $(BIN)/pytest -n 0 tests/test_wheel.py

clean:
	rm -rf $(VENV) $(OTHERS) .mypy_cache .ruff_cache .hypothesis .mutation .docs site dist
