#!/usr/bin/env bash
# The demo: builds crates/testkit/src/bin/demo and runs it with $BALLAST_PROGRAM, in a process group and a temporary folder of its
# own, so that nothing stays behind however it ends.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ -n ${BALLAST_PROGRAM:-} ]] || die "run ./dev demo"
say "building the demo"
cargo build --quiet -p ballast-testkit --bin ballast-demo >&2
demo="${CARGO_TARGET_DIR:-target}/debug/ballast-demo"

folder=$(mktemp -d "${TMPDIR:-/tmp}/ballast-demo.XXXXXX")
group=

# alive PATTERN: whether a process of the demo's group whose name matches is alive. One that only waits to be reaped is not.
alive() {
	local stat line name fields
	for stat in /proc/[0-9]*/stat; do
		{ read -r line <"$stat"; } 2>/dev/null || continue
		name=${line#*(}
		name=${name%)*}
		# After the name: state, parent, group.
		read -r -a fields <<<"${line##*) }"
		# shellcheck disable=SC2053 # a pattern is meant
		if [[ ${fields[2]} == "$group" && ${fields[0]} != [ZX] && $name == $1 ]]; then return 0; fi
	done
	return 1
}

# wait_for_end PATTERN: waits up to ten seconds until none is alive.
wait_for_end() {
	local tries
	for ((tries = 0; tries < 100; tries++)); do
		alive "$1" || return 0
		sleep 0.1
	done
}

# Asks all of the group to end. The program has to end in order, it may run a server of its own; the others need not.
clean_up() {
	trap '' INT TERM HUP
	if [[ -n $group ]] && alive '*'; then
		kill -TERM -- "-$group" 2>/dev/null || true
		wait_for_end "$(basename "$BALLAST_PROGRAM")"
		kill -KILL -- "-$group" 2>/dev/null || true
		wait_for_end '*'
	fi
	rm -rf "$folder"
}
trap clean_up EXIT

interrupted() {
	trap '' INT TERM HUP
	say ''
	say "interrupted; cleaning up"
	exit 130
}
trap interrupted INT TERM HUP

# Job control gives the job a group of its own, so a Ctrl-C reaches this script alone.
set -m
TMPDIR=$folder "$demo" "$@" </dev/null &
group=$!
set +m
wait "$group"
