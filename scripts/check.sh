#!/usr/bin/env bash
# Everything a change must satisfy besides its tests. Changes no file. Every part runs, so that one run tells all.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
# shellcheck source=scripts/tools.sh
source "$here/tools.sh"

failed=()

# part NAME COMMAND…
part() {
	local name=$1 begin=$SECONDS
	shift
	say "== $name"
	if "$@"; then
		say "== $name: good ($((SECONDS - begin)) s)"
	else
		say "== $name: FAILED"
		failed+=("$name")
	fi
}

format() { cargo fmt --all --check; }
lints() { cargo clippy --workspace --all-targets -- -D warnings; }
documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps; }
spelling() { need_typos && typos; }

# Not "advisories": their database is a repository of its own and not in reach of every machine.
dependencies() { need_deny && cargo deny --workspace check licenses bans sources --hide-inclusion-graph; }

# Only where it is installed: nothing that ships depends on it.
shell_scripts() {
	bash -n dev && bash -n .ci/run || return 1
	local script
	for script in scripts/*.sh; do bash -n "$script" || return 1; done
	if have shellcheck; then shellcheck -x dev .ci/run scripts/*.sh; fi
}

need_toolchain
part "format" format
part "spelling" spelling
part "shell scripts" shell_scripts
part "dependencies (licences, bans, sources; advisories are not looked up)" dependencies
part "lints" lints
part "documentation" documentation

((${#failed[@]} == 0)) || die "failed: $(IFS=';'; echo "${failed[*]}")"
say "all checks are good"
