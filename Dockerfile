# One static binary in an empty image: no shell, no package, no user database.
#   docker build -t tidegate .
#   docker run --rm --network host tidegate run --upstream http://127.0.0.1:3000
# `make image` writes the same image without a container engine.

FROM rust:1.95-bookworm AS build
# musl-gcc compiles the C parts, ring and jemalloc.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
# `dist` is the profile that docs/BENCHMARKS.md measures: fat LTO, one codegen unit, stripped. It takes minutes.
RUN cargo build --locked --profile dist --target "$(uname -m)-unknown-linux-musl" --bin tidegate \
    && install -D --mode 0555 "target/$(uname -m)-unknown-linux-musl/dist/tidegate" /image/tidegate \
    && mkdir -p /writable/run/tidegate /writable/var/lib/tidegate

FROM scratch
COPY --from=build /image/ /
# Where the CLI's socket and the last known good flags go when no volume is mounted there: all that the process may write.
COPY --from=build --chown=65532:65532 /writable/ /
# Root certificates are inside the binary (webpki-roots). 65532 is "nonroot" in the images many clusters run; a number,
# because the kubelet's runAsNonRoot cannot check a name.
USER 65532:65532
# 8080 the app's traffic, 8014 probes, metrics and drain. The local API stays on loopback and is not exposed.
EXPOSE 8080 8014
ENTRYPOINT ["/tidegate"]
CMD ["run"]
