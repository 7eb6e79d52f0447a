#!/usr/bin/env bash
# Fuzzes each target of fuzz/ in turn (needs nightly Rust and cargo-fuzz).
#
# usage: scripts/fuzz.sh [smoke] [TARGET...]     (no target: all of them)
#   FUZZ_SECONDS  for how long each (60; smoke: 10)
#   smoke         for `make test`: keeps no new inputs, and exits with 77 where the tools are missing (`cargo test`
#                 replays the kept inputs in any case)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

smoke=false without=1 seconds=60
if [[ ${1:-} == smoke ]]; then
    shift
    smoke=true without=77 seconds=10
fi
seconds=${FUZZ_SECONDS:-$seconds}

# Asked of rustup, because `cargo +nightly` may go and fetch a toolchain that isn't there.
if ! rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    echo "fuzz: no nightly Rust here: 'rustup toolchain install nightly'"
    exit "$without"
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "fuzz: no cargo-fuzz here: 'cargo install --locked cargo-fuzz'"
    exit "$without"
fi

targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(cargo +nightly fuzz list)
((${#targets[@]})) || { echo "fuzz: there are no targets in fuzz/" >&2; exit 1; }
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
for target in "${targets[@]}"; do
    printf -- '-- %s, %s s\n' "$target" "$seconds"
    # libFuzzer writes what it finds to the first folder and reads all of them.
    folders=()
    if $smoke; then
        mkdir "$new/$target"
        folders=("$new/$target")
        [[ ! -d fuzz/corpus/$target ]] || folders+=("fuzz/corpus/$target")
    fi
    cargo +nightly fuzz run "$target" "${folders[@]}" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048
done
