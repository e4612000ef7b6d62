#!/usr/bin/env bash
# Run all tests, the fastest stages first. `make test` calls this script after it made the virtual environment.
#
#   FUZZ_SECONDS=7    seconds for each fuzz target
#   FUZZ_SEED=1       seed of the fuzzer; 0 takes a random one
#   JOBS=2            number of test processes
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=${VENV:-.venv}/bin
JOBS=${JOBS:-2}
FUZZ_SECONDS=${FUZZ_SECONDS:-7}
FUZZ_SEED=${FUZZ_SEED:-1}
mkdir -p build

summary=()
stage="setting up"
began=$SECONDS

finish() {
    local status=$?
    if [ -n "${compiler:-}" ]; then kill -- "-$compiler" 2>/dev/null || true; fi
    if [ -n "${fuzzer:-}" ]; then wait "$fuzzer" || true; fi
    echo
    echo "── summary ─────────────────────────────────────"
    printf '%s\n' ${summary[@]+"${summary[@]}"}
    if [ "$status" -eq 0 ]; then
        echo "all passed in $((SECONDS - began)) s"
    else
        echo "FAILED: $stage, after $((SECONDS - began)) s"
    fi
}
trap finish EXIT

run() { # run NAME COMMAND…
    stage=$1
    shift
    echo
    echo "── $stage ──"
    local from=$SECONDS
    "$@"
    summary+=("$(printf 'passed  %4d s  %s' $((SECONDS - from)) "$stage")")
}

# System packages for the tests: a browser and its headless shell, curl, iproute2, PostgreSQL, a C compiler, git, litmus and Node.

need() { # need PACKAGE COMMAND…: install Debian's PACKAGE unless one of the commands exists
    local package=$1
    shift
    for name in "$@"; do
        if command -v "$name" >/dev/null; then return; fi
    done
    fetch "$package"
}

fetch() { # fetch PACKAGE: install a Debian package
    local package=$1
    local root=()
    if [ "$(id -u)" -ne 0 ]; then root=(sudo -n); fi
    echo "installing $package, which the tests need …"
    if ! command -v apt-get >/dev/null ||
        ! { "${root[@]}" apt-get update -qq && "${root[@]}" apt-get install -y -qq --no-install-recommends "$package"; } \
            >build/apt.log 2>&1; then
        echo "cannot install $package; install it by hand and run again (details: build/apt.log)" >&2
        return 1
    fi
}

machine() {
    need curl curl
    need chromium chromium chromium-browser google-chrome
    need chromium-headless-shell chromium-headless-shell google-chrome
    if ! "$BIN/python" -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("include"), "Python.h").stat()' \
        2>/dev/null; then
        fetch python3-dev
    fi
    need gcc gcc
    need git git
    need litmus litmus
    need nodejs node
    need npm npm
    need iproute2 ip
    if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then need postgresql initdb; fi
}

# Each test process would otherwise rewrite the assertions of all test files, while coverage is measured.
rewrite_assertions() {
    "$BIN/python" -m pytest --collect-only -q tests >build/collect.log 2>&1 || { cat build/collect.log >&2; return 1; }
}

# Compiling takes two minutes of one core, so it runs beside the stages that need the sources alone.
compile_beside() {
    setsid nice make --no-print-directory VENV="${VENV:-.venv}" compiled >build/compile.log 2>&1 &
    compiler=$!
}

compile() { # the following tests run the compiled package, as users do
    if ! wait "$compiler"; then
        cat build/compile.log >&2
        return 1
    fi
    compiler=
    PYTHONPATH=$PWD/build/compiled
    export PYTHONPATH
    "$BIN/python" hatch_build.py build/compiled/zerotrust
}

static() {
    rewrite_assertions &
    "$BIN/ruff" format --check .
    "$BIN/ruff" check .
    "$BIN/mypy"
    "$BIN/lint-imports"
    wait $!
}

tests() { # with a time limit, at which pytest still prints its results
    timeout --signal INT --kill-after 60 1500 "$BIN/python" -m pytest -q -n "$JOBS" --dist loadgroup --no-loadscope-reorder "$@"
}

fuzz_one() { # run one target on the interpreted sources, which it can instrument; print its output if it finds a bug
    local log
    log=build/fuzz-$(basename "$1" .py).log
    if env -u PYTHONPATH "$BIN/python" "$1" -seed="$FUZZ_SEED" -max_total_time="$FUZZ_SECONDS" -artifact_prefix=build/ >"$log" 2>&1; then
        echo "$1: nothing found in $FUZZ_SECONDS s"
    else
        echo "$1: FOUND SOMETHING, see $log"
        tail -n 40 "$log"
        return 1
    fi
}

fuzz() { # run all targets, one after the other
    export -f fuzz_one
    export BIN FUZZ_SECONDS FUZZ_SEED
    find fuzz -maxdepth 1 -name '[!_]*.py' -print0 | sort -z | xargs -0 -n 1 nice bash -c 'fuzz_one "$1"' fuzz
}

fuzzed() { # wait for the fuzzer, and print what it said
    local status=0
    wait "$fuzzer" || status=$?
    fuzzer=
    cat build/fuzz.log
    return "$status"
}

run "the machine" machine
compile_beside
run "format, lint, types, layers" static
run "unit tests, with coverage" timeout --signal INT --kill-after 60 1500 \
    make --no-print-directory VENV="${VENV:-.venv}" JOBS="$((JOBS + 1))" coverage

compiled=(tests/unit/{access,tunnel,http,balancing,routing,net}) # these rooms run whole in the compiled stage
thorough() { # of the other rooms, the tests that the stage with coverage leaves out or runs with few examples
    local files
    mapfile -t files < <(grep -rlE --include='test_*.py' '^from hypothesis|pytest\.mark\.large' tests/unit |
        grep -vFf <(printf '%s/\n' "${compiled[@]}") | sort)
    tests -n "$((JOBS + 1))" -m "hypothesis or large" "${files[@]}"
}

run "unit tests, thorough" thorough
run "compiling the data path" compile
run "unit tests, compiled" tests "${compiled[@]}"
speed() { # short forms of `make bench-check`, which measures a fallen ratio twice, and of `make scaling`
    "$BIN/python" -m benchmarks --quick --only "1 KiB GET, " --check benchmarks/baseline.json --tolerance 0.4 --out build/bench
    SCALING=short "$BIN/python" -m pytest -q tests/component/test_workers.py -k throughput
}

run "speed" speed
# Many of these tests wait for most of their time: three for each core keep both busy.
run "browser and component tests" tests -n "$((JOBS * 3))" --durations=15 tests/browser tests/component
# Autobahn waits for a half of its time: the fuzzer takes the other core and what is left.
if "$BIN/python" -c 'import atheris' 2>/dev/null; then
    fuzz >build/fuzz.log 2>&1 &
    fuzzer=$!
else
    fuzzer=
    summary+=("skipped         fuzzing: atheris has no wheel for this Python or machine")
fi
run "Autobahn's WebSocket suite" "$BIN/python" -m compliance.autobahn
if [ -n "$fuzzer" ]; then run "fuzzing, beside Autobahn" fuzzed; fi
stage=""
