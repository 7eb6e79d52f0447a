#!/usr/bin/env bash
# Runs every check, each to its end even if an earlier one failed, and says at the end which passed. Exits non-zero if
# one failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A script that exits with this left its check out and said why.
SKIPPED=77
summary=()
passed=0 failed=0 skipped=0

check() {
    local name=$1 start=$SECONDS outcome=0
    shift
    printf '\n== %s\n' "$name"
    "$@" </dev/null || outcome=$?
    case $outcome in
    0) outcome=passed passed=$((passed + 1)) ;;
    "$SKIPPED") outcome='left out' skipped=$((skipped + 1)) ;;
    *) outcome="FAILED (exit code $outcome)" failed=$((failed + 1)) ;;
    esac
    summary+=("$(printf '%-14s %4d s  %s' "$name" $((SECONDS - start)) "$outcome")")
}

check lint scripts/lint.sh
check rust cargo test --workspace --locked
check browser scripts/test-browser.sh
check fuzz scripts/fuzz.sh smoke

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
printf 'checks: %d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
