#!/usr/bin/env bash
# Installs what a command of the Makefile needs and this machine lacks. Debian and its derivatives; says what it does.
#
#   scripts/setup.sh build             a C compiler, for the C parts of ring and jemalloc
#   scripts/setup.sh test              also the servers that tests start, musl, rustfmt, clippy, and what `sdk` and `kube` do
#   scripts/setup.sh sdk               OpenFeature SDKs below target/sdk, their languages, and a browser without a window
#   scripts/setup.sh kube              Kubernetes' schemas, Helm and kustomize below target/kube; skopeo and umoci
#   scripts/setup.sh image [ARCH]      what `make image` needs for amd64 or arm64; for another machine's also Zig, as its C compiler
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

need_python() {
    # Debian packs venv's own pip apart from Python.
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || packages+=(python3 python3-venv)
}

need_sdk() {
    need chromium-headless-shell chromium-headless-shell
    need node nodejs
    need npm npm
    need_python
}

need_kube() {
    need skopeo skopeo
    need umoci umoci
    need strip binutils
    need node nodejs
    need npm npm
    need_python
}

# need_image ARCH: what compiles the C parts for the image's binary, which an image's name for its machine tells.
need_image() {
    case "$1:$(uname -m)" in
    amd64:x86_64 | arm64:aarch64) need musl-gcc musl-tools ;;
    amd64:* | arm64:*) ;;
    *) fail "no image for $1; ARCH is amd64 or arm64" ;;
    esac
    need_python
}

# installed FILE COPY VERSION: whether what was installed from FILE is what FILE asks for, by a tool of this version.
installed() {
    cmp -s "$1" "$2" && [ "$(cat "$2.by" 2>/dev/null)" = "$3" ]
}

# install_python FROM TO: what FROM/requirements.txt names (every file by its hash) in an environment of its own, away from
# what the machine has.
install_python() {
    local from=$1/requirements.txt to=$2 version
    version=$(python3 --version)
    installed "$from" "$to/requirements.txt" "$version" && return 0
    echo "setup: installing $from for $version into $to"
    rm -rf "$to"
    python3 -m venv "$to"
    "$to/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement "$from"
    cp "$from" "$to/requirements.txt"
    echo "$version" >"$to/requirements.txt.by"
}

# install_node FROM TO: the same of FROM/package-lock.json.
install_node() {
    local from=$1/package-lock.json to=$2 version
    version="Node.js $(node --version)"
    installed "$from" "$to/package-lock.json" "$version" && return 0
    echo "setup: installing $from for $version into $to"
    rm -rf "$to"
    mkdir -p "$to"
    cp "$1/package.json" "$from" "$to"
    # No package needs its own script to run here, so none may.
    npm ci --prefix "$to" --ignore-scripts --no-audit --no-fund --loglevel error
    echo "$version" >"$to/package-lock.json.by"
}

# The SDKs that tests run against a sidecar.
install_sdk() {
    install_python tests/sdk/python target/sdk/python
    install_node tests/sdk/node target/sdk/node
}

# What tests hold the files of deploy/ against.
install_kube() {
    install_python tests/kube/python target/kube/python
    install_node tests/kube/node target/kube/node
}

cd "$(dirname "$0")/.."
case "${1:-}" in
sdk | kube) ;;
*)
    need_rust
    need cc gcc
    ;;
esac
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
    need_kube
    ;;
sdk)
    need_sdk
    ;;
kube)
    need_kube
    ;;
image)
    need_image "${2:-amd64}"
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
    fail 'usage: scripts/setup.sh build|test|sdk|kube|image|bench|fuzz'
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
    install_kube
    ;;
sdk)
    install_sdk
    ;;
kube)
    install_kube
    ;;
image)
    machine=x86_64
    [ "${2:-amd64}" = amd64 ] || machine=aarch64
    rust_part target "$machine-unknown-linux-musl" has_target "$machine-unknown-linux-musl"
    [ "$machine" = "$(uname -m)" ] || install_python scripts/cross target/cross
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
