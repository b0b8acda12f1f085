#!/usr/bin/env bash
# `./dev bench archive [--json]`: how fast a log is recorded, and what that costs a commit. docs/bench.md says how to read the result.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
cd "$here/.."

: "${BALLAST_PROGRAM:?is set by ./dev bench}"

# Not the shared folder of small files that some machines keep in memory: what is durable is to be on a disk.
export TMPDIR="${TMPDIR:-/var/tmp}"

cargo build --quiet -p ballast-testkit --bin ballast-bench >&2
exec "${CARGO_TARGET_DIR:-target}/debug/ballast-bench" archive "$@"
