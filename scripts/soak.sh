#!/usr/bin/env bash
# All rounds of the loops that `./dev test` runs only a few of: kill -9 at random moments of backups, copies, loads and archives, cut lines.
# BALLAST_ROUNDS says how many (25).
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export BALLAST_ROUNDS=${BALLAST_ROUNDS:-25}
say "soak: $BALLAST_ROUNDS rounds"
exec cargo test -p ballast-app --test promises -- --nocapture --test-threads=1 faults:: load_again:: out_of_files::one_table archive::
