#!/usr/bin/env bash
# Runs every test: nextest for the suite, cargo for the examples in the documentation.
# The server variables are in the environment already (./dev test puts them there).
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/tools.sh
source "$(dirname "${BASH_SOURCE[0]}")/tools.sh"

profile=()
if [[ -n ${CI:-} ]]; then profile=(--profile ci); fi

# All packages, unless some are named.
packages=(--workspace)
for argument in "$@"; do
	case $argument in -p | -p?* | --package | --package=*) packages=() ;; esac
done

if need_nextest; then
	cargo nextest run "${packages[@]}" "${profile[@]}" "$@"
	# What was asked for by name is not in the documentation.
	if (($# == 0)); then cargo test --workspace --doc --quiet; fi
else
	say "cargo-nextest is not there and cannot be installed; using cargo test"
	cargo test "${packages[@]}" "$@"
fi
