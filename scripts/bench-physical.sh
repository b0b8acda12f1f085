#!/usr/bin/env bash
# `./dev bench physical [--json | --chunks]`: physical backup and restore against mysqldump, mysql and a plain clone.
# BALLAST_BENCH_BYTES says how much data to make (2GiB unless set). docs/bench.md says how to read the result.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
cd "$here/.."

: "${BALLAST_PROGRAM:?is set by ./dev bench}"

# Not the shared folder of small files that some machines keep in memory: the bench writes some six times its data.
export TMPDIR="${TMPDIR:-/var/tmp}"

if [[ ${1:-} == --chunks ]]; then
	(($# == 1)) || die "--chunks stands alone"
	# Sizes of pieces are not the program's to choose, so this measures the library itself.
	exec cargo run --quiet --release -p ballast-protect --example chunk_size
fi
cargo build --quiet -p ballast-testkit --bin ballast-bench >&2
exec "${CARGO_TARGET_DIR:-target}/debug/ballast-bench" physical "$@"
