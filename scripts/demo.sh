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

# Whether a process of the demo's group is alive; one that only waits to be reaped is not.
alive() {
	local stat fields
	for stat in /proc/[0-9]*/stat; do
		{ read -r fields <"$stat"; } 2>/dev/null || continue
		# After the name in parentheses: state, parent, group.
		read -r -a fields <<<"${fields##*) }"
		if [[ ${fields[2]} == "$group" && ${fields[0]} != [ZX] ]]; then return 0; fi
	done
	return 1
}

# Asks all of the group to end, and after ten seconds ends it.
clean_up() {
	trap '' INT TERM HUP
	if [[ -n $group ]] && alive; then
		kill -TERM -- "-$group" 2>/dev/null || true
		local tries
		for ((tries = 0; tries < 100; tries++)); do
			alive || break
			sleep 0.1
		done
		if alive; then kill -KILL -- "-$group" 2>/dev/null || true; fi
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
