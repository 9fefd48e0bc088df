#!/usr/bin/env bash
# Installs what a command of the Makefile needs and this machine lacks. Debian and its derivatives; says what it does.
#
#   scripts/setup.sh build             a C compiler, for the C parts of ring and jemalloc
#   scripts/setup.sh test              also the servers that tests start, musl, rustfmt, clippy, and what `sdk` does
#   scripts/setup.sh sdk               OpenFeature SDKs below target/sdk, their languages, and a browser without a window
#   scripts/setup.sh bench             also the peers that benches measure against
#   scripts/setup.sh fuzz [TOOLCHAIN]  cargo-fuzz and its toolchain (nightly)
set -euo pipefail

packages=()

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]
}

# need COMMAND PACKAGE: notes the package when the command is not there.
need() {
    have "$1" || packages+=("$2")
}

need_postgres() {
    # Debian keeps the server out of PATH, in a directory per major version.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || packages+=(postgresql)
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "needs root or sudo for: $*"
    fi
}

# Tests and benches start their servers themselves, so packages must not: Debian's maintainer scripts ask
# /usr/sbin/policy-rc.d before they start a service, and 101 means "not allowed" (invoke-rc.d(8)).
install_packages() {
    [ "${#packages[@]}" -gt 0 ] || return 0
    have apt-get || fail "not a Debian system; install these, or what they are called here: ${packages[*]}"
    echo "setup: installing ${packages[*]}"
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        # On every way out, Ctrl-C included: left behind it would keep later installations from starting their services.
        trap "as_root rm -f $policy" EXIT
        as_root chmod 755 "$policy"
    fi
    as_root apt-get update --quiet --quiet &&
        as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install --quiet --quiet --yes --no-install-recommends "${packages[@]}" ||
        fail "apt-get failed; try: apt-get update && apt-get install ${packages[*]}"
}

need_rust() {
    have cargo || fail 'no Rust here; install it from https://rustup.rs'
}

# rust_part component|target NAME TEST-COMMAND...: adds it through rustup when the test fails.
rust_part() {
    local kind=$1 name=$2
    shift 2
    "$@" >/dev/null 2>&1 && return 0
    have rustup || fail "this Rust has no $kind $name, and there is no rustup to add it"
    echo "setup: adding Rust $kind $name"
    rustup "$kind" add "$name"
}

# A target is there when the compiler finds a standard library for it.
has_target() {
    compgen -G "$(rustc --print target-libdir --target "$1")/libstd-*.rlib" >/dev/null
}

need_sdk() {
    need chromium-headless-shell chromium-headless-shell
    need node nodejs
    need npm npm
    # Debian packs venv's own pip apart from Python.
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || packages+=(python3 python3-venv)
}

# installed FILE COPY VERSION: whether what was installed from FILE is what FILE asks for, by a tool of this version.
installed() {
    cmp -s "$1" "$2" && [ "$(cat "$2.by" 2>/dev/null)" = "$3" ]
}

# The SDKs that tests run against a sidecar, of exactly these versions (every file by its hash), away from what the
# machine has of its own.
install_sdk() {
    local sdk=target/sdk from version
    from=tests/sdk/python/requirements.txt
    version=$(python3 --version)
    if ! installed "$from" "$sdk/python/requirements.txt" "$version"; then
        echo "setup: installing the SDKs for $version into $sdk/python"
        rm -rf "$sdk/python"
        python3 -m venv "$sdk/python"
        "$sdk/python/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement "$from"
        cp "$from" "$sdk/python/requirements.txt"
        echo "$version" >"$sdk/python/requirements.txt.by"
    fi
    from=tests/sdk/node/package-lock.json
    version="Node.js $(node --version)"
    if ! installed "$from" "$sdk/node/package-lock.json" "$version"; then
        echo "setup: installing the SDKs for $version into $sdk/node"
        rm -rf "$sdk/node"
        mkdir -p "$sdk/node"
        cp tests/sdk/node/package.json tests/sdk/node/package-lock.json "$sdk/node"
        # No package needs its own script to run here, so none may.
        npm ci --prefix "$sdk/node" --ignore-scripts --no-audit --no-fund --loglevel error
        echo "$version" >"$sdk/node/package-lock.json.by"
    fi
}

cd "$(dirname "$0")/.."
if [ "${1:-}" != sdk ]; then
    need_rust
    need cc gcc
fi
case "${1:-}" in
build) ;;
test)
    need redis-server redis-server
    need_postgres
    need mariadbd mariadb-server
    need musl-gcc musl-tools
    need openssl openssl
    need curl curl
    need h2load nghttp2-client
    need kill procps
    need haproxy haproxy
    need nginx nginx-light
    need promtool prometheus
    need faketime faketime
    LD_PRELOAD=libnss_wrapper.so true 2>&1 | grep -q . && packages+=(libnss-wrapper)
    [ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || packages+=(libnginx-mod-stream)
    need_sdk
    ;;
sdk)
    need_sdk
    ;;
bench)
    need redis-server redis-server
    need nginx nginx-light
    need haproxy haproxy
    need h2load nghttp2-client
    need openssl openssl
    ;;
fuzz)
    # libFuzzer is C++.
    need c++ g++
    ;;
*)
    fail 'usage: scripts/setup.sh build|test|sdk|bench|fuzz'
    ;;
esac
install_packages

case "$1" in
test)
    rust_part component rustfmt cargo fmt --version
    rust_part component clippy cargo clippy --version
    musl="$(uname -m)-unknown-linux-musl"
    rust_part target "$musl" has_target "$musl"
    install_sdk
    ;;
sdk)
    install_sdk
    ;;
fuzz)
    toolchain=${2:-nightly}
    have rustup || fail "fuzzing needs the $toolchain toolchain, and there is no rustup to add it"
    if ! rustup run "$toolchain" rustc --version >/dev/null 2>&1; then
        echo "setup: adding Rust toolchain $toolchain"
        rustup toolchain install "$toolchain" --profile minimal
    fi
    if ! cargo fuzz --version >/dev/null 2>&1; then
        echo 'setup: installing cargo-fuzz'
        cargo install cargo-fuzz --locked
    fi
    ;;
esac
