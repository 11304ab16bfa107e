#!/usr/bin/env bash
# Build the environment in which the original simpler_env runs: infra/simpler/build.sh [FOLDER]
#
# What PyPI has comes from there, pinned (requirements.txt). simpler_env and its simulator are not on
# PyPI; say where they are, each a checkout or an address that git can clone, `@REVISION` behind it:
#   SIMPLER_SOURCE        SimplerEnv (its ManiSkill2_real2sim folder serves as the simulator if it is
#                         there, as in a checkout with submodules)
#   REAL2SIM_SOURCE       ManiSkill2_real2sim, where the former does not hold it
# Both are installed in place, because the meshes and photos lie inside ManiSkill2_real2sim/data.
# FOLDER is .simpler unless given; SIMPLER_PYTHON the interpreter (3.11: sapien 2.2.2 has no
# wheel for later ones). A GPU with Vulkan is needed to render; building needs none.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$(dirname "$(dirname "$here")")/.simpler}
python=${SIMPLER_PYTHON:-python3}
refuse() { echo "error: $1 -> $2" >&2; exit 2; }

[ -n "${SIMPLER_SOURCE:-}" ] || refuse "SIMPLER_SOURCE is not set" \
  "set it to a checkout of SimplerEnv, or to an address that git can clone"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
  refuse "no interpreter $python" "set SIMPLER_PYTHON"
[ "$version" = 3.11 ] ||
  refuse "Python $version: sapien 2.2.2 and these pins need 3.11" "set SIMPLER_PYTHON"

# A checkout as it is; an address is cloned once, at the revision behind its last @.
fetch() {
  local source=$1 name=$2 revision=""
  if [ -d "$source" ]; then (cd "$source" && pwd); return; fi
  case ${source##*@} in "$source"|*/*) ;; *) revision=${source##*@}; source=${source%@*} ;; esac
  case $source in *://*|*.git) ;; *) refuse "no such folder: $source" "mend ${3}" ;; esac
  if [ ! -d "$folder/src/$name" ]; then
    mkdir -p "$folder/src"
    rm -rf "$folder/src/$name.part"
    git clone -q --recurse-submodules "$source" "$folder/src/$name.part" >&2 ||
      refuse "git cannot clone $source" "mend ${3}, or give a checkout"
    if [ -n "$revision" ]; then
      git -C "$folder/src/$name.part" checkout -q --recurse-submodules "$revision" >&2 ||
        refuse "no revision $revision in $source" "mend ${3}"
    fi
    mv "$folder/src/$name.part" "$folder/src/$name"
  fi
  echo "$folder/src/$name"
}

simpler=$(fetch "$SIMPLER_SOURCE" SimplerEnv SIMPLER_SOURCE)
[ -d "$simpler/simpler_env" ] || refuse "$simpler holds no simpler_env" "mend SIMPLER_SOURCE"
if [ -n "${REAL2SIM_SOURCE:-}" ]; then
  real2sim=$(fetch "$REAL2SIM_SOURCE" ManiSkill2_real2sim REAL2SIM_SOURCE)
else
  real2sim=$simpler/ManiSkill2_real2sim
fi
[ -d "$real2sim/mani_skill2_real2sim" ] ||
  refuse "$real2sim holds no mani_skill2_real2sim" "set REAL2SIM_SOURCE, or check the submodules out"
[ -d "$real2sim/data" ] || refuse "$real2sim holds no data folder" "take a full checkout"

rm -f "$folder/ready"
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
"$folder/bin/python" -m pip install -q --disable-pip-version-check -r "$here/requirements.txt"
"$folder/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation \
  -e "$real2sim" -e "$simpler"
(cd "$real2sim/data" && pwd) >"$folder/assets"
MS2_ASSET_DIR=$(cat "$folder/assets") "$folder/bin/python" -c 'import simpler_env, sapien.core' ||
  refuse "simpler_env does not import" "read the lines above"
touch "$folder/ready"
echo "$folder is ready"
