#!/usr/bin/env bash
# Checks which of our packages depend on which. The lists are the architecture; change them there first.
set -euo pipefail

declare -A may=(
    [core]=""
    [proto]="core"
    [sampler]="core"
    [model]="core"
    [rdb]="core"
    [runner]="core"
    [worker]="core proto model"
    [coordinator]="core proto sampler model"
    [cli]="core proto sampler model rdb worker coordinator"
    [tests]="core proto sampler model rdb worker coordinator cli"
)
# Tests of any package may make synthetic models.
may_in_tests="model"

# The packages of ours that package $1 depends on, by edges of kind $2.
depends() {
    cargo tree --quiet -p "fleetune-$1" --depth 1 --edges "$2" --prefix none --all-features |
        sed -n 's/^fleetune-\([a-z]*\) .*/\1/p' | sort -u | { grep -vx "$1" || true; }
}

wrong=0
check() { # check PACKAGE KIND ALLOWED
    local other
    for other in $(depends "$1" "$2"); do
        if [[ " $3 " != *" $other "* ]]; then
            echo "error: fleetune-$1 depends on fleetune-$other ($2), which the architecture forbids" >&2
            wrong=1
        fi
    done
}

# A version follows the name of a package, not that of a program in it.
members=$(cargo metadata --no-deps --format-version 1 | grep -o '"name":"fleetune-[a-z]*","version"' |
    sed 's/.*fleetune-\([a-z]*\)".*/\1/' | sort -u)
for package in $members; do
    if [ -z "${may[$package]+known}" ]; then
        echo "error: fleetune-$package is not in the lists of scripts/check-arrows.sh" >&2
        wrong=1
        continue
    fi
    check "$package" normal,build "${may[$package]}"
    check "$package" dev "${may[$package]} $may_in_tests"
done
if [ "$wrong" = 0 ]; then echo "dependency arrows: fine"; fi
exit "$wrong"
