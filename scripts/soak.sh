#!/usr/bin/env bash
# `./dev soak [FILTER…]`: all rounds of the loops that `./dev test` runs only a few of: kill -9 at random moments of sources, recorders,
# backups, copies and loads, cut lines, random moments to go back to. Filters are those of the test runner: `./dev soak replay::`.
# BALLAST_ROUNDS says how many (50).
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export BALLAST_ROUNDS=${BALLAST_ROUNDS:-50}
if (($# == 0)); then set -- faults:: load_again:: out_of_files::one_table archive:: replay::any_transaction several::; fi
say "soak: $BALLAST_ROUNDS rounds of $*"
exec cargo test -p ballast-app --test promises -- --nocapture --test-threads=1 "$@"
