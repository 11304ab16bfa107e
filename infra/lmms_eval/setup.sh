#!/usr/bin/env bash
# Build the environment that lmms-eval runs in, apart from the project's own because of its pins.
#
#   bash infra/lmms_eval/setup.sh [FOLDER]     default: $DUALVLA_LMMS_EVAL or .dualvla/lmms-eval
#
# Nothing is done where it stands already with these pins. The stamp is written last, so that an
# interrupted build is started over; two builds at the same time wait for each other. PYTHON names
# another interpreter than python3.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-${DUALVLA_LMMS_EVAL:-$here/../../.dualvla/lmms-eval}}
pins=$(cat "$here/requirements.txt" "$here/constraints.txt" | sha256sum | cut -d' ' -f1)
works() {
  "$folder/bin/python" -P -c 'from importlib.metadata import version as v
v("lmms-eval"), v("torch"), v("datasets")' 2>/dev/null
}

mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
if [ "$(cat "$folder/.ready" 2>/dev/null || true)" = "$pins" ] && works; then exit 0; fi
if [ -n "$(ls -A "$folder" 2>/dev/null || true)" ] && [ ! -f "$folder/pyvenv.cfg" ]; then
  echo "error: $folder: it is there and no virtual environment -> name another folder" >&2
  exit 2
fi

rm -f "$folder/.ready"
"${PYTHON:-python3}" -m venv --clear "$folder"
# Compiled when first imported: a third of the time to install, and most of it never is.
pip=("$folder/bin/python" -m pip install -q --no-compile --disable-pip-version-check)
pip+=(-c "$here/constraints.txt")
"${pip[@]}" -r "$here/requirements.txt"
# Without its own list of dependencies: see requirements.txt.
"${pip[@]}" --no-deps lmms-eval
"$folder/bin/python" -P -c 'import lmms_eval.evaluator'
echo "$pins" >"$folder/.ready"
