#!/usr/bin/env bash
# Runs the demo app behind the sidecar until Ctrl-C, which drains the sidecar first and stops the app afterwards.
#
#   scripts/run-demo.sh TIDEGATE DEMO_APP        paths of the two binaries
set -euo pipefail
cd "$(dirname "$0")/.."

tidegate=$1
app=$2
state=target/demo
flags=$state/flags.json
app_pid=
sidecar_pid=

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

listening() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# await PORT PID WHAT: until WHAT accepts connections; fails when it has ended or takes more than 10 s.
await() {
    local port=$1 pid=$2 what=$3 deadline=$((SECONDS + 10))
    until listening "$port"; do
        kill -0 "$pid" 2>/dev/null || fail "$what ended while it was starting; its last lines are above"
        [ "$SECONDS" -lt "$deadline" ] || fail "$what does not listen on port $port"
        sleep 0.1
    done
}

stop() {
    trap - EXIT
    if [ -n "$sidecar_pid" ] && kill -0 "$sidecar_pid" 2>/dev/null; then
        kill -TERM "$sidecar_pid"
        wait "$sidecar_pid" || true
    fi
    if [ -n "$app_pid" ] && kill -0 "$app_pid" 2>/dev/null; then
        kill -TERM "$app_pid"
        wait "$app_pid" || true
    fi
}

for port in 3000 8080 8013 8015 8016 8014; do
    if listening "$port"; then
        fail "port $port is taken; see who has it with: ss -ltnp 'sport = :$port'"
    fi
done
mkdir -p "$state"
# A copy to edit, so that trying things out leaves the checkout as it is.
cp examples/flags.json "$flags"

trap stop EXIT
# The terminal sends Ctrl-C to its whole process group. In a session of its own the app does not see it, and goes on
# answering while the sidecar drains, as an app in a pod does.
setsid "$app" --listen 127.0.0.1:3000 &
app_pid=$!
await 3000 "$app_pid" 'the demo app'

"$tidegate" --config examples/tidegate.yaml run &
sidecar_pid=$!
await 8080 "$sidecar_pid" 'the sidecar'

cat <<TRY

  The demo app answers through the sidecar. In another terminal, try

    curl 'http://127.0.0.1:8080/?user=ann'                          the app, through the proxy
    sed -i 's/"defaultVariant": "off"/"defaultVariant": "on"/' $flags
                                                                    switch its greeting, then ask again
    curl 'http://127.0.0.1:8013/v1/flags/new-checkout/enabled?targetingKey=ann'
                                                                    one of four users gets true
    curl -d '{"context":{"email":"ann@example.com"}}' \\
         http://127.0.0.1:8013/ofrep/v1/evaluate/flags/plan         a rule on an attribute, over OFREP
    curl 'http://127.0.0.1:8014/readyz?verbose'                     what the kubelet asks
    curl http://127.0.0.1:8014/metrics                              what Prometheus asks
    curl 'http://127.0.0.1:8080/slow?seconds=8'                     and then Ctrl-C here: it still gets its answer

  Ctrl-C drains and stops; twice stops at once.

TRY

# Ctrl-C reaches the sidecar by itself; a plain TERM or HUP, to this script alone, is passed on.
trap : INT
trap 'kill -TERM "$sidecar_pid" 2>/dev/null || true' TERM HUP
status=0
while kill -0 "$sidecar_pid" 2>/dev/null; do
    # A trapped signal ends `wait` early with a status above 128; the loop then waits again.
    wait "$sidecar_pid" && status=0 || status=$?
done
sidecar_pid=
exit "$status"
