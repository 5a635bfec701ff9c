# Images of fleetune: `--target coordinator` (no engine in it, none built for it) and `--target worker`.
# Builds with BuildKit, Docker's default; cargo's registry and build folders stay in its cache mounts.

ARG RUST_IMAGE=rust:1.95-slim-bookworm
# What the engine is built in and what it runs in: the same distribution, since the runner is linked to its C++ library.
# With ENGINE_FEATURES=cuda give both an image of CUDA, see docker-compose.yml.
ARG ENGINE_IMAGE=debian:bookworm-slim
ARG WORKER_IMAGE=debian:bookworm-slim

# ---- the program, without the engine -------------------------------------------------------------------------------
FROM ${RUST_IMAGE} AS program
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=fleetune-program \
    cargo build --release --locked -p fleetune-cli && cp target/release/fleetune /fleetune

# ---- the coordinator -----------------------------------------------------------------------------------------------
FROM debian:bookworm-slim AS coordinator
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/fleetune fleetune
COPY --from=program /fleetune /usr/local/bin/fleetune
COPY deploy/ready.sh /usr/local/bin/fleetune-ready
# Studies in SQLite, unless FLEETUNE_STORAGE names a database, go to /var/lib/fleetune.
ENV XDG_DATA_HOME=/var/lib
VOLUME /var/lib/fleetune
USER fleetune
EXPOSE 7700
HEALTHCHECK --interval=5s --timeout=8s --start-period=60s --retries=3 CMD ["fleetune-ready"]
ENTRYPOINT ["fleetune"]
# On loopback, hence for nobody outside of the container: who opens it says so, and how it is secured.
CMD ["serve"]

# ---- the engine ----------------------------------------------------------------------------------------------------
FROM ${RUST_IMAGE} AS rust

FROM ${ENGINE_IMAGE} AS engine
# Packages that a back end needs besides: `libvulkan-dev glslc` for vulkan.
ARG ENGINE_PACKAGES=
RUN apt-get update && apt-get install -y --no-install-recommends \
        ca-certificates cmake g++ git libclang-dev make ${ENGINE_PACKAGES} \
    && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH
# Back end: empty for the CPU alone, cuda, vulkan or rocm.
ARG ENGINE_FEATURES=
# No `target-cpu=native`: an image runs elsewhere than where it was built. See docs/deploy.md for the price.
ARG ENGINE_RUSTFLAGS=
# Of the cards that the image is for. The builder has none that could be asked.
ARG CUDA_ARCHITECTURES=75;80;86;89;90
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=fleetune-engine-${ENGINE_FEATURES} \
    make runner LOCKED=--locked RUNNER_FEATURES="${ENGINE_FEATURES}" RUNNER_RUSTFLAGS="${ENGINE_RUSTFLAGS}" \
        CMAKE_CUDA_ARCHITECTURES="${CUDA_ARCHITECTURES}" \
    && cp target/runner/release/fleetune-runner /fleetune-runner

# ---- the worker ----------------------------------------------------------------------------------------------------
FROM ${WORKER_IMAGE} AS worker
# Packages that a back end needs besides: `libvulkan1` and the card's driver for vulkan.
ARG WORKER_PACKAGES=
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 libstdc++6 ${WORKER_PACKAGES} \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/fleetune fleetune \
    && install -d -o fleetune -g fleetune /models /var/lib/fleetune /var/lib/fleetune-locks
COPY --from=program /fleetune /usr/local/bin/fleetune
# Beside the program, where it looks for it.
COPY --from=engine /fleetune-runner /usr/local/bin/fleetune-runner
# The worker's identity and results that were not delivered yet; locks that keep measurements on one host apart.
ENV XDG_DATA_HOME=/var/lib FLEETUNE_LOCK_DIR=/var/lib/fleetune-locks
VOLUME ["/var/lib/fleetune", "/var/lib/fleetune-locks"]
USER fleetune
ENTRYPOINT ["fleetune"]
CMD ["worker", "run", "--models", "/models"]
