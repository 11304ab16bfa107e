#!/usr/bin/env bash
# Print the folder of PostgreSQL's programs; install the distribution's packages if there are none.
#
# The database is compose.yaml's; natively it is wanted by one test, which is skipped without it.
# Nothing is started: Debian's own cluster is of no use here.
set -euo pipefail

programs() {
  find /usr/lib/postgresql /usr/pgsql-* -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1 || true
}

if [ -z "$(programs)" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "error: no PostgreSQL; as root: apt-get install postgresql" >&2; exit 2
  fi
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=600 -qq update
  # Runlevel 1 is the one in which packages start no service.
  RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends \
    postgresql >/dev/null
fi
dirname "$(programs)"
