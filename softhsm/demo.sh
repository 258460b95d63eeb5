#!/usr/bin/env bash
# Sets this machine up and shows what tokensign does, on a throw-away SoftHSM token.
#
#   softhsm/demo.sh [options of `tokensign demo`]
#
# Installs SoftHSM from the system's packages (Debian, Ubuntu; on Fedora and macOS it says which are needed)
# and tokensign into .venv here. Safe to repeat; when all is there it starts at once and needs no network.

# shellcheck source=softhsm/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"

need softhsm2-util softhsm2 softhsm softhsm
need_python
install_needs
make_environment "$repository/requirements/run.txt"
exec "$environment/bin/tokensign" demo "$@"
