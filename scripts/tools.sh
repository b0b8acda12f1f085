# shellcheck shell=bash
# Developer tools that are installed into the cache folder when the machine lacks them.
# Needs scripts/lib.sh.

tools_dir="$cache_dir/tools"
export PATH="$PATH:$tools_dir/bin"

# cargo_tool CRATE ARGUMENT…: built once from source with its own target folder, outside this workspace.
cargo_tool() {
	local crate=$1
	shift
	say "building $crate into $tools_dir (once; takes some minutes)"
	with_lock tools retry 2 cargo install --quiet --locked --root "$tools_dir" "$crate" "$@" >&2
}

need_nextest() {
	have cargo-nextest || cargo_tool cargo-nextest --no-default-features --features default-no-update
}

need_deny() {
	have cargo-deny || cargo_tool cargo-deny
}

# The wheel of typos carries the program itself, which spares a build.
need_typos() {
	if have typos; then return 0; fi
	if have python3 && python3 -m pip --version >/dev/null 2>&1; then
		say "installing typos into $tools_dir"
		if with_lock tools retry 2 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target "$tools_dir/typos" typos >&2; then
			mkdir -p "$tools_dir/bin"
			ln -sf ../typos/bin/typos "$tools_dir/bin/typos"
			return 0
		fi
	fi
	cargo_tool typos-cli
}
