#!/usr/bin/env bash
# `./dev bench logical [--json]`: backup and load of rows against mysqldump, mysql, mydumper and myloader.
# BALLAST_BENCH_BYTES says how much data to make (2GiB unless set). docs/bench.md says how to read the result.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
cd "$here/.."

: "${BALLAST_PROGRAM:?is set by ./dev bench}"

# Not the shared folder of small files that some machines keep in memory: the bench writes some ten times its data.
export TMPDIR="${TMPDIR:-/var/tmp}"

rivals=$(scripts/servers.sh mydumper) || die "mydumper is not there"
eval "$rivals"
cargo build --quiet -p ballast-testkit --bin ballast-bench >&2
exec "${CARGO_TARGET_DIR:-target}/debug/ballast-bench" logical "$@"
