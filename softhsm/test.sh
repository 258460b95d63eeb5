#!/usr/bin/env bash
# Sets this machine up for the tests and runs all of them: style, types, layers, then pytest with coverage.
#
#   softhsm/test.sh [--full] [options of pytest]
#
# --full adds the long runs (soaks, fuzzing, gigabytes). Options of pytest, such as -k or a folder, narrow the
# run; then coverage is shown but not judged. A whole run writes docs/interop.md and docs/modules.md anew and
# prints the latter, the table of what each module can do. Safe to repeat; when all is there it needs no network.
# What fails is run once more, alone; only what fails again fails the run.
# What of Debian's coming release cannot be had is left out, and the tests that need it are skipped by name. After a
# whole run half a minute of fuzzing (with --full ten).

# shellcheck source=softhsm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

spy=/usr/lib/x86_64-linux-gnu/pkcs11-spy.so
spy+=:/usr/lib/x86_64-linux-gnu/pkcs11/pkcs11-spy.so:/usr/lib/aarch64-linux-gnu/pkcs11-spy.so
spy+=:/usr/lib64/pkcs11-spy.so:/usr/lib64/pkcs11/pkcs11-spy.so:/opt/homebrew/lib/pkcs11-spy.so:/usr/local/lib/pkcs11-spy.so
engine=/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so:/usr/lib/aarch64-linux-gnu/engines-3/pkcs11.so
engine+=:/usr/lib64/engines-3/pkcs11.so:/opt/homebrew/lib/engines-3/pkcs11.dylib
java=${BOUNCY_CASTLE_JARS:-/usr/share/java} # set it where the jars are not a package of the system

need softhsm2-util softhsm2 softhsm softhsm
need pkcs11-tool opensc opensc opensc
need "$spy" opensc-pkcs11 opensc opensc
need openssl openssl openssl openssl@3
need "$engine" libengine-pkcs11-openssl openssl-pkcs11 libp11
need gpgsm gpgsm gnupg2-smime gnupg
need dirmngr dirmngr gnupg2 gnupg
need cmsutil libnss3-tools nss-tools nss
need javac default-jdk-headless java-latest-openjdk-devel openjdk
need "$java/bcprov.jar" libbcprov-java bouncycastle -
need "$java/bcutil.jar" libbcutil-java bouncycastle-util -
need "$java/bcpkix.jar" libbcpkix-java bouncycastle-pkix -
need "$java/bcmail.jar" libbcmail-java bouncycastle-mail -
need "$java/javax.mail.jar" libmail-java javamail -
need gpg gpg gnupg2 gnupg
need mutt mutt mutt mutt
need pinentry-tty pinentry-tty pinentry pinentry
need pinentry-curses pinentry-curses pinentry pinentry
need dbus-daemon dbus-daemon dbus-daemon dbus
need gnome-keyring-daemon gnome-keyring gnome-keyring -
need cc gcc gcc gcc
need pkg-config pkg-config pkgconf pkgconf
need /usr/include/p11-kit-1/p11-kit/pkcs11.h:/opt/homebrew/include/p11-kit-1/p11-kit/pkcs11.h libp11-kit-dev p11-kit-devel p11-kit
need shellcheck shellcheck ShellCheck shellcheck
if [[ $(package_manager) == apt ]]; then # tests/modules and servers; elsewhere what is not there is skipped by name
  need /usr/sbin/pcscd pcscd - -
  need /usr/lib/pcsc/drivers/serial/libifdvpcd.so vsmartcard-vpcd - -
  need "/usr/lib/$(uname -m)-linux-gnu/opensc-pkcs11.so" opensc-pkcs11 - -
  need "/usr/lib/$(uname -m)-linux-gnu/p11-kit-proxy.so" p11-kit-modules - -
  need swtpm swtpm - -
  need dbus-daemon dbus-daemon - -
  need tpm2-abrmd tpm2-abrmd - -
  need "/usr/lib/$(uname -m)-linux-gnu/libtss2-tcti-tabrmd.so.0" libtss2-tcti-tabrmd0 - -
  need "/usr/lib/$(uname -m)-linux-gnu/libtss2-tcti-swtpm.so.0" libtss2-tcti-swtpm0 - -
  need "/usr/lib/$(uname -m)-linux-gnu/pkcs11/libtpm2_pkcs11.so" libtpm2-pkcs11-1 - -
  need tpm2_ptool libtpm2-pkcs11-tools - -
  need tpm2_dictionarylockout tpm2-tools - -
  need /usr/sbin/debootstrap debootstrap - -
  need /usr/sbin/postfix postfix - - # tests/mail, each with a configuration, queue and ports of its own
  need /usr/sbin/dovecot dovecot-core - -
  need /usr/lib/dovecot/imap dovecot-imapd - -
  need /usr/lib/dovecot/lmtp dovecot-lmtpd - -
  need /usr/lib/dovecot/modules/lib90_sieve_plugin.so dovecot-sieve - -
  need /usr/sbin/nsd nsd - - # tests/contacts: SMIMEA records in signed zones
  need ldns-signzone ldnsutils - -
  need pg_ctlcluster postgresql - - # each process of the tests starts a server of its own
fi
need_python
install_needs
make_environment "$repository/requirements/dev.txt"
"$repository/softhsm/forky.sh" || say "So post-quantum cryptography is tested without a token and without a peer"
"$repository/softhsm/opencryptoki.sh" || say "So the tests of the module opencryptoki are skipped"

# Coverage-guided, where there is a build of atheris for this machine. What it finds is left in build/fuzz.
fuzz() {
  python -c "import atheris" 2>/dev/null || {
    say "No fuzzing: atheris is not installed"
    return
  }
  say "fuzz, $fuzz_seconds seconds"
  mkdir -p build/fuzz
  (cd build/fuzz &&
    TMPDIR=$PWD PYTHONPATH=$repository python -m fuzz.read_message "-max_total_time=$fuzz_seconds" -timeout=5 -verbosity=0)
}

# What failed, once more and alone: tests of faults and deadlines have other tests beside them on the same two cores.
# Only what fails again fails the run; what does not is unsteady, and stands above.
again() {
  local code=$?
  ((code == 1)) || return "$code"
  say "once more, alone: what failed"
  pytest --last-failed --last-failed-no-failures none --no-cov "${full[@]}" "$@"
}

fuzz_seconds=30
full=()
options=(--numprocesses 2 --maxschedchunk 2 --cov)
if [[ ${1-} == --full ]]; then
  shift
  full=(--full)
  options+=(--full)
  fuzz_seconds=600
fi
results=$(mktemp)
trap 'rm -f "$results"' EXIT
if (($#)); then
  options+=(--cov-fail-under=0)
else
  options+=(--junitxml="$results" -o junit_family=xunit1) # properties, which the two tables are made of
fi

cd "$repository"
PATH=$environment/bin:$PATH
say "shellcheck" && shellcheck --external-sources softhsm/*.sh .ci/run
say "ruff check" && ruff check
say "ruff format" && ruff format --check
say "mypy" && mypy
say "import-linter" && lint-imports
say "sphinx" && sphinx-build -q -W --keep-going docs build/docs
say "pytest"
pytest "${options[@]}" "$@" || again "$@"
(($#)) || fuzz
(($#)) || python tests/interop/write_table.py "$results" docs/interop.md
(($#)) || python tests/modules/write_table.py "$results" docs/modules.md
