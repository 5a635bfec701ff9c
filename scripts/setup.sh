#!/usr/bin/env bash
# Installs what building the engine and testing the storage need and this machine lacks. Touches nothing else, and is
# done at once when nothing is missing.
#
#   scripts/setup.sh            check, install on Debian and Ubuntu, elsewhere say what is missing
#   scripts/setup.sh tests      the same, and what tests alone need: Python
#   scripts/setup.sh browser    the same, and Chromium, for what only `make test-optuna` runs
#   scripts/setup.sh backend    print the engine back end to build for this machine: `cuda`, or nothing for the CPU
set -euo pipefail

have() { command -v "$1" >/dev/null 2>&1; }

# The library that bindings are generated with, and clang's own headers (stddef.h): some packages hold one without the
# other. libclang-cpp is another library.
have_libclang() { have_libclang_library && have_clang_headers; }

have_libclang_library() {
    local folder file
    for folder in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib \
        /opt/homebrew/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib; do
        for file in "$folder"/libclang.so* "$folder"/libclang-[0-9]*.so* "$folder"/libclang.dylib; do
            [ -e "$file" ] && return 0
        done
    done
    return 1
}

have_clang_headers() {
    local pattern
    for pattern in ${LIBCLANG_PATH:+"$LIBCLANG_PATH/clang/*" "$LIBCLANG_PATH/../lib/clang/*"} \
        "/usr/lib/llvm-*/lib/clang/*" "/usr/lib/clang/*" "/usr/lib64/clang/*" "/usr/local/lib/clang/*" \
        "/opt/homebrew/opt/llvm/lib/clang/*" "/Library/Developer/CommandLineTools/usr/lib/clang/*"; do
        compgen -G "$pattern/include/stddef.h" >/dev/null && return 0
    done
    return 1
}

have_cmake() {
    local version major minor
    have cmake || return 1
    # `cmake version 3.31.6`, and other lines.
    version=$(cmake --version 2>/dev/null) || return 1
    [[ $version =~ ([0-9]+)\.([0-9]+) ]] || return 1
    major=${BASH_REMATCH[1]} minor=${BASH_REMATCH[2]}
    ((10#$major > 3 || (10#$major == 3 && 10#$minor >= 14)))
}

# Debian keeps the server's programs out of PATH.
have_postgres() { have initdb || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; }

have_python() { have python3 && python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
# Debian has pip for new environments in a package of its own, and calls it venv.
have_venv() { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

# Playwright brings none here: a browser of the system's gets its updates.
have_browser() { have chromium || have chromium-browser || have google-chrome; }

have_nvcc() { have nvcc || [ -x "${CUDA_PATH:-/usr/local/cuda}/bin/nvcc" ]; }
have_nvidia() { have nvidia-smi && nvidia-smi -L >/dev/null 2>&1; }

if [ "${1:-}" = backend ]; then
    if have_nvidia && have_nvcc; then echo cuda; fi
    exit 0
fi

if ! have cargo; then
    echo "error: cargo is missing; install Rust from https://rustup.rs, then run this again" >&2
    exit 1
fi

missing=()     # what is missing, in words
packages=()    # and what Debian and Ubuntu call it
need() {       # need WORDS PACKAGE CHECK...
    local words=$1 package=$2
    shift 2
    if ! "$@"; then
        missing+=("$words")
        packages+=("$package")
    fi
}
need "a C++ compiler (g++)" g++ have c++
need "make" make have make
need "CMake 3.14 or newer" cmake have_cmake
need "libclang with its headers" libclang-dev have_libclang
need "the PostgreSQL server programs (initdb, postgres)" postgresql have_postgres
if [ "${1:-}" = tests ] || [ "${1:-}" = browser ]; then
    need "Python 3.10 or newer" python3 have_python
    need "Python's venv" python3-venv have_venv
fi
if [ "${1:-}" = browser ]; then need "Chromium" chromium have_browser; fi

if [ ${#missing[@]} -gt 0 ]; then
    echo "missing:"
    printf '  %s\n' "${missing[@]}"
    if ! have apt-get; then
        echo "error: install them with this system's package manager, then run this again" >&2
        echo "  Debian, Ubuntu:  apt-get install ${packages[*]}" >&2
        echo "  Fedora:          dnf install gcc-c++ make cmake clang-devel postgresql-server python3" >&2
        echo "  Arch:            pacman -S base-devel cmake clang postgresql python" >&2
        echo "  macOS:           brew install cmake llvm postgresql@17 python" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        if ! have sudo; then
            echo "error: not root, and there is no sudo; as root run: apt-get install ${packages[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    run() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@"; }
    run apt-get update -q
    if ! have_postgres; then
        # Debian's package starts a server on port 5432 by itself; tests start their own, private ones.
        run mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' |
            "${as_root[@]}" tee /etc/postgresql-common/createcluster.d/fleetune.conf >/dev/null
    fi
    run apt-get install -q -y --no-install-recommends "${packages[@]}"
    if [ -n "${1:-}" ] && ! have_python; then
        echo "error: the packages of this system hold $(python3 --version 2>&1); tests need Python 3.10 or newer in PATH" >&2
        exit 1
    fi
fi

if have_nvidia && ! have_nvcc; then
    echo "note: there is an NVIDIA GPU but no CUDA compiler (nvcc): the engine is built for the CPU alone." >&2
    echo "      Install the CUDA toolkit, or run: make setup RUNNER_FEATURES=vulkan" >&2
fi
