#!/usr/bin/env bash
# Writes requirements/dev.txt and requirements/run.txt anew: every dependency with its exact version and hashes.
#
#   softhsm/pin.sh [--upgrade]
#
# Reads pyproject.toml. Without --upgrade a version that still fits its range stays. run.txt is what runs
# tokensign, dev.txt adds the extras, the linters and the tests; both hold what builds and installs tokensign itself.

# shellcheck source=softhsm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

need_python
install_needs
make_environment "$repository/requirements/dev.txt"
command -v "$environment/bin/uv" >/dev/null || pip install uv

compile() {
  say "Pinning $1"
  "$environment/bin/uv" pip compile --quiet --universal --python-version "$oldest_python" --generate-hashes \
    --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command softhsm/pin.sh \
    --output-file "$@" pyproject.toml - <<<$'hatchling\neditables'
}

cd "$repository"
compile requirements/dev.txt --group dev --all-extras "$@"
compile requirements/run.txt --constraint requirements/dev.txt
