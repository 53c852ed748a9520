#!/usr/bin/env bash
# Runs the tests of products with cooperative matrices on a driver that has them, on any Debian or Ubuntu computer.
#
#   tests/gpu/cooperative.sh [DIRECTORY]
#
# Mesa's software Vulkan driver multiplies cooperative matrices from version 26 on, but that version is newer than stable
# distributions are and needs a newer C library. So it is put into a directory of its own (by default one under
# ${XDG_CACHE_HOME:-~/.cache}; about 300 MB; it is kept, and found there the next time) with all it depends on, down to the
# C library, and the tests are started by the program loader in there. Nothing is installed: neither rights of an
# administrator nor the computer's own packages are touched. apt-get and dpkg must be there, and the network the first time.
#
# ADAMIX_TEST_BINARY names a test program to run instead of building `cargo test --features testing --test engine`.
#
# Fails if a test fails, and if the driver offers no cooperative matrices, in which case the tests would have tested nothing.
set -euo pipefail

prefix=$(realpath -m "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/adamix-mesa}")
root=$prefix/root
mirror=${ADAMIX_DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=trixie

fetch() {
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keys" ] || { echo "$keys is missing: install debian-archive-keyring" >&2; exit 1; }
    rm -rf "$prefix/apt" "$root"
    mkdir -p "$prefix"/apt/{etc/preferences.d,etc/apt.conf.d,state/lists/partial,cache/archives/partial} "$root"
    # An empty list of installed packages: everything that is depended on is fetched.
    : >"$prefix/apt/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$suite" "$keys" "$mirror" "$suite-backports" \
        >"$prefix/apt/etc/sources.list"
    local apt=(apt-get -q -o "Dir::Etc=$prefix/apt/etc" -o "Dir::State=$prefix/apt/state"
        -o "Dir::State::status=$prefix/apt/status" -o "Dir::Cache=$prefix/apt/cache" -o APT::Install-Recommends=false
        -o APT::Sandbox::User= -o Debug::NoLocking=1 -o Acquire::Languages=none)
    "${apt[@]}" update
    "${apt[@]}" -y --download-only -t "$suite-backports" install mesa-vulkan-drivers libvulkan1 libgcc-s1
    local package
    for package in "$prefix"/apt/cache/archives/*.deb; do
        dpkg -x "$package" "$root"
    done
    rm -rf "$prefix/apt"
    # The file that tells where the driver is names a place that is not there on this computer.
    local library
    library=$(find "$root" -name libvulkan_lvp.so -print -quit)
    [ -n "$library" ] || { echo "the packages hold no software driver" >&2; exit 1; }
    printf '{"ICD": {"api_version": "1.4.0", "library_path": "%s"}, "file_format_version": "1.0.1"}\n' "$library" \
        >"$prefix/driver.json"
}

[ -e "$prefix/driver.json" ] || fetch

loader=$(find "$root" -name 'ld-linux*.so.*' -print -quit)
libraries=$(find "$root" -name '*.so*' -printf '%h\n' | sort -u | paste -s -d :)

binary=${ADAMIX_TEST_BINARY:-}
if [ -z "$binary" ]; then
    cd "$(dirname "$0")/../.."
    binary=$(cargo test --features testing --test engine --no-run 2>&1 | tee /dev/stderr |
        sed -n 's/^ *Executable .*(\(.*\))$/\1/p' | tail -n 1)
    [ -n "$binary" ] || { echo "cargo built no test program" >&2; exit 1; }
fi

# Tests that find no cooperative matrices pass, unless this variable is set.
export ADAMIX_TEST_COOPERATIVE=1
export VK_DRIVER_FILES=$prefix/driver.json VK_ICD_FILENAMES=$prefix/driver.json
"$loader" --library-path "$libraries" "$binary" gpu::cooperative --nocapture
