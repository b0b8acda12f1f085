#!/usr/bin/env bash
# Finds or installs the real servers that tests, demo and benches run, and prints where they are as `export` lines.
#
# Order of finding: the BALLAST_* variables, then PATH, then a private prefix per server in the cache folder.
# A prefix holds Debian packages that were downloaded by apt (private state folder, nothing of the machine's own apt
# is changed) and unpacked without being installed, their C library included. So no root is needed, no service
# starts, and the server may be newer than the machine's libraries. Small wrappers run it through the prefix's loader.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

servers_dir="$cache_dir/servers"
# Part of each prefix's completion mark: raise it when the content of a prefix changes.
layout=1

# ---- the machine's own mirror -------------------------------------------------------------------------------

os_field() { (
	# shellcheck disable=SC1091
	. /etc/os-release
	eval "printf '%s' \"\${$1:-}\""
); }

# Prints the first source of the machine's apt configuration that carries the release in use, with its suite
# replaced by $1, as one deb822 stanza or one classic line. Options and keys stay as they are.
derived_source() {
	local suite=$1 codename file
	local -a lists=()
	codename=$(os_field VERSION_CODENAME)
	local Dir="/" Etc="etc/apt/" SourceList="sources.list" SourceParts="sources.list.d"
	eval "$(apt-config shell Dir Dir Etc Dir::Etc SourceList Dir::Etc::sourcelist SourceParts Dir::Etc::sourceparts)"
	local base="${Dir%/}/${Etc%/}"
	[[ $Etc == /* ]] && base=${Etc%/}
	[[ $SourceList == /* ]] || SourceList="$base/$SourceList"
	[[ $SourceParts == /* ]] || SourceParts="$base/$SourceParts"
	for file in "$SourceList" "$SourceParts"/*.list "$SourceParts"/*.sources; do
		[[ -f $file ]] && lists+=("$file")
	done
	for file in "${lists[@]}"; do
		if [[ $file == *.sources ]]; then
			stanza_from_deb822 "$file" "$codename" "$suite" && return 0
		else
			line_from_list "$file" "$codename" "$suite" && return 0
		fi
	done
	return 1
}

stanza_from_deb822() {
	awk -v codename="$2" -v suite="$3" '
		function flush_stanza() {
			if (is_deb && is_release && is_main && !disabled && !found) { printf "%s", stanza; found = 1 }
			stanza = ""; is_deb = is_release = is_main = disabled = 0; field = ""
		}
		/^[ \t]*$/ { flush_stanza(); next }
		/^#/ { next }
		{
			if ($0 ~ /^[ \t]/) { value = $0 } else { field = tolower($0); sub(/:.*/, "", field); value = $0; sub(/^[^:]*:/, "", value) }
			n = split(value, words, /[ \t]+/)
			for (i = 1; i <= n; i++) {
				if (field == "types" && words[i] == "deb") is_deb = 1
				if (field == "suites" && words[i] == codename) is_release = 1
				if (field == "components" && words[i] == "main") is_main = 1
				if (field == "enabled" && words[i] == "no") disabled = 1
			}
			if (field == "types") { if ($0 !~ /^[ \t]/) stanza = stanza "Types: deb\n" }
			else if (field == "suites") { if ($0 !~ /^[ \t]/) stanza = stanza "Suites: " suite "\n" }
			else stanza = stanza $0 "\n"
		}
		END { flush_stanza(); exit !found }
	' "$1"
}

line_from_list() {
	awk -v codename="$2" -v suite="$3" '
		$1 == "deb" {
			line = $0; sub(/[ \t]#.*/, "", line)
			options = ""
			if (match(line, /\[[^]]*\]/)) { options = substr(line, RSTART, RLENGTH) " "; line = substr(line, 1, RSTART - 1) substr(line, RSTART + RLENGTH) }
			n = split(line, words, /[ \t]+/)
			if (words[3] != codename) next
			rest = ""; is_main = 0
			for (i = 4; i <= n; i++) { rest = rest " " words[i]; if (words[i] == "main") is_main = 1 }
			if (is_main) { print "deb " options words[2] " " suite rest; found = 1; exit }
		}
		END { exit !found }
	' "$1"
}

# ---- a private apt -------------------------------------------------------------------------------------------

# private_apt SUITE: prepares a state folder that knows that one suite and believes nothing is installed (so that
# every library is downloaded too); sets $apt_conf.
private_apt() {
	local suite=$1 root="$cache_dir/apt/$1" source kind
	if ! have apt-get || ! have dpkg; then
		die "apt and dpkg are needed to download servers; or set BALLAST_MYSQLD and its like"
	fi
	source=$(derived_source "$suite") || die "no apt source for this release in the machine's apt configuration"
	kind=list
	[[ $source == deb\ * ]] || kind=sources
	mkdir -p "$root"/{state/lists/partial,cache/archives/partial}
	: >"$root/status"
	rm -f "$root"/source.*
	printf '%s\n' "$source" >"$root/source.$kind"
	apt_conf="$root/apt.conf"
	cat >"$apt_conf" <<-CONF
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		#clear DPkg::Post-Invoke;
		#clear APT::Default-Release;
		Dir::State "$root/state";
		Dir::State::status "$root/status";
		Dir::Cache "$root/cache";
		Dir::Etc::sourcelist "$root/source.$kind";
		Dir::Etc::sourceparts "/dev/null";
		Dir::Etc::preferences "/dev/null";
		Dir::Etc::preferencesparts "/dev/null";
		Acquire::Languages "none";
		Acquire::Retries "4";
		APT::Sandbox::User "$(id -un)";
	CONF
	if [[ ! -e $root/updated ]]; then
		say "reading the package index of $suite"
		retry 3 apt-get -c "$apt_conf" -qq update >&2 || die "apt-get update failed for $suite"
		touch "$root/updated"
	fi
}

# unpack_packages SUITE PREFIX PACKAGE…: PREFIX ends up holding the packages and all they depend on.
unpack_packages() {
	local suite=$1 prefix=$2 archive
	shift 2
	private_apt "$suite"
	rm -f "$cache_dir/apt/$suite/cache/archives"/*.deb
	local -a download=(apt-get -c "$apt_conf" -qq -y --download-only --no-install-recommends install)
	if ! retry 2 "${download[@]}" "$@" >&2; then
		# The index may be older than what the mirror still holds.
		rm -f "$cache_dir/apt/$suite/updated"
		private_apt "$suite"
		retry 3 "${download[@]}" "$@" >&2 || die "cannot download: $*"
	fi
	for archive in "$cache_dir/apt/$suite/cache/archives"/*.deb; do
		dpkg -x "$archive" "$prefix"
	done
	rm -f "$cache_dir/apt/$suite/cache/archives"/*.deb
	# Documentation is half of what was unpacked, and bin/ is to hold the wrappers alone.
	rm -rf "${prefix:?}"/usr/share/{doc,man,locale,info,lintian} "${prefix:?}"/{bin,sbin}
}

# ---- prefixes --------------------------------------------------------------------------------------------------

# wrapper PREFIX PROGRAM [DEFAULT_ARGUMENT…]: bin/PROGRAM runs the prefix's program through the prefix's loader.
# It execs, so its pid is the server's. Options that must come first stay first, the defaults follow, so that what
# the caller says wins.
wrapper() {
	local prefix=$1 program=$2 real loader libs word
	shift 2
	mkdir -p "$building"/{bin,lib,usr/lib,usr/bin,usr/sbin}
	real=$(find "$building/usr/sbin" "$building/usr/bin" -name "$program" -print -quit)
	[[ -n $real ]] || die "the packages in $prefix hold no $program"
	loader=$(find "$building" -name 'ld-linux*.so.*' -print -quit)
	[[ -n $loader ]] || die "the packages in $prefix hold no loader"
	libs=$(find "$building/lib" "$building/usr/lib" -maxdepth 2 -name '*.so*' -printf '%h\n' | sort -u | tr '\n' ':')
	real=${real/#$building/$prefix}
	loader=${loader/#$building/$prefix}
	libs=${libs//$building/$prefix}
	# shellcheck disable=SC2016 # the wrapper expands these, not this script
	{
		printf '#!/bin/bash\n# Runs %s through the loader and libraries it was unpacked with.\n' "$program"
		printf 'first=()\n'
		printf 'while [[ ${1:-} == --no-defaults || ${1:-} == --defaults-* || ${1:-} == --print-defaults ]]; do first+=("$1"); shift; done\n'
		printf 'exec %q --argv0 %q --library-path %q %q "${first[@]}"' "$loader" "$real" "${libs%:}" "$real"
		for word in "$@"; do printf ' %q' "$word"; done
		printf ' "$@"\n'
	} >"$building/bin/$program"
	chmod 755 "$building/bin/$program"
}

# Debian's newest suite has what its releases lack; another distribution brings its own.
new_suite() { if [[ $(os_field ID) == debian ]]; then echo unstable; else os_field VERSION_CODENAME; fi; }

build_mysql() {
	local prefix=$1 suite program packages=(mysql-server-core mysql-client-core)
	suite=$(new_suite)
	if [[ $suite != unstable ]]; then
		private_apt "$suite"
		for program in 8.4 8.0; do
			if apt-cache -c "$apt_conf" show "mysql-server-core-$program" >/dev/null 2>&1; then
				packages=("mysql-server-core-$program" "mysql-client-core-$program")
				break
			fi
		done
	fi
	unpack_packages "$suite" "$building" "${packages[@]}"
	local share="$prefix/usr/share/mysql" plugins="$prefix/usr/lib/mysql/plugin"
	wrapper "$prefix" mysqld "--lc-messages-dir=$share" "--character-sets-dir=$share/charsets" "--plugin-dir=$plugins"
	for program in mysql mysqldump mysqladmin; do
		wrapper "$prefix" "$program" "--character-sets-dir=$share/charsets" "--plugin-dir=$plugins"
	done
	# Older packages keep it elsewhere.
	if [[ -e $building/usr/bin/mysqlbinlog ]]; then wrapper "$prefix" mysqlbinlog "--character-sets-dir=$share/charsets"; fi
}

build_mariadb() {
	local prefix=$1 program
	unpack_packages "$(os_field VERSION_CODENAME)" "$building" mariadb-server-core mariadb-client-core mariadb-client mariadb-backup
	local share="$prefix/usr/share/mysql" plugins="$prefix/usr/lib/mysql/plugin" client_plugins
	client_plugins=$(find "$building/usr/lib" -type d -path '*/libmariadb3/plugin' -print -quit)
	[[ -d $building/usr/share/mysql ]] || share="$prefix/usr/share/mariadb"
	wrapper "$prefix" mariadbd "--lc-messages-dir=$share" "--character-sets-dir=$share/charsets" "--plugin-dir=$plugins"
	for program in mariadb mariadb-dump mariadb-binlog; do
		wrapper "$prefix" "$program" "--plugin-dir=${client_plugins/#$building/$prefix}"
	done
	wrapper "$prefix" mariadb-backup
	wrapper "$prefix" mbstream
}

build_redis() {
	unpack_packages "$(os_field VERSION_CODENAME)" "$building" redis-server redis-tools
	wrapper "$1" redis-server
	wrapper "$1" redis-cli
}

build_valkey() {
	unpack_packages "$(new_suite)" "$building" valkey-server valkey-tools
	wrapper "$1" valkey-server
	wrapper "$1" valkey-cli
}

# A rival of the benches, of the machine's own release, with its loader. It finds the login plugins by the wrapper.
build_mydumper() {
	local prefix=$1 program plugins
	unpack_packages "$(os_field VERSION_CODENAME)" "$building" mydumper
	plugins=$(find "$building/usr/lib" -type d -path '*/libmariadb3/plugin' -print -quit)
	for program in mydumper myloader; do
		wrapper "$prefix" "$program"
		if [[ -n $plugins ]]; then
			sed -i "2a export MARIADB_PLUGIN_DIR=$(printf '%q' "${plugins/#$building/$prefix}")" "$building/bin/$program"
		fi
	done
}

# prefix_of NAME: builds the prefix unless it is complete. It appears under its name only when it is.
prefix_of() {
	local name=$1 prefix="$servers_dir/$1"
	if [[ ! -e $prefix/.complete-$layout ]]; then
		say "installing $name into $prefix"
		building="$servers_dir/.$name.building"
		rm -rf "$building"
		mkdir -p "$building"
		"build_$name" "$prefix"
		touch "$building/.complete-$layout"
		rm -rf "$prefix"
		mv "$building" "$prefix"
	fi
}

# ---- finding ---------------------------------------------------------------------------------------------------

# The server, its version and the clients beside it must be what the tests expect.
in_path() {
	local program=$1 want=$2 found text
	shift 2
	found=$(command -v "$program" 2>/dev/null) || return 1
	text=$("$found" --version 2>/dev/null) || return 1
	[[ $text =~ $want ]] || return 1
	for program in "$@"; do have "$program" || return 1; done
	printf '%s\n' "$found"
}

mysql_in_path() {
	local found version
	found=$(in_path mysqld 'Ver [0-9.]+' mysql mysqldump) || return 1
	version=$("$found" --version)
	[[ $version != *MariaDB* && $version =~ Ver\ ([0-9]+)\.([0-9]+)\.([0-9]+) ]] || return 1
	((BASH_REMATCH[1] * 10000 + BASH_REMATCH[2] * 100 + BASH_REMATCH[3] >= 80017)) || return 1
	printf '%s\n' "$found"
}

# provide VARIABLE NAME PROGRAM FINDER…: prints the export line, installing the server if it is nowhere.
provide() {
	local variable=$1 name=$2 program=$3 found=${!1:-}
	shift 3
	if [[ -n $found ]]; then
		[[ -x $found ]] || die "$variable names $found, which is not a program"
	elif ! found=$("$@"); then
		found="$servers_dir/$name/bin/$program"
		if [[ ! -e $servers_dir/$name/.complete-$layout ]]; then
			with_lock servers prefix_of "$name" >&2
		fi
	fi
	provided=$found
	printf 'export %s=%q\n' "$variable" "$found"
}

# beside VARIABLE PROGRAM: prints the export line of a tool that came with the server provided last.
beside() {
	local variable=$1 program=$2 found=${!1:-}
	if [[ -z $found ]]; then
		found=${provided%/*}/$program
		[[ -x $found ]] || found=$(command -v "$program") || die "there is no $program for $provided"
	fi
	[[ -x $found ]] || die "$variable names $found, which is not a program"
	printf 'export %s=%q\n' "$variable" "$found"
}

# A bench asks for its rival by name.
if [[ ${1:-} == mydumper ]]; then
	provide BALLAST_MYDUMPER mydumper mydumper in_path mydumper '^mydumper' myloader
	exit
fi

provide BALLAST_MYSQLD mysql mysqld mysql_in_path
provide BALLAST_MARIADBD mariadb mariadbd in_path mariadbd MariaDB mariadb mariadb-dump mariadb-backup mbstream
beside BALLAST_MARIADB_BACKUP mariadb-backup
provide BALLAST_REDIS_SERVER redis redis-server in_path redis-server '^Redis server' redis-cli
provide BALLAST_VALKEY_SERVER valkey valkey-server in_path valkey-server 'alkey' valkey-cli
