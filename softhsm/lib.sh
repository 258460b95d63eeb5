# shellcheck shell=bash
# What the scripts here share: the system's packages and the virtual environment.
#
#   need ...            notes a program or file that must be there, and the packages that bring it
#   install_needs       installs what of it is missing, or tells how to
#   debian_mirror       prints from where this system has Debian's packages
#   make_environment F  makes .venv with the hash-pinned requirements of file F and tokensign itself

set -euo pipefail

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
environment=$repository/.venv
oldest_python=3.11
missing=() # lines "what|Debian packages|Fedora packages|Homebrew packages"

say() { printf '%s\n' "==> $*"; }

fail() {
  printf '%s\n' "error: $1" "${@:2}" >&2
  exit 1
}

# need WHAT DEBIAN FEDORA HOMEBREW: WHAT is a command, or alternative paths separated by colons.
# A "-" for Homebrew says that it has no such package.
need() {
  local what=$1 path
  if [[ $what != */* ]]; then
    command -v "$what" >/dev/null && return
  else
    local IFS=:
    for path in $what; do [[ -e $path ]] && return; done
  fi
  missing+=("$what|$2|$3|$4")
}

install_needs() {
  ((${#missing[@]})) || return 0
  case $(package_manager) in
    apt) install_with_apt "$(column 2)" ;;
    dnf) refuse_without "sudo dnf install $(column 3)" ;;
    brew) refuse_without "brew install $(column 4)    (what has no package there is to be had from its project)" ;;
    *) refuse_without "(not known for this system; on Debian they are called: $(column 2))" ;;
  esac
  missing=()
}

package_manager() {
  local name
  for name in apt-get dnf brew; do
    command -v "$name" >/dev/null && {
      printf '%s\n' "${name%-get}"
      return
    }
  done
  printf 'none\n'
}

# The packages of one column of what is missing, each once.
column() {
  printf '%s\n' "${missing[@]}" | cut -d '|' -f "$1" | tr ' ' '\n' | grep -vx -e - | sort -u | paste -sd ' ' -
}

refuse_without() {
  fail "these are missing: $(printf '%s\n' "${missing[@]}" | cut -d '|' -f 1 | paste -sd ' ' -)" \
    "install them and run this again:" "  $1"
}

install_with_apt() {
  local packages as_root=()
  read -ra packages <<<"$1"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || refuse_without "apt-get install $1    (as root; there is no sudo here)"
    as_root=(sudo)
    [[ -t 0 && ${CI:-} != true ]] || as_root+=(--non-interactive) # nobody is there to type a password
    "${as_root[@]}" true || refuse_without "sudo apt-get install $1"
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive)
  local install=("${as_root[@]}" apt-get install --yes --quiet --no-install-recommends "${packages[@]}")
  say "Installing packages of this system: $1"
  # The package lists are often there already, and fetching them takes longer than the packages do.
  if ! "${install[@]}" >/dev/null 2>&1 </dev/null; then
    say "Fetching the package lists"
    "${as_root[@]}" apt-get update --quiet >/dev/null </dev/null || fail "apt-get update failed; see above"
    "${install[@]}" >/dev/null </dev/null || fail "apt-get could not install $1; see above"
  fi
}

debian_mirror() {
  local found
  # shellcheck disable=SC2016  # apt's own variable
  found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/\?$' || true)
  [[ $found ]] && printf '%s\n' "$found"
}

# Prints the first Python that is new enough and can make virtual environments; $PYTHON is asked first.
find_python() {
  local name
  for name in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14; do
    if makes_environments "$name"; then
      command -v "$name"
      return
    fi
  done
  return 1
}

makes_environments() {
  "$1" -c "import ensurepip, sys, venv; sys.exit(sys.version_info < (${oldest_python/./, }))" 2>/dev/null
}

need_python() {
  local wanted=${PYTHON:-$(find_python || printf 'python3\n')}
  makes_environments "$wanted" || missing+=("$wanted (with venv)|python3 python3-venv|python3|python@3.13")
}

make_environment() {
  local requirements=$1 stamp wanted python
  stamp=$environment/.installed-$(basename "$requirements" .txt)
  wanted=$(cat "$repository/pyproject.toml" "$requirements" | cksum)
  if [[ -x $environment/bin/tokensign && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    return
  fi
  if ! environment_works; then
    python=$(find_python) || fail "there is no Python $oldest_python or later with its venv module" \
      "install one, such as: $(python_hint)"
    say "Making .venv with $("$python" --version)"
    "$python" -m venv --clear "$environment"
  fi
  say "Installing the pinned dependencies of $(basename "$requirements") into .venv"
  pip install --require-hashes --requirement "$requirements" ||
    fail "pip could not install the dependencies; see above" \
      "without a network they cannot be had; for a rare processor a C and a Rust compiler are needed too"
  say "Installing tokensign into .venv, editable"
  pip install --no-deps --no-build-isolation --editable "$repository" || fail "tokensign could not be installed"
  printf '%s\n' "$wanted" >"$stamp"
}

# A .venv breaks when its Python is upgraded away or the repository is moved.
environment_works() {
  "$environment/bin/python" -c "import sys; sys.exit(sys.version_info < (${oldest_python/./, }))" 2>/dev/null &&
    [[ $(head -n 1 "$environment/bin/pip" 2>/dev/null) == "#!$environment/bin/"* ]]
}

pip() {
  "$environment/bin/python" -m pip --quiet --disable-pip-version-check --no-input "$@"
}

python_hint() {
  case $(package_manager) in
    apt) printf 'apt-get install python3.11-venv\n' ;;
    dnf) printf 'sudo dnf install python3.13\n' ;;
    brew) printf 'brew install python@3.13\n' ;;
    *) printf 'python.org has them for every system\n' ;;
  esac
}
