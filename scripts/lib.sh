# shellcheck shell=bash
# What ./dev and its scripts share. Standard output belongs to results; everything for people goes to standard error.

# Where downloads, tools and servers are kept between runs.
cache_dir="${BALLAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ballast}"

say() { printf '%s\n' "$*" >&2; }

die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# retry TIMES COMMAND…: the network is allowed to fail a few times.
retry() {
	local times=$1 attempt
	shift
	for ((attempt = 1; attempt <= times; attempt++)); do
		if "$@"; then return 0; fi
		if ((attempt < times)); then
			say "attempt $attempt of $times failed: $1; trying again"
			sleep $((attempt * 2))
		fi
	done
	return 1
}

# with_lock NAME COMMAND…: two runs on one machine take turns.
with_lock() {
	local name=$1
	shift
	mkdir -p "$cache_dir"
	(
		flock 9
		"$@" 9>&-
	) 9>"$cache_dir/$name.lock"
}

# What cannot be built without: cargo, and a C compiler for the C parts of dependencies (aws-lc, zstd).
need_toolchain() {
	have cargo || die "cargo is not installed; install the Rust toolchain (rustup) first"
	if have cc; then return 0; fi
	if [[ $(id -u) != 0 ]] || ! have apt-get; then
		die "no C compiler (cc) found; install gcc and libc6-dev"
	fi
	say "installing a C compiler"
	with_lock apt install_compiler >&2 || die "cannot install gcc"
}

install_compiler() {
	retry 3 apt-get -qq update &&
		retry 3 env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install gcc libc6-dev
}
