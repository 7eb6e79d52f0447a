#!/usr/bin/env bash
# The whole thing on this machine: Kamailio as SIP server, sipwsd in front of it, and the web phone handed out by sipwsd.
# Prints the address to open; Ctrl-C ends everything. Needs no root, and nothing but loopback.
#
#   examples/web-phone/run.sh [SIPWSD]        the binary; else $SIPWSD, else target/release/sipwsd or target/debug/sipwsd
#
# WEB_PORT (9464), WS_PORT (8080) and WSS_PORT (8443) choose other ports.
# The accounts (alice, bob, carol, dave) and their passwords are for this demonstration only.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
web_port=${WEB_PORT:-9464}
ws_port=${WS_PORT:-8080}
wss_port=${WSS_PORT:-8443}
domain=sipws.example

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

sipwsd=${1:-${SIPWSD:-}}
if [[ -z $sipwsd ]]; then
    for sipwsd in "$root"/target/{release,debug}/sipwsd; do
        [[ -x $sipwsd ]] && break
    done
fi
[[ -x $sipwsd ]] || fail "there is no $sipwsd: build it with 'cargo build --release -p sipwsd'"
kamailio=$(command -v kamailio || echo /usr/sbin/kamailio)
[[ -x $kamailio ]] || fail "kamailio is not installed (Debian: apt install kamailio)"
[[ -f $here/dist/main.js ]] || fail "the web phone is not built: run 'npm ci && npm run build' in $here"

taken() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

free_port() {
    local port
    for _ in {1..100}; do
        # Below the ports that the system gives to outgoing connections.
        port=$((20000 + RANDOM % 12000))
        if ! taken "$port"; then
            echo "$port"
            return
        fi
    done
    fail "no free port found on 127.0.0.1"
}

for setting in "WEB_PORT $web_port" "WS_PORT $ws_port" "WSS_PORT $wss_port"; do
    read -r name port <<<"$setting"
    ! taken "$port" || fail "port $port is in use: choose another one with $name=…"
done
kamailio_port=$(free_port)
sip_port=$(free_port)
while [[ $sip_port == "$kamailio_port" ]]; do sip_port=$(free_port); done

work=$(mktemp -d)
pids=()
# shellcheck disable=SC2317 # a trap calls it
finish() {
    trap '' INT TERM HUP
    # The last one first: sipwsd says good-bye to its clients while its server is still there.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# What is started from here on gets a process group of its own: Ctrl-C reaches this script alone, and finish() ends the others in order.
set -m

wait_for() {
    local pid=$1 what=$2 log=$3
    shift 3
    for _ in {1..100}; do
        if "$@"; then return; fi
        if ! kill -0 "$pid" 2>/dev/null; then break; fi
        sleep 0.1
    done
    cat "$log" >&2
    fail "$what did not start; its output is above"
}

mkdir "$work/kamailio"
"$kamailio" -f "$root/tests/peers/kamailio.cfg" -DD -E -m 64 -M 8 -Y "$work/kamailio" -w "$work/kamailio" \
    -A WITH_PATH -A "SIP_PORT=$kamailio_port" -A "SIP_DOMAIN=\"$domain\"" -A 'PASSWORD_PREFIX="demo-"' \
    >"$work/kamailio.log" 2>&1 &
pids+=($!)
wait_for $! Kamailio "$work/kamailio.log" taken "$kamailio_port"

cp -r "$here/dist" "$work/pages"
sed "s|ws://127.0.0.1:8080/|ws://127.0.0.1:$ws_port/|; s|sipws.example|$domain|" "$here/dist/config.json" >"$work/pages/config.json"

origins="[\"http://127.0.0.1:$web_port\", \"http://localhost:$web_port\"]"
cat >"$work/sipwsd.toml" <<TOML
[[listen]]
url = "ws://127.0.0.1:$ws_port/"
origins = $origins
[[listen]]
url = "wss://127.0.0.1:$wss_port/"
origins = $origins
[sip]
listen = ["tcp://127.0.0.1:$sip_port"]
[[upstream]]
uri = "sip:127.0.0.1:$kamailio_port;transport=tcp"
[admin]
listen = "127.0.0.1:$web_port"
pages = "$work/pages"
[runtime]
drain = "1s"
TOML
"$sipwsd" --config "$work/sipwsd.toml" > >(tee "$work/sipwsd.log") 2>&1 &
pids+=($!)
wait_for $! sipwsd "$work/sipwsd.log" grep -qs '^admin ' "$work/sipwsd.log"

cat <<MESSAGE

The web phone is at  http://127.0.0.1:$web_port/
Open it in two tabs: the first is alice, the second is bob. They can call each other (and hear each other: use headphones).
Ctrl-C ends it.

MESSAGE
wait -n "${pids[@]}" || true
fail "a program ended by itself"
