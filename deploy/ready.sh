#!/usr/bin/env bash
# Exits 0 when the coordinator at PORT of this host (default 7700) answers and reaches its storage. Bash alone: the image
# has no HTTP client.
set -euo pipefail
port=${1:-7700}

exec 3<>"/dev/tcp/127.0.0.1/$port"
printf 'GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 5 _ status _ <&3
if [ "$status" != 200 ]; then
    echo "/readyz answers $status" >&2
    exit 1
fi
