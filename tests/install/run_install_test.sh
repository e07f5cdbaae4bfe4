#!/usr/bin/env bash
# run_install_test.sh - is an installed troupe usable as the README says?
#
# usage: run_install_test.sh [PREFIX]
#
#   PREFIX   where troupe is installed (meson setup --prefix); without it, troupe is built and
#            installed into a temporary directory
#
# Prints one line a check and "N passed, N failed"; exits 1 if any failed. Needs meson, ninja,
# pkg-config, a C and a C++ compiler (CC and CXX name others), binutils. Writes only to a temporary
# directory.

set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$work/log
: "${CC:=cc}" "${CXX:=c++}"
passed=0
failed=0

case ${1:-} in
-h | --help)
    sed -n '2,/^[^#]/ { /^#/ s/^# \{0,1\}//p }' "$0"
    exit 0
    ;;
esac

check() { # NAME FUNCTION [ARGUMENT...]
    local name=$1
    shift
    if "$@" >"$log" 2>&1 </dev/null; then
        printf 'ok   %s\n' "$name"
        passed=$((passed + 1))
    else
        printf 'FAIL %s\n' "$name"
        tail -n 40 "$log" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

if [ $# -gt 0 ]; then
    prefix=$(cd "$1" && pwd) || exit 1
else
    prefix=$work/prefix
    echo "installing troupe into a temporary directory ..."
    if ! { meson setup "$work/build" "$root" --prefix="$prefix" -Dtests=disabled -Dexamples=false \
        -Dbench=false && meson install -C "$work/build"; } >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log"
        echo "troupe could not be installed"
        exit 1
    fi
fi

pc=$(find "$prefix" -name troupe.pc | head -n 1)
shared=$(find "$prefix" -name libtroupe.so | head -n 1)
static=$(find "$prefix" -name libtroupe.a | head -n 1)
for file in "$pc" "$shared" "$static"; do
    if [ -z "$file" ]; then
        echo "$prefix does not hold troupe.pc, libtroupe.so and libtroupe.a"
        exit 1
    fi
done
export PKG_CONFIG_PATH=${pc%/*}
export LD_LIBRARY_PATH=${shared%/*}
mkdir "$work/static-only"
cp "$static" "$work/static-only/"

warnings=(-Wall -Wextra -Wpedantic -Werror)

flags() { # [--static]: into the array `flags`
    read -ra flags < <(pkg-config "$@" --cflags --libs troupe)
}
prints_5050() {
    local got
    got=$(timeout 60 "$1") || { echo "exit status $?"; return 1; }
    [ "$got" = 5050 ] || { echo "wanted 5050, got: $got"; return 1; }
}
needs_library() { readelf -d "$1" | grep NEEDED | grep -q libtroupe; }

uses_shared() { # STANDARD
    flags && "$CC" "-std=$1" -O2 "${warnings[@]}" "$here/program.c" -o "$work/shared" "${flags[@]}" &&
        prints_5050 "$work/shared" && needs_library "$work/shared"
}

# The linker takes the first libtroupe it meets: the one beside which there is no shared one.
uses_static() {
    flags --static &&
        "$CC" -std=c11 "${warnings[@]}" "$here/program.c" -o "$work/static" -L"$work/static-only" "${flags[@]}" &&
        LD_LIBRARY_PATH='' prints_5050 "$work/static" && ! needs_library "$work/static"
}

uses_cxx() { # STANDARD [FLAG...]
    local standard=$1
    shift
    flags && "$CXX" "-std=$standard" "$@" -O2 "${warnings[@]}" "$here/program.cc" -o "$work/cxx" "${flags[@]}" &&
        prints_5050 "$work/cxx"
}

uses_subproject() {
    mkdir -p "$work/user/subprojects" && cp "$here/program.c" "$here/subproject/meson.build" "$work/user" &&
        ln -s "$root" "$work/user/subprojects/troupe" &&
        PKG_CONFIG_PATH='' meson setup --wrap-mode=forcefallback "$work/user/build" "$work/user" &&
        meson compile -C "$work/user/build" &&
        LD_LIBRARY_PATH='' prints_5050 "$work/user/build/program"
}

# The command, from elsewhere and without the library's path: a verb's help, its manual, and that it runs something.
has_command() {
    local troupe=$prefix/bin/troupe manual
    [ -x "$troupe" ] || { echo "$troupe is not there"; return 1; }
    (cd / && LD_LIBRARY_PATH='' "$troupe" --version && LD_LIBRARY_PATH='' "$troupe" simulate --help) || return 1
    manual=$(find "$prefix" -name 'troupe.1*')
    [ -n "$manual" ] || { echo 'no manual page'; return 1; }
    flags && "$CC" -O2 "$here/program.c" -o "$work/shared" "${flags[@]}" &&
        "$troupe" simulate --seeds 3 --check-hash -- "$work/shared"
}

headers() { (cd "$prefix/include" && find troupe -name '*.h' | sort); }

header_stands_alone() { # HEADER COMPILER EXTENSION STANDARD...
    local header=$1 compiler=$2 extension=$3 standard
    shift 3
    printf '#include <%s>\n#include <%s>\nint here;\n' "$header" "$header" >"$work/alone.$extension"
    for standard in "$@"; do
        "$compiler" "-std=$standard" "${warnings[@]}" -fsyntax-only -I"$prefix/include" "$work/alone.$extension" ||
            { echo "$compiler -std=$standard"; return 1; }
    done
}
headers_stand_alone() { # COMPILER EXTENSION STANDARD...
    local header n=0
    while read -r header; do
        header_stands_alone "$header" "$@" || { echo "$header"; return 1; }
        n=$((n + 1))
    done < <(headers)
    [ "$n" -gt 0 ] || { echo "no headers in $prefix/include"; return 1; }
}

exports_only() { # PATTERN FILE NM-OPTION...
    local pattern=$1 file=$2 all bad
    shift 2
    all=$(nm --defined-only --format=posix "$@" "$file" | awk 'NF > 1 { print $1 }') || return 1
    bad=$(grep -v -E "$pattern" <<<"$all")
    [ -z "$bad" ] || { echo "other names:"; echo "$bad"; return 1; }
    [ -n "$all" ] || { echo "nothing is exported"; return 1; }
}

has_soname() {
    readelf -d "$shared" | grep -q 'SONAME.*\[libtroupe\.so\.[0-9]*\]' || { readelf -d "$shared"; return 1; }
}

# The blocks of C in a document, in their order, are a program; the first `$ ... ./name` says how it is
# run, and the lines behind it are what it prints.
tells_the_truth() { # DOCUMENT
    awk '/^```c$/ { on = 1; next } /^```/ { on = 0 } on' "$root/$1" >"$work/told.c"
    awk '/^\$ .*\.\/[a-z]+$/ && !on { on = 1; next } on && /^(```|$|\$)/ { exit } on' "$root/$1" >"$work/wanted"
    if [ ! -s "$work/told.c" ] || [ ! -s "$work/wanted" ]; then
        echo "no program or no output found in $1"
        return 1
    fi
    flags && "$CC" "${warnings[@]}" -Wno-unused-parameter "$work/told.c" -o "$work/told" "${flags[@]}" &&
        timeout 60 "$work/told" >"$work/got" && diff -u "$work/wanted" "$work/got"
}

check 'C11 program, shared library, flags from pkg-config' uses_shared c11
check 'GNU C17 program, shared library' uses_shared gnu17
check 'C11 program, static library, flags from pkg-config --static' uses_static
check 'C++17 program' uses_cxx c++17
check 'C++20 program, fields by name' uses_cxx c++20 -DTROUPE_DESIGNATED
check 'meson subproject, unchanged' uses_subproject
check 'the command simulates a program' has_command
check "each header alone in C, $CC" headers_stand_alone "$CC" c c11 gnu11 c17
check "each header alone in C++, $CXX" headers_stand_alone "$CXX" cc c++17 c++20
if [ "$CC" != clang ] && command -v clang >/dev/null && command -v clang++ >/dev/null; then
    check 'each header alone in C, clang' headers_stand_alone clang c c11 gnu11 c17
    check 'each header alone in C++, clang++' headers_stand_alone clang++ cc c++17 c++20
fi
check 'the shared library exports troupe_* only' exports_only '^troupe_' "$shared" -D
check 'the static library has no names but troupe_* and trp_*' exports_only '^(troupe|trp)_' "$static" -g
check 'the shared library has a versioned name' has_soname
check 'the program in README.md prints what it says there' tells_the_truth README.md
check 'the program in docs/guide.md prints what it says there' tells_the_truth docs/guide.md

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
