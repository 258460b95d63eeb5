#!/usr/bin/env bash
# Makes a small system of Debian's coming release with opencryptoki, an HSM in software that the tests use.
#
#   softhsm/opencryptoki.sh [FOLDER]
#
# FOLDER is .forky/opencryptoki unless told; the tests look there. It takes half a minute and 260 MB, and nothing of
# this system changes. Debian and its kin only, as root; safe to repeat; fails where there is no network.

# shellcheck source=softhsm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

suite=forky
include=opencryptoki,libffi8,libexpat1,libsqlite3-0 # after opencryptoki what this system's Python needs in there
folder=${1:-$repository/.forky/opencryptoki}

[[ -e $folder ]] && exit
command -v debootstrap >/dev/null || fail "a system of $suite is made with debootstrap, and there is none here"
((EUID == 0)) || fail "only root can make a system of $suite" "run this as root"
mirror=$(debian_mirror) || fail "the package sources of this system are not Debian's, which has $suite"

say "Making a system of Debian's $suite with opencryptoki in $folder"
unfinished=$folder.unfinished
rm -rf --one-file-system -- "$unfinished"
mkdir -p "$(dirname -- "$folder")"
eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
export http_proxy https_proxy
# What debootstrap mounts is gone with it, also when it fails. All suites are made alike: this one is too young for
# debootstrap to know its name, and sid's script does for it.
unshare --mount debootstrap --variant=minbase --include="$include" "$suite" "$unfinished" "$mirror" \
  /usr/share/debootstrap/scripts/sid >"$folder.log" 2>&1 ||
  fail "the system cannot be made:" "$(tail -n 5 "$folder.log")"
# What the package leaves to systemd: the token's folder belongs to the group that may use it.
chroot "$unfinished" chgrp -R pkcs11 /var/lib/opencryptoki
chroot "$unfinished" chmod -R u=rwX,g=rwX,o= /var/lib/opencryptoki
rm -rf -- "$unfinished"/var/cache/apt/archives/*.deb "$folder.log"
mv -- "$unfinished" "$folder"
