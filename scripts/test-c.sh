#!/usr/bin/env bash
# Builds libsipws, libsipws_pjsip, the examples in C and C++ and pjproject's own programs by CMake, and has CTest run
# their tests. In target/c-build; further arguments go to ctest. Exits with 77, and says why, where something it needs is
# not there.
#
#   CMAKE_BUILD_TYPE  Debug (the default: cargo's profile dev) or Release (its profile c)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

left_out() {
    printf 'test-c.sh: left out: %s\n' "$1" >&2
    exit 77
}

for tool in cmake ctest python3 pkg-config cc c++ readelf; do
    command -v "$tool" >/dev/null || left_out "$tool is not installed (scripts/setup.sh test installs it)"
done
if [[ -z ${PJPROJECT_DIR:-} ]]; then
    PJPROJECT_DIR=$(vendor/pjproject.sh --where) || left_out "PJSIP is not built (vendor/pjproject.sh builds it)"
fi

cmake -S . -B target/c-build -DCMAKE_BUILD_TYPE="${CMAKE_BUILD_TYPE:-Debug}" -DPJPROJECT_DIR="$PJPROJECT_DIR" \
    -DSIPWS_CARGO_TARGET_DIR="$PWD/target" -DSIPWS_BUILD_PJSIP=ON -DSIPWS_BUILD_EXAMPLES=ON
cmake --build target/c-build -j"$(nproc)"
# In a network of its own: pjproject's samples want port 5060, whoever has it here.
tests/browser/own-network.sh ctest --test-dir target/c-build --output-on-failure "$@"
