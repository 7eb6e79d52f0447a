#!/usr/bin/env bash
# Runs a command in a network namespace of its own that has nothing but loopback, as root or not. Calls' media, SIP and
# the browser's own curiosity then have nowhere else to go, and no other program's ports are in the way.
# Where the system grants no namespace the command runs as it is: every peer binds and dials 127.0.0.1 all the same.
set -euo pipefail

if [[ $EUID -eq 0 ]]; then
    namespace=(unshare --net)
else
    namespace=(unshare --map-root-user --net)
fi
raise='ip link set lo up'
if "${namespace[@]}" sh -c "$raise" 2>/dev/null; then
    exec "${namespace[@]}" sh -c "$raise && exec \"\$@\"" sh "$@"
fi
echo "own-network.sh: no network namespace to be had (unshare and ip are needed); running on the host's loopback" >&2
exec "$@"
