#!/usr/bin/env bash
# Installs what is missing to build, run and test sipws on Debian or Ubuntu; touches nothing when nothing is missing.
#
# usage: scripts/setup.sh [build | lint | run | test]     for which target of the Makefile; each takes in the one before it
#   build  C compiler, make, pkg-config, certificates; says how to get Rust
#   lint   PJSIP, built once by vendor/pjproject.sh (about a minute), and what that and its bindings need
#   run    Node.js with npm, Kamailio, openssl
#   test   (the default) Chromium, SIPp, Kamailio's TLS module, ip, shellcheck, valgrind, CMake, cargo-deny
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Debian keeps servers where a plain user's PATH doesn't look.
PATH=$PATH:/usr/sbin:/sbin

CARGO_DENY='^0.20'

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$@" >&2; exit 1; }

# want PACKAGE COMMAND...: notes PACKAGE as missing unless one of the commands is there (an absolute path: that file).
want() {
    local package=$1 candidate
    shift
    for candidate in "$@"; do
        [[ -n $candidate ]] && command -v "$candidate" >/dev/null && return
    done
    missing+=("$package")
}

kamailio_module() {
    compgen -G "/usr/lib/*/kamailio/modules/$1.so" >/dev/null || compgen -G "/usr/lib*/kamailio/modules/$1.so" >/dev/null
}

look() {
    missing=()
    want gcc cc
    want g++ c++
    want make make
    want pkg-config pkg-config
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
    [[ $for != build ]] || return 0
    want_for_pjsip
    [[ $for != lint ]] || return 0
    want nodejs node
    want npm npm
    want kamailio kamailio
    want openssl openssl
    [[ $for != run ]] || return 0
    want chromium "${CHROMIUM:-}" chromium
    want sip-tester sipp
    kamailio_module tls || missing+=(kamailio-tls-modules)
    want iproute2 ip
    want shellcheck shellcheck
    want valgrind valgrind
    want cmake cmake
    want python3 python3
    want binutils readelf
}

# To fetch it as Debian's source, to build it, and to make bindings of its headers.
want_for_pjsip() {
    want dpkg-dev dpkg-source
    want clang clang
    compgen -G '/usr/lib*/llvm*/lib/libclang.so*' >/dev/null || [[ -n ${LIBCLANG_PATH:-} ]] || missing+=(libclang-dev)
    pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
    pkg-config --exists opus 2>/dev/null || missing+=(libopus-dev)
    pkg-config --exists libsrtp2 2>/dev/null || missing+=(libsrtp2-dev)
    pkg-config --exists uuid 2>/dev/null || missing+=(uuid-dev)
}

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

# A mirror may be busy, or another package manager at work: three tries, with a pause between them.
apt_get() {
    local try
    for try in 1 2 3; do
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q \
            -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 "$@" </dev/null && return
        ((try < 3)) && say "apt-get $1 failed; trying again in $((try * 10)) s" && sleep $((try * 10))
    done
    return 1
}

install_packages() {
    say "missing: ${missing[*]}"
    local by_hand="install by hand: ${missing[*]}"
    command -v apt-get >/dev/null || die "there is no apt-get here" "$by_hand"
    [[ $EUID -eq 0 ]] || command -v sudo >/dev/null || die "neither root nor sudo" "$by_hand"
    say "installing them with apt-get"
    apt_get update || say "apt-get update failed; trying with the package lists that are there"
    apt_get install --no-install-recommends "${missing[@]}" || die "apt-get install failed" "$by_hand"
    if [[ " ${missing[*]} " == *" kamailio "* && -d /run/systemd/system ]]; then
        say "Debian starts Kamailio as a service on port 5060; sipws starts its own: 'systemctl disable --now kamailio'"
    fi
    look
    ((${#missing[@]} == 0)) || die "still missing after the installation: ${missing[*]}"
}

check_rust() {
    command -v cargo >/dev/null || die "Rust is missing: install it with rustup (https://rustup.rs), then run this again"
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n' "$needed" "$found" | sort -V | head -n 1) == "$needed" ]] ||
        die "Rust $found is too old, $needed or newer is needed: 'rustup update stable'"
}

check_node() {
    local found needed=18
    # Playwright, which drives the browser tests, refuses older ones.
    [[ $for != test ]] || needed=20
    found=$(node --version)
    found=${found#v}
    ((${found%%.*} >= needed)) || die "Node.js $found is too old to $for, $needed or newer is needed"
}

check_rust_tools() {
    local tool
    for tool in fmt clippy; do
        cargo "$tool" --version >/dev/null 2>&1 || die "cargo $tool is missing: 'rustup component add rustfmt clippy'"
    done
    cargo deny --version >/dev/null 2>&1 && return
    say "building cargo-deny, once (about four minutes on two cores)"
    cargo install --locked --quiet cargo-deny --version "$CARGO_DENY" </dev/null ||
        say "cargo-deny is not to be had; 'make lint' will leave its check out"
}

for=${1:-test}
[[ $for =~ ^(build|lint|run|test)$ ]] || die "no such target: $for; there are build, lint, run and test"

look
((${#missing[@]} == 0)) || install_packages
check_rust
[[ $for =~ ^(build|lint)$ ]] || check_node
[[ $for != test ]] || check_rust_tools
[[ $for == build ]] || vendor/pjproject.sh
say "all is there to $for"
