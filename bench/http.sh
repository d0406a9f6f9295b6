#!/usr/bin/env bash
# HTTP: durable posts to Weir beside a static answer of nginx to the same generator (wrk), on this machine, in
# one run. bench/http.sh WEIR-BINARY DIR [SECONDS] [ROUNDS]
set -eu
[ "${1:-}" != --help ] || exec sed -n '2,/^[^#]/s/^# //p' "$0"
weir=$1 dir=$2 seconds=${3:-3} rounds=${4:-3}
here=$(cd "$(dirname "$0")" && pwd)
command -v wrk >/dev/null || { echo "http: wrk is not installed: skipped"; exit 0; }
data=$dir/bench-http
rm -rf "$data"
mkdir -p "$dir"
trap 'kill $pid $nginx_pid 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$data" "$dir/nginx"' EXIT
pid= nginx_pid=
"$weir" serve --data "$data" --http 127.0.0.1:0 --set topics.retention=10m --set log.level=warn >"$dir/bench-http.out" &
pid=$!
for _ in $(seq 100); do grep -q listening "$dir/bench-http.out" && break; sleep 0.05; done
url=$(sed -n 's/^http listening on //p' "$dir/bench-http.out")
rm -f "$dir/bench-http.out"

nginx_url=
if command -v nginx >/dev/null; then
    mkdir -p "$dir/nginx"
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    cat >"$dir/nginx/conf" <<C
worker_processes 2;
pid $dir/nginx/pid;
error_log $dir/nginx/err;
daemon off;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 100000000;
  server { listen 127.0.0.1:$port; location / { return 200 '{"id":"evt_0000000000000001","stream":"bench","partition":0,"offset":0,"position":1}'; } }
}
C
    nginx -c "$dir/nginx/conf" -p "$dir/nginx" 2>/dev/null &
    nginx_pid=$!
    nginx_url=http://127.0.0.1:$port
    sleep 0.5
fi

rate() { # url connections depth batch: median requests a second
    for _ in $(seq "$rounds"); do
        DEPTH=$3 BATCH=$4 wrk -t1 -c"$2" -d"${seconds}s" -s "$here/post.lua" "$1" | awk '/Requests\/sec/ { print $2 }'
    done | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

row() { # title connections depth batch target
    local w n ratio=""
    w=$(rate "$url" "$2" "$3" "$4")
    if [ -n "$nginx_url" ] && [ "$4" = 1 ]; then
        n=$(rate "$nginx_url" "$2" "$3" "$4")
        ratio=$(awk -v w="$w" -v n="$n" 'BEGIN { printf "   nginx static %.0f/s   ratio %.2f", n, w / n }')
    fi
    awk -v t="$1" -v w="$w" -v b="$4" -v r="$ratio" -v g="$5" 'BEGIN { printf "%-44s %10.0f events/s%s   (%s)\n", t, w * b, r, g }'
}

row "durable posts, 64 connections x 16 pipelined" 64 16 1 "at least 100,000"
row "durable posts, 256 connections" 256 1 1 "at least 100,000, or 0.8 of nginx"
row "durable posts, 1,000 events each" 8 1 1000 "at least 1,000,000"
echo "busy server: $(awk '/VmRSS/ { print $2 }' /proc/$pid/status) KiB resident"
