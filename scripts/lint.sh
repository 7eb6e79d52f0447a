#!/usr/bin/env bash
# Everything that can be said of the sources without running them. Stops at the first complaint.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() {
    printf -- '-- %s\n' "$*"
    "$@"
}

# Crates for every platform, or the licence check has nothing to read; and Cargo.lock must be up to date.
step cargo fetch --locked --quiet
step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
step cargo clippy -p sipws -p pjsip-sys --all-targets --features sipws/ffi,sipws/pjsip-link,pjsip-sys/link --locked -- -D warnings
RUSTDOCFLAGS='-D warnings' step cargo doc --workspace --no-deps --locked --quiet

if cargo deny --version >/dev/null 2>&1; then
    step cargo deny --offline check --hide-inclusion-graph bans licenses sources
else
    echo "-- cargo deny: left out, it is not installed (scripts/setup.sh test installs it)"
fi

if command -v shellcheck >/dev/null; then
    mapfile -d '' -t shell < <(find . \( -name target -o -name node_modules -o -name .git -o -path ./vendor/pjproject \) -prune -o -name '*.sh' -print0)
    step shellcheck .ci/run "${shell[@]}"
else
    echo "-- shellcheck: left out, it is not installed (scripts/setup.sh test installs it)"
fi
