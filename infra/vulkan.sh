#!/usr/bin/env bash
# Give this machine a Vulkan device that SAPIEN 3 accepts.
#
# SAPIEN needs descriptorBindingPartiallyBound. Debian 12's own Mesa (22.3) lacks it, so there the
# software driver comes from the backports suite of the mirror that apt already uses; Debian 13 and
# Ubuntu 24.04 ship a new enough Mesa. A machine with a vendor driver keeps it: nothing is installed
# when one real frame can be rendered already.
set -euo pipefail

python=${1:?usage: infra/vulkan.sh PYTHON}
probe() { "$python" -m dualvla.simulation.vulkan >/dev/null 2>&1; }

if probe; then exit 0; fi

packages="mesa-vulkan-drivers libvulkan1 libegl1 libgl1 libglib2.0-0"
advice="no usable Vulkan device: install a GPU driver, or Mesa 24 or newer ($packages)"
if ! command -v apt-get >/dev/null; then echo "error: $advice" >&2; exit 2; fi
sudo=""
if [ "$(id -u)" != 0 ]; then
  if sudo -n true 2>/dev/null; then sudo="sudo"; else
    echo "error: $advice; as root: apt-get install $packages" >&2; exit 2
  fi
fi

. /etc/os-release
# Ubuntu 24.04+ and Debian 13 renamed the GLib package for 64-bit time.
export DEBIAN_FRONTEND=noninteractive
target=()
if [ "${ID:-}" = debian ] && [ "${VERSION_CODENAME:-}" = bookworm ]; then
  mirror=$(apt-get indextargets --format '$(SITE)' 'Codename: bookworm' 'Created-By: Packages' | head -n 1)
  suite=bookworm-backports
  if [ -z "$mirror" ]; then
    echo "error: apt names no mirror of bookworm to take $suite from; $advice" >&2; exit 2
  fi
  if ! apt-cache policy | grep -q "$suite"; then
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" |
      $sudo tee /etc/apt/sources.list.d/dualvla-backports.list >/dev/null
  fi
  target=(-t "$suite")
fi
$sudo apt-get -o DPkg::Lock::Timeout=600 -qq update
glib=libglib2.0-0
apt-cache show libglib2.0-0t64 >/dev/null 2>&1 && glib=libglib2.0-0t64
$sudo apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends libvulkan1 libegl1 libgl1 "$glib" >/dev/null
$sudo apt-get -o DPkg::Lock::Timeout=600 -qq install -y --no-install-recommends "${target[@]}" mesa-vulkan-drivers >/dev/null
if ! probe; then echo "error: Mesa was installed, but still $advice" >&2; exit 2; fi
