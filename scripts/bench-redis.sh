#!/usr/bin/env bash
# `./dev bench redis [--json]`: a snapshot of a Redis and its restores against redis-cli --rdb, BGSAVE and the server's own load.
# BALLAST_BENCH_BYTES says how much data to make (500MiB unless set). docs/bench.md says how to read the result.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
cd "$here/.."

: "${BALLAST_PROGRAM:?is set by ./dev bench}"

# Not the shared folder of small files that some machines keep in memory: the bench writes some six times its data.
export TMPDIR="${TMPDIR:-/var/tmp}"
export BALLAST_BENCH_BYTES="${BALLAST_BENCH_BYTES:-500MiB}"

cargo build --quiet -p ballast-testkit --bin ballast-bench >&2
exec "${CARGO_TARGET_DIR:-target}/debug/ballast-bench" redis "$@"
