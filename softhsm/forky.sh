#!/usr/bin/env bash
# Fetches from Debian's coming release what knows post-quantum cryptography: NSS, whose token has ML-KEM and
# ML-DSA, and Bouncy Castle. Unpacks them into a folder; nothing of the system changes.
#
#   softhsm/forky.sh [FOLDER]
#
# FOLDER is .forky unless told; the tests look there. Debian and its kin only; safe to repeat; fails where there
# is no network.

# shellcheck source=softhsm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

suite=forky
# The libnspr4 of the suite wants a newer C library than this system may have; this system's own does.
packages=(libnss3 libbcprov-java libbcutil-java libbcpkix-java)
folder=${1:-$repository/.forky}

[[ -e $folder/complete ]] && exit
command -v apt-get >/dev/null || fail "the packages of $suite come with apt, and there is none here"

say "Fetching from Debian's $suite into $folder: ${packages[*]}"
state=$(mktemp --directory)
trap 'rm -rf -- "$state"' EXIT
mkdir -p "$state"/{lists/partial,cache/archives/partial,sources.list.d} "$folder"

# The machine's own mirror and proxy, with the suite's name changed.
mirror=$(debian_mirror) || fail "the package sources of this system are not Debian's, which has $suite"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$suite" >"$state/sources.list"
options=(
  -o Dir::Etc::SourceList="$state/sources.list"
  -o Dir::Etc::SourceParts="$state/sources.list.d"
  -o Dir::State::Lists="$state/lists"
  -o Dir::Cache="$state/cache"
  -o APT::Sandbox::User=root
  -o APT::Update::Error-Mode=any # without it, a mirror out of reach is but a warning
  -o Acquire::Retries=1
  -o Acquire::http::Timeout=20
)
apt-get "${options[@]}" --quiet update >/dev/null || fail "the package lists of $suite cannot be fetched; see above"
(cd "$state" && apt-get "${options[@]}" --quiet download "${packages[@]/%//$suite}" >/dev/null) ||
  fail "the packages cannot be fetched; see above"
for package in "$state"/*.deb; do
  dpkg --extract "$package" "$folder"
done
touch "$folder/complete"
