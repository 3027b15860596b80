# shellcheck shell=bash
# Sourced by ci/loom and ci/shuttle: shows that searches find bugs, each on a system that has one of the museum's.

# Reads lines of BUG SEARCH..., lets each search look for the bug, and fails where one passes. `kind` is the cfg of the build.
bite() { # KIND TEST
    local kind=$1 test=$2 target="$root/target/museum/$1" binary bug searches search found listed missed=0
    local -A seen=()
    local build=(--locked --quiet --profile explore --no-run --message-format=json --package migrate-core --test "$test")
    say "building the searches with the museum's bugs in them"
    binary=$(RUSTFLAGS="--cfg museum --cfg $kind" cargo test "${build[@]}" --target-dir "$target" \
        --config 'profile.explore.package."*".opt-level=1' |
        sed -nE 's/.*"kind":\["test"\].*"executable":"([^"]*)".*/\1/p' | tail -n 1)
    [[ -x $binary ]] || die "the searches were not built"
    listed=$("$binary" --list | sed -n 's/: test$//p')

    while read -r bug searches; do
        for search in $searches; do
            grep -qx "$search" <<<"$listed" || die "no search has the name $search"
            # What fails ends there: it need not be made shorter. A search that is killed at its first word has said enough.
            found=$({ MUSEUM=$bug RUST_BACKTRACE=0 timeout 300 "$binary" --exact "$search" --nocapture 2>&1 |
                grep -m 1 -oE 'FAILED (at schedule|in execution) [0-9]+'; } 2>/dev/null || true)
            printf '%-5s %-40s %s\n' "$bug" "$search" "${found:-NOT FOUND}"
            if [[ -n $found ]]; then seen[$search]=1; else missed=$((missed + 1)); fi
        done
    done
    local never=()
    for search in $listed; do [[ -n ${seen[$search]:-} ]] || never+=("$search"); done
    printf 'proof: %s bite searches=%d seen_to_fail=%d missed=%d\n' "$kind" "$(wc -l <<<"$listed")" "${#seen[@]}" "$missed"
    ((${#never[@]} == 0)) || note "not seen to fail: ${never[*]}"
    ((missed == 0)) || die "a bug was not found"
}
