#!/usr/bin/env bash
# All tests, in the order in which they fail fastest. `make test` calls this; the virtual environment exists then.
#
#   FUZZ_SECONDS=40   how long each fuzz target runs
#   FUZZ_SEED=1       where it starts; 0 is another place each time, to look for more
#   JOBS=2            test processes at a time
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=${VENV:-.venv}/bin
JOBS=${JOBS:-2}
FUZZ_SECONDS=${FUZZ_SECONDS:-40}
FUZZ_SEED=${FUZZ_SEED:-1}
mkdir -p build

summary=()
stage="setting up"
began=$SECONDS

finish() {
    local status=$?
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

# What the tests need from the machine itself: a browser, curl, which the documents use, PostgreSQL, and a C compiler.

need() { # need PACKAGE COMMAND…: installs Debian's PACKAGE unless one of the commands is there
    local package=$1
    shift
    for name in "$@"; do
        if command -v "$name" >/dev/null; then return; fi
    done
    fetch "$package"
}

fetch() { # fetch PACKAGE: installs it from Debian
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
    if ! "$BIN/python" -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("include"), "Python.h").stat()' \
        2>/dev/null; then
        fetch python3-dev
    fi
    need gcc gcc
    need iproute2 ip
    if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then need postgresql initdb; fi
}

compile() { # from here on the tests run what users run
    make --no-print-directory VENV="${VENV:-.venv}" compiled
    PYTHONPATH=$PWD/build/compiled
    export PYTHONPATH
    "$BIN/python" hatch_build.py build/compiled/zerotrust
}

static() {
    "$BIN/ruff" format --check .
    "$BIN/ruff" check .
    "$BIN/mypy"
    "$BIN/lint-imports"
}

tests() { # a run that does not end says so, and says what it had found
    timeout --signal INT --kill-after 60 1500 "$BIN/python" -m pytest -q -n "$JOBS" --dist loadgroup "$@"
}

fuzz_one() { # one target, of the sources, whose paths it can follow; its output is shown only if it finds something
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

fuzz() {
    export -f fuzz_one
    export BIN FUZZ_SECONDS FUZZ_SEED
    find fuzz -maxdepth 1 -name '[!_]*.py' -print0 | sort -z | xargs -0 -n 1 -P "$JOBS" bash -c 'fuzz_one "$1"' fuzz
}

run "the machine" machine
run "format, lint, types, layers" static
run "unit tests, with coverage" timeout --signal INT --kill-after 60 1500 \
    make --no-print-directory VENV="${VENV:-.venv}" JOBS="$JOBS" coverage
run "compiling the data path" compile
run "unit tests, compiled" tests tests/unit/tunnel tests/unit/http tests/unit/balancing tests/unit/routing tests/unit/net
speed() { # a short form of `make bench-check`: what is slower by half is noticed; a ratio that fell is measured again
    "$BIN/python" -m benchmarks --quick --only GET --check benchmarks/baseline.json --tolerance 0.4 --out build/bench
}

run "speed against Caddy alone" speed
# Many of them wait most of the time: one process more than there are cores.
run "component tests" tests -n "$((JOBS + 1))" --durations=15 tests/component
run "browser tests" tests tests/browser
if "$BIN/python" -c 'import atheris' 2>/dev/null; then
    run "fuzzing" fuzz
else
    summary+=("skipped         fuzzing: atheris has no wheel for this Python or machine")
fi
if [ -f compliance/autobahn/__main__.py ]; then
    run "Autobahn's WebSocket suite" "$BIN/python" -m compliance.autobahn
fi
stage=""
