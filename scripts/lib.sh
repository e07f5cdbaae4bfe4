# shellcheck shell=bash
# lib.sh - what the scripts share: where the source tree is, how to speak, how to build
#
# Sourced, never run. Expects `set -euo pipefail` from the script that sources it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Bold on a terminal, plain everywhere else (logs, pipes, NO_COLOR).
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
    bold='' red='' green='' plain=''
fi
export bold red green plain

say() { printf '%s\n' "$*"; }
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Print the comment at the top of a script: that is its --help. Stops at the first line of code.
print_help() { sed -n '2,/^[^#]/ { /^#/ s/^# \{0,1\}//p }' "$1"; }

# configure DIR [MESON-OPTION...]: make a build directory, or leave a good one as it is.
# What an interrupted setup left behind is made anew; a directory of another source tree (this one
# was copied or moved) is refused, for building there would build the other tree.
configure() {
    local dir=$1 source
    shift
    if [ -f "$dir/meson-info/meson-info.json" ]; then
        source=$(grep -o '"source": "[^"]*"' "$dir/meson-info/meson-info.json" | cut -d '"' -f 4)
        if [ -n "$source" ] && [ "$source" != "$root" ]; then
            echo "$dir was made for the source tree $source; remove it and try again"
            return 1
        fi
    fi
    if [ -f "$dir/build.ninja" ] && meson introspect --buildoptions "$dir" >/dev/null 2>&1; then
        return 0
    fi
    if [ -f "$dir/meson-private/coredata.dat" ]; then
        meson setup --wipe "$@" "$dir" "$root"
    else
        meson setup "$@" "$dir" "$root"
    fi
}

# quietly LOG COMMAND...: run it; its output appears only when it fails.
quietly() {
    local log=$1 rc=0
    shift
    "$@" >"$log" 2>&1 </dev/null || rc=$?
    if [ "$rc" != 0 ]; then
        tail -n 60 "$log" >&2
        printf '%s: this failed, with status %s: %s\n' "${0##*/}" "$rc" "$*" >&2
    fi
    return "$rc"
}

# forget_tests BUILD-DIR: remove the logs of earlier `meson test` runs, so that none is counted again.
forget_tests() { rm -f "$1"/meson-logs/testlog*.json; }

# count_tests BUILD-DIR: prints "PASSED FAILED SKIPPED" of the `meson test` run since forget_tests.
count_tests() {
    local log
    log=$(find "$1/meson-logs" -name 'testlog*.json' 2>/dev/null | head -n 1) # the name has the wrapper's in it
    if [ -z "$log" ]; then
        echo 0 0 0
        return 0
    fi
    { grep -o '"result": "[A-Z]*"' "$log" || true; } | awk '
        /"OK"|"EXPECTEDFAIL"/ { passed++; next }
        /"SKIP"/              { skipped++; next }
                              { failed++ }
        END                   { print passed + 0, failed + 0, skipped + 0 }'
}
