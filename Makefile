# make demo   set up the environment and run the demo: a WebSocket through Caddy, server, tunnel and agent
# make test   set up the environment and run all tests
# make bench  run the benchmark; bench-quick: a few workloads, under a minute; bench-check: compare these with
#             benchmarks/baseline.json; bench-peers: compare with other tunnels that are installed
# make rotations  test ten certificate renewals under load, one per minute: nine minutes
# make chaos  run the long forms of the chaos tests, about 5 minutes; make test runs the short forms
# make soak   run the soak test for half an hour: broken links, short clients
# make scaling  measure a server with 1, 2 and 4 workers, each held to a share of a processor; needs cgroups and nothing
#             else that runs
# make check  check format, lint, types and layers, and run the unit tests not marked slow: under a minute, before a commit
# make lint   the same without tests; make unit: run all unit tests
# make coverage  run the unit tests not marked large, with few Hypothesis examples, and check the coverage of each
#                package (scripts/check_coverage.py)
# make image  build and test the container image; without Docker or Podman, run its steps on this machine

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# Keep bytecode: otherwise each test process compiles its imports, which takes seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint unit coverage image compiled lock clean format bench bench-quick bench-check bench-peers chaos soak rotations scaling

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
	@# Four processes on two cores: the tests wait for half of their time.
	$(BIN)/python -m pytest -q tests/unit tests/test_*.py -n 4 -m "not slow" --hypothesis-profile quick

unit: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q tests/unit tests/test_*.py -n 2 --dist loadgroup

JOBS ?= 2
coverage: $(VENV)/test.stamp
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest -q tests/unit tests/test_*.py -n $(JOBS) --dist loadgroup -m "not large" --hypothesis-profile coverage
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage json --quiet -o build/coverage/report.json
	@$(BIN)/python scripts/check_coverage.py build/coverage/report.json

image: $(VENV)/test.stamp
	$(BIN)/python -m pytest -q tests/component/test_container.py

format: $(VENV)/test.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Measure the compiled package, which users run.
BENCH = PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/python -m benchmarks

bench: compiled
	@$(BENCH)

bench-quick: compiled
	@$(BENCH) --quick

bench-check: compiled
	@$(BENCH) --quick --check benchmarks/baseline.json

bench-peers: compiled
	@$(BENCH) --peers

# Certificates live for a minute; in the component tests for ten seconds. Takes nine minutes.
rotations: compiled
	@PYTHONPATH=$(CURDIR)/build/compiled CERTIFICATE_SECONDS=60 CERTIFICATE_ROTATIONS=10 \
		$(BIN)/python -m pytest -q tests/component/test_certificates.py -k rotations

chaos: compiled
	@PYTHONPATH=$(CURDIR)/build/compiled CHAOS=full $(BIN)/python -m pytest -q tests/component/test_chaos.py tests/component/test_chaos_host.py tests/component/test_half_open.py \
		tests/component/test_bulk.py tests/component/test_websocket.py tests/component/test_access_cuts.py \
		tests/component/test_servers.py

soak: compiled
	@PYTHONPATH=$(CURDIR)/build/compiled SOAK_SECONDS=1800 $(BIN)/python -m pytest -q tests/component/test_soak.py

scaling: compiled
	@PYTHONPATH=$(CURDIR)/build/compiled SCALING=full $(BIN)/python -m pytest -q tests/component/test_workers.py -k throughput

compiled: build/compiled.stamp

# Build the compiled package, as `pip install` does with a C compiler: tests and benchmarks run it.
build/compiled.stamp: $(VENV)/test.stamp hatch_build.py pyproject.toml $(shell find src/zerotrust -name '*.py')
	@rm -rf build/compiled build/wheel
	@ZEROTRUST_COMPILE=1 $(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir build/wheel .
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps --target build/compiled build/wheel/*.whl
	@touch $@

# Install uv first, then the locked packages (all by hash), then this checkout.
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
	$(LOCK) --extra postgresql --extra geo --extra otel -o requirements/test.txt pyproject.toml requirements/test.in
	$(LOCK) --extra server -c requirements/test.txt -o requirements/demo.txt pyproject.toml requirements/demo.in
	$(LOCK) -c requirements/test.txt -o requirements/agent.txt pyproject.toml
	$(LOCK) --extra postgresql --extra geo --extra otel -c requirements/test.txt -o requirements/image.txt pyproject.toml

clean:
	rm -rf $(VENV) .demo build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
