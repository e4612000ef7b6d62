# make demo   sets everything up by itself, then shows a WebSocket through Caddy, server, tunnel and agent
# make test   sets everything up by itself, then runs all tests
# make bench  the whole benchmark; bench-quick: a few of it, under a minute; bench-check: those against benchmarks/baseline.json
# make rotations  certificates that are renewed each minute, ten times, under load: nine minutes
# make chaos  the long forms of tests/component/test_chaos.py, about 5 minutes; a short form is in make test
# make soak   links that break and clients that come and go, for half an hour
# make check  format, lint, types, layers and the unit tests that are not marked slow: under a minute, for every commit
# make lint   the same without the tests; make unit: all unit tests
# make coverage  all unit tests, and the coverage that each room needs (scripts/check_coverage.py)
# make image  builds the container image and tries it, where there is Docker or Podman; elsewhere runs its steps here

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# Each process of the tests would compile all that it imports, for seconds: what is compiled once stays.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint unit coverage image compiled lock clean format bench bench-quick bench-check chaos soak rotations

demo: $(VENV)/demo.stamp
	@$(BIN)/python -m demo

test: $(VENV)/test.stamp
	@tests/run.sh

lint: $(VENV)/test.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	@# Three processes for two cores: the tests wait a third of their time.
	$(BIN)/python -m pytest -q tests/unit tests/test_*.py -n 3 -m "not slow" --hypothesis-profile quick

unit: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q tests/unit tests/test_*.py -n 2 --dist loadgroup

JOBS ?= 2
coverage: $(VENV)/test.stamp
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q tests/unit tests/test_*.py -n $(JOBS) --dist loadgroup
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage json --quiet -o build/coverage/report.json
	@$(BIN)/python scripts/check_coverage.py build/coverage/report.json

image: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q tests/component/test_container.py

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Measured is what users run: the compiled package.
BENCH = PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/python -m benchmarks

bench: compiled
	@$(BENCH)

bench-quick: compiled
	@$(BENCH) --quick

bench-check: compiled
	@$(BENCH) --quick --check benchmarks/baseline.json

# Certificates of a minute, as the rotations that the component tests see are of ten seconds. Takes nine minutes.
rotations: compiled
	@PYTHONPATH=$(CURDIR)/build/compiled CERTIFICATE_SECONDS=60 CERTIFICATE_ROTATIONS=10 \
		$(BIN)/python -m pytest -q tests/component/test_certificates.py -k rotations

chaos: compiled
	@PYTHONPATH=$(CURDIR)/build/compiled CHAOS=full $(BIN)/python -m pytest -q tests/component/test_chaos.py tests/component/test_chaos_host.py tests/component/test_half_open.py

soak: compiled
	@PYTHONPATH=$(CURDIR)/build/compiled SOAK_SECONDS=1800 $(BIN)/python -m pytest -q tests/component/test_soak.py

compiled: build/compiled.stamp

# The package as `pip install` makes it where there is a C compiler: what users run, so what is tested and measured.
build/compiled.stamp: $(VENV)/test.stamp hatch_build.py pyproject.toml $(shell find src/zerotrust -name '*.py')
	@rm -rf build/compiled build/wheel
	@ZEROTRUST_COMPILE=1 $(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir build/wheel .
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --target build/compiled build/wheel/*.whl
	@touch $@

# The installer comes first, by hash; then all that is locked, by hash; then this checkout itself.
$(BIN)/uv: requirements/bootstrap.txt
	@$(PYTHON) -c 'import sys; sys.exit("0Trust needs Python 3.11 or newer, found %d.%d: make PYTHON=python3.11 …" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv $(VENV) || { echo "cannot create the virtual environment $(VENV): install Python's venv (Debian: apt-get install python3-venv) or choose a writable folder: make VENV=/path …" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

$(VENV)/demo.stamp: $(BIN)/uv requirements/demo.txt pyproject.toml
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/demo.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/test.stamp: $(BIN)/uv requirements/test.txt pyproject.toml
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/test.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: $(BIN)/uv
	$(LOCK) -o requirements/bootstrap.txt requirements/bootstrap.in
	$(LOCK) --extra postgresql -o requirements/test.txt pyproject.toml requirements/test.in
	$(LOCK) --extra server -c requirements/test.txt -o requirements/demo.txt pyproject.toml requirements/demo.in
	$(LOCK) -c requirements/test.txt -o requirements/agent.txt pyproject.toml
	$(LOCK) --extra postgresql -c requirements/test.txt -o requirements/image.txt pyproject.toml

clean:
	rm -rf $(VENV) .demo build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
