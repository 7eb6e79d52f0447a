#!/usr/bin/env bash
# Calls between real browsers, through sipwsd, over Kamailio: tests/browser. SIPWSD names the sipwsd to test; without it
# the debug build is made and taken. And through c-softswitch, where scripts/test-c.sh has built it or SIPWS_SOFTSWITCH names
# it; those tests are skipped otherwise.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH=$PATH:/usr/sbin:/sbin

if [[ -z ${SIPWSD:-} ]]; then
    cargo build --locked -p sipwsd
    target=$(cargo metadata --locked --no-deps --format-version 1 |
        node -p 'JSON.parse(require("node:fs").readFileSync(0)).target_directory')
    SIPWSD=$target/debug/sipwsd
fi
export SIPWSD
cd tests/browser
npm ci
npm test
