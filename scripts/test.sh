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
# Each apart: cargo gives all that it builds at once the same features of a crate.
check rust cargo test --locked
check pjsip cargo test --locked -p sipws -p pjsip-sys --features sipws/ffi,sipws/pjsip-link,pjsip-sys/link \
    --lib --test ffi_header --test pjsip --test constants --test find --test link
memcheck='valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite'
CONNECTS=200 check memory cargo test --locked -p sipws --features ffi,pjsip-link --test pjsip \
    --config "target.'cfg(unix)'.runner='$memcheck'" -- --test-threads=1 --skip more_flows --skip whoever_reads
check abi cargo test --locked -p sipws-c
check c scripts/test-c.sh
check browser scripts/test-browser.sh
check fuzz scripts/fuzz.sh smoke

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
printf 'checks: %d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
((failed == 0))
