#!/usr/bin/env bash
# `./dev bench replay [--json]`: a log put on top of a backup, by Ballast and by `mysqlbinlog | mysql`, on equal servers.
# BALLAST_BENCH_BYTES says how much data to make (1GiB unless set), BALLAST_BENCH_TRANSACTIONS how much is written after the
# backup (64000 unless set: about 107 MB of log). docs/bench.md says how to read the result.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
cd "$here/.."

: "${BALLAST_PROGRAM:?is set by ./dev bench}"

# Not the shared folder of small files that some machines keep in memory: the bench writes some ten times its data.
export TMPDIR="${TMPDIR:-/var/tmp}"

cargo build --quiet -p ballast-testkit --bin ballast-bench >&2
exec "${CARGO_TARGET_DIR:-target}/debug/ballast-bench" replay "$@"
