# shellcheck shell=bash
# Sourced by every script in ci/: strict mode, the root as working directory, and the few words the scripts share.

set -euo pipefail

root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
cd -- "$root"

# Tools that ci/setup had to build live here, so that a check never changes the user's own installation.
tools="$root/.cargo-tools"
export PATH="$tools/bin:$PATH"

me=$(basename -- "$0")

# One place for the versions: what the library crates promise to build with, and what ci/setup builds.
msrv=1.85.0
hack_version=0.6.46
deny_version=0.20.2
mutants_version=27.1.0

# The toolchain that has Miri. What it prints is not part of any check, so its day does not matter.
nightly=nightly

# The crates that promise the minimum version, and those of them that build without std.
libraries=(mm-types migrate-core backend-x86_64 backend-user)
no_std_targets=(x86_64-unknown-none thumbv7m-none-eabi)

# ci/run tells "could not be done here" from "done, and wrong" by this exit code.
left_out_code=77

say() { printf '%s: %s\n' "$me" "$*"; }

# ci/run repeats notes in its summary: they say what a passing check did not look at.
note() { printf '%s: note: %s\n' "$me" "$*"; }

die() {
    printf '%s: error: %s\n' "$me" "$*" >&2
    exit 1
}

left_out() {
    printf '%s: left out: %s\n' "$me" "$*" >&2
    exit "$left_out_code"
}

run() {
    printf '+ %s\n' "$*"
    "$@"
}

have() { command -v "$1" >/dev/null 2>&1; }

# Installs a package of the system, where that may be done here.
system_package() {
    local as_root=()
    ((EUID == 0)) || as_root=(sudo -n)
    have apt-get || return 1
    ((EUID == 0)) || { have sudo && sudo -n true 2>/dev/null; } || return 1
    run "${as_root[@]}" apt-get update -qq &&
        run "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$1"
}
