#!/usr/bin/env bash
# Builds PJSIP from source, for pjsip-sys and for the tests that call with PJSIP's own programs. Returns at once when
# it is built already. Needs what `scripts/setup.sh test` installs, and the network the first time.
#
# usage: vendor/pjproject.sh [--variant plain | asan | shared] [--where]
#   --variant asan    instead of the plain build one with AddressSanitizer, in a folder of its own
#   --variant shared  one whose libraries are shared ones, likewise
#   --where           only prints the folder that it was installed to; fails if it is not there
#
#   SIPWS_PJPROJECT_CACHE  where all of it lies, instead of vendor/pjproject; for a build machine that keeps a folder
#                          between its runs. Once built there, it must stay at that path: its makefiles and its .pc
#                          file name it.
#
# Leaves there: src/ (the built source tree, programs in pjsip-apps/bin), install/ (headers, libraries, .pc file),
# build.log; asan/ and shared/ with the same three; download/ (the source archive), which they have in common.
set -euo pipefail
vendor=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { printf 'pjproject: %s\n' "$*" >&2; }
die() { printf 'pjproject: %s\n' "$@" >&2; exit 1; }

# again COMMAND...: three tries, with a pause between them, since mirrors have bad minutes.
again() {
    local try
    for try in 1 2 3; do
        "$@" && return
        ((try < 3)) && say "$1 failed; trying again in $((try * 10)) s" && sleep $((try * 10))
    done
    return 1
}

# What this machine's apt uses, one a line: keyring (or -), URI, suite, components with commas. In apt's files an entry
# is one line, or (deb822) a paragraph of fields.
mirrors() {
    local name
    for name in "$apt_etc"/sources.list "$apt_etc"/sources.list.d/*.list; do
        [[ ! -r $name ]] || awk '
            $1 == "deb" || $1 == "deb-src" {
                keyring = "-"
                at = 2
                if ($2 ~ /^\[/) {
                    for (; at <= NF; at++) {
                        option = $at
                        gsub(/^\[|\]$/, "", option)
                        if (sub(/^signed-by=/, "", option)) keyring = option
                        if ($at ~ /\]$/) break
                    }
                    at++
                }
                components = ""
                for (i = at + 2; i <= NF && $i !~ /^#/; i++) components = components "," $i
                print keyring, $at, $(at + 1), components ","
            }' "$name"
    done
    for name in "$apt_etc"/sources.list.d/*.sources; do
        [[ ! -r $name ]] || awk '
            function flush(  i, j, uri, uris, suite, suites, components) {
                uris = split(field["uris"], uri)
                suites = split(field["suites"], suite)
                components = field["components"] " "
                gsub(/[ \t]+/, ",", components)
                if (field["types"] ~ /deb/ && tolower(field["enabled"]) !~ /no|false|off|0/)
                    for (i = 1; i <= uris; i++) for (j = 1; j <= suites; j++)
                        # A key may stand in the field itself; it is then one for apt to find by its own ways.
                        print (field["signed-by"] ~ /^ *\// ? field["signed-by"] : "-"), uri[i], suite[j], components
                delete field
            }
            /^#/ { next }
            /^[ \t]*$/ { flush(); next }
            /^[^ \t]/ { name = tolower($0); sub(/:.*/, "", name); sub(/^[^:]*:/, "") }
            { field[name] = field[name] " " $0 }
            END { flush() }' "$name"
    done
}

# Those that have Debian itself: with the component main of this release or of a suite that only moves. Updates, the
# security archive and third parties call their suites otherwise.
debian_mirrors() {
    local release=
    if grep -qx 'ID=debian' /etc/os-release; then
        release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    fi
    mirrors | awk -v release="$release" '
        $2 ~ /^cdrom:/ || $4 !~ /,main,/ || seen[$2] { next }
        $3 ~ /^((old)*stable|testing|unstable|sid)$/ || (release != "" && $3 == release) {
            seen[$2] = 1
            print $1, $2
        }'
}

# apt with SUITE's package lists in a folder of their own: the machine's own lists and settings stay as they are.
apt_get() {
    apt-get -q -y -o Dir::Etc::sourcelist="$work/source.list" -o Dir::Etc::sourceparts=- -o Dir::State::Lists="$work/lists" \
        -o Dir::Cache="$work/cache" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 \
        -o Acquire::http::Timeout=60 -o Acquire::https::Timeout=60 "$@" </dev/null >>"$log" 2>&1
}

# from_debian SUITE MIRROR KEYRING: apt checks the signature of the suite and the checksum of each file under it.
from_debian() {
    local suite=$1 mirror=$2 keyring=$3 archive option=
    if [[ $keyring == - && -r $debian_keyring ]]; then
        keyring=$debian_keyring
    fi
    [[ $keyring == - ]] || option="[signed-by=$keyring] "
    say "looking for it in Debian $suite"
    rm -rf "$work"
    mkdir -p "$work"/{lists,cache,files}/partial
    printf 'deb-src %s%s %s main\n' "$option" "$mirror" "$suite" >"$work/source.list"
    again apt_get update -o APT::Update::Error-Mode=any || { say "apt has no package lists of $suite"; return 1; }
    (cd "$work/files" && again apt_get source --download-only asterisk) || { say "apt has no asterisk in $suite"; return 1; }
    archive=$(compgen -G "$work/files/asterisk_*.orig-Xpjproject.tar.*" | head -n 1) ||
        { say "asterisk in $suite comes without pjproject"; return 1; }
    keep "$archive" "Debian $suite, ${archive##*/}"
}

from_upstream() {
    say "taking upstream's tag $tag"
    rm -rf "$work"
    mkdir -p "$work"
    again clone || { say "$upstream is not to be had"; return 1; }
    local found
    found=$(git -C "$work/tree" rev-parse HEAD) || return 1
    [[ $found == "$commit" ]] || { say "upstream's tag $tag is commit $found, not $commit: refused"; return 1; }
    git -C "$work/tree" archive --format=tar --prefix=pjproject/ -o "$work/pjproject.tar" HEAD || return 1
    keep "$work/pjproject.tar" "upstream's tag $tag, commit $commit"
}

clone() {
    rm -rf "$work/tree"
    timeout 600 git -c advice.detachedHead=false clone -q --depth 1 --branch "$tag" "$upstream" "$work/tree" </dev/null >>"$log" 2>&1
}

# keep ARCHIVE ORIGIN: into download/, if it is new enough.
keep() {
    local archive=$1 origin=$2 version
    version=$(tar -xOf "$archive" --wildcards '*/version.mak' --no-wildcards-match-slash 2>>"$log" | version_of) ||
        { say "$origin has no version.mak"; return 1; }
    [[ $(printf '%s\n' "$minimum" "$version" | sort -V | head -n 1) == "$minimum" ]] ||
        { say "$origin is PJSIP $version; $minimum or newer is needed"; return 1; }
    rm -rf "$download" && mkdir -p "$download" && mv "$archive" "$download/" &&
        printf 'PJSIP %s from %s\n' "$version" "$origin" >"$download/origin" &&
        (cd "$download" && sha256sum origin "${archive##*/}" >SHA256SUMS) &&
        hash_of "$vendor/pjproject.pin" >"$download/pin"
}

# The lines that matter: `export PJ_VERSION_MAJOR  := 2`.
version_of() {
    awk '$2 ~ /^PJ_VERSION_(MAJOR|MINOR|REV)$/ && $4 != "" { version = version (version == "" ? "" : ".") $4 }
        END { if (version == "") exit 1; print version }'
}

hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

fetch() {
    local suite keyring mirror
    if [[ -e $download/pin && $(<"$download/pin") == $(hash_of "$vendor/pjproject.pin") ]] &&
        (cd "$download" && sha256sum --quiet --check SHA256SUMS) >>"$log" 2>&1; then
        return
    fi
    work=$root/.fetching
    for suite in $suites; do
        command -v apt-get >/dev/null || break
        while read -r keyring mirror; do
            from_debian "$suite" "$mirror" "$keyring" && rm -rf "$work" && return
        done < <(debian_mirrors)
    done
    if command -v git >/dev/null; then
        from_upstream && rm -rf "$work" && return
    else
        say "no git, which upstream's tag would need"
    fi
    rm -rf "$work"
    return 1
}

# Without its headers PJSIP's configure leaves a part of PJSIP out, and says so only in its log.
check_libraries() {
    local library
    for library in openssl opus libsrtp2 uuid; do
        pkg-config --exists "$library" || die "pkg-config finds no $library here: 'scripts/setup.sh lint' installs what is needed"
    done
}

build() {
    # What configure runs may leak.
    [[ $variant != asan ]] || export ASAN_OPTIONS=detect_leaks=0
    mkdir -p "$base/src"
    tar -xf "$(compgen -G "$download/*.tar*")" -C "$base/src" --strip-components=1
    cp "$vendor/config_site.h" "$base/src/pjlib/include/pj/config_site.h"
    cd "$base/src"
    # Debian takes out what is not free; its makefile names this one (an empty file will do, it is for another system).
    [[ -e pjmedia/src/pjmedia-audiodev/bdimad_dev.c ]] || touch pjmedia/src/pjmedia-audiodev/bdimad_dev.c
    ./configure "${options[@]}"
    make dep
    make -j"$(nproc)"
    make install
}

variant=plain where=false
while (($#)); do
    case $1 in
    --variant)
        variant=${2:-}
        [[ $variant =~ ^(plain|asan|shared)$ ]] || die "no such variant: '$variant'; there are plain, asan and shared"
        shift
        ;;
    --where) where=true ;;
    *) die "no such option: $1; usage: vendor/pjproject.sh [--variant plain | asan | shared] [--where]" ;;
    esac
    shift
done

root=${SIPWS_PJPROJECT_CACHE:-$vendor/pjproject}
[[ $root == /* ]] || root=$PWD/$root
base=$root download=$root/download
[[ $variant == plain ]] || base=$root/$variant
log=$base/build.log
apt_etc=/etc/apt debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
pin() { sed -n "s/^$1 = //p" "$vendor/pjproject.pin"; }
minimum=$(pin minimum) suites=$(pin suites) upstream=$(pin upstream) tag=$(pin tag) commit=$(pin commit)

# epoll: select() takes no socket above 1023. No sound card, no video and no codec of third_party: Debian takes most of
# those out too.
options=(--prefix="$base/install" --enable-epoll --with-external-srtp
    --disable-sound --disable-video --disable-v4l2 --disable-sdl --disable-ffmpeg --disable-libyuv --disable-openh264
    --disable-libwebrtc --disable-libwebrtc-aec3 --disable-speex-aec --disable-speex-codec --disable-gsm-codec
    --disable-ilbc-codec --disable-g7221-codec --disable-bcg729 --disable-resample)
case $variant in
plain) options+=(CFLAGS='-O2 -fPIC') ;;
asan) options+=(CFLAGS='-O1 -g -fsanitize=address -fno-omit-frame-pointer -fPIC' LDFLAGS=-fsanitize=address) ;;
# Its own programs find the libraries without LD_LIBRARY_PATH.
shared) options+=(--enable-shared CFLAGS='-O2 -fPIC' LDFLAGS="-Wl,-rpath,$base/install/lib") ;;
esac

# What it was built from, how and where: moved, it would name folders that are gone.
wanted=$(hash_of "$vendor/pjproject.pin" "$vendor/config_site.h" <(printf '%s\n' "${options[@]}"))
current() { [[ -e $base/stamp && $(<"$base/stamp") == "$wanted" ]]; }

if $where; then
    current || die "not built, or from another pin or config_site.h: run 'vendor/pjproject.sh --variant $variant'"
    printf '%s\n' "$base/install"
    exit
fi
current && exit

mkdir -p "$base"
exec {lock}>"$root/lock"
flock -n "$lock" || { say "another one is building; waiting for it"; flock -w 1800 "$lock" || die "still waiting after half an hour"; }
current && exit

check_libraries
: >"$log"
fetch || { tail -n 30 "$log" >&2; die "no source of PJSIP $minimum or newer is to be had; see $log" \
    "with one at hand, set PJPROJECT_DIR to it instead"; }
say "building $(<"$download/origin"), variant $variant (about a minute on two cores)"
# Nothing counts until the stamp is written, last of all.
rm -rf "$base/stamp" "$base/src" "$base/install"
started=$SECONDS
# In a shell of its own and with its outcome taken afterwards: `set -e` is not heeded in a function that || follows.
set +e
(set -e; build) </dev/null >>"$log" 2>&1
outcome=$?
set -e
if ((outcome != 0)); then
    tail -n 30 "$log" >&2
    die "the build failed; all it said is in $log"
fi
printf '%s\n' "$wanted" >"$base/stamp"
say "built in $((SECONDS - started)) s: $base/install"
