#!/bin/sh
# Makes a machine ready to run the suite: system packages that are missing, and .venv with pinned dependencies.
# Does nothing when everything is there. Nothing is installed into the system's Python.
#
# usage: vm/setup.sh [in-place] [build] [check]
# "in-place" asks only for what testing the running kernel needs, "build" also for what compiling kernels needs, "check"
# for what checks the project's own code
set -eu
# Its real path: links on the way to the checkout may change.
cd -P "$(dirname "$0")/.."

fail() {
    echo "setup: $*" >&2
    exit 4
}

for word in "$@"; do
    case $word in
    in-place | build | check) ;;
    *) fail "knows no '$word'; usage: vm/setup.sh [in-place] [build] [check]" ;;
    esac
done

# What is needed, by a command or file that proves it, and the Debian package that has it.
missing=
need() {
    package=$1
    shift
    for proof in "$@"; do
        case $proof in
        /*) for file in $proof; do [ -e "$file" ] && return 0; done ;;
        *) PATH="$PATH:/usr/sbin:/sbin" command -v "$proof" >/dev/null 2>&1 && return 0 ;;
        esac
    done
    missing="$missing $package"
}

# What other distributions call that, and how it is installed there: Debian's name, Fedora's, Arch's, openSUSE's. A dash
# is the same as Debian's.
elsewhere='
libgcrypt20      libgcrypt             libgcrypt       -
python3          -                     python          -
python3-venv     python3               python          python3
qemu-system-x86  qemu-system-x86-core  -               qemu-x86
xz-utils         xz                    xz              xz
squashfs-tools   -                     -               squashfs
mount            util-linux            util-linux      util-linux
gnupg            gnupg2                -               gpg2
busybox-static   busybox               busybox         -
build-essential  gcc+make              gcc+make        gcc+make
libelf-dev       elfutils-libelf-devel libelf          libelf-devel
libssl-dev       openssl-devel         openssl         libopenssl-devel
'
foreign() {
    # shellcheck disable=SC1090
    kind=$(. "${OS_RELEASE:-/etc/os-release}" && echo " ${ID-} ${ID_LIKE-} ") 2>/dev/null || kind=
    case $kind in
    *" fedora "* | *" rhel "*) install="dnf install" ;;
    *" arch "*) install="pacman -S --needed" ;;
    *" suse "* | *" opensuse "*) install="zypper install" ;;
    *) return 1 ;;
    esac
    theirs=
    for package in $missing; do
        name=$package
        while read -r debian fedora arch suse; do
            [ "$debian" = "$package" ] || continue
            case $install in
            dnf*) name=$fedora ;;
            pacman*) name=$arch ;;
            *) name=$suse ;;
            esac
            [ "$name" != - ] || name=$package
        done <<END
$elsewhere
END
        while :; do
            first=${name%%+*}
            case " $theirs " in *" $first "*) ;; *) theirs="$theirs $first" ;; esac
            [ "$first" != "$name" ] || break
            name=${name#*+}
        done
    done
    fail "this is not Debian; call $install$theirs, then call make again"
}

need kmod modprobe
need libgcrypt20 '/usr/lib/*/libgcrypt.so.20' '/lib/*/libgcrypt.so.20' '/usr/lib/libgcrypt.so.20' '/usr/lib64/libgcrypt.so.20'
need python3 python3
# Debian's Python comes without what makes virtual environments.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
case " $* " in
*" in-place "*) ;;
*)
    # As vm/base/arch.py has it, which a script cannot read.
    need qemu-system-x86 qemu-system-x86_64
    need binutils strings
    # A kernel image is unpacked once on the host, whatever it was packed with.
    need zstd zstd
    need lz4 lz4
    need xz-utils xz
    # Packs the roots of guests.
    need squashfs-tools mksquashfs
    # For tests of full disks, and of package signatures (make check).
    need mount mount
    need gnupg gpg
    need busybox-static '/bin/busybox' '/usr/bin/busybox' '/sbin/busybox' '/usr/sbin/busybox'
    need git git
    if command -v apt-get >/dev/null 2>&1; then
        need debian-archive-keyring '/usr/share/keyrings/debian-archive-*'
        need dpkg dpkg-deb
        # A dynamically linked busybox cannot run before the root is there.
        case " $missing " in
        *" busybox-static "*) ;;
        *) [ -e /usr/share/doc/busybox-static ] || busybox --help 2>/dev/null | grep -q static || missing="$missing busybox-static" ;;
        esac
    fi
    ;;
esac
case " $* " in *" build "*)
    need build-essential gcc
    need build-essential make
    need flex flex
    need bison bison
    need bc bc
    need libelf-dev '/usr/include/libelf.h' '/usr/include/gelf.h'
    need libssl-dev '/usr/include/openssl/opensslv.h'
    need rsync rsync
    need ccache ccache
    ;;
esac

# The page of a run is tried in a real browser.
case " $* " in *" check "*)
    need chromium chromium chromium-browser
    ;;
esac

if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        foreign ||
            fail "this is not Debian: install by your package manager what Debian calls$missing, then call make again"
    fi
    sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || fail "needs$missing: call make as root, or install sudo"
        sudo=sudo
    fi
    echo "setup: installing$missing"
    install() {
        DEBIAN_FRONTEND=noninteractive $sudo apt-get install -qq -y --no-install-recommends $missing >/dev/null
    }
    # The package lists of a fresh machine are empty or old.
    install 2>/dev/null || { $sudo apt-get update -qq && install; } ||
        fail "cannot install$missing: see the messages above; with no network, install them by hand"
fi

python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "needs Python 3.10 or newer, found $(python3 -V 2>&1); put a newer python3 first on PATH"

# The stamps say from which Python and pins the environment was made, and where: its scripts name that place, so that
# one which was moved or copied with its checkout does not work. A stamp goes before what it vouches for is changed, and
# comes back after: what an interrupted call leaves does not look whole. Two calls at once: one waits. A changed pin is
# installed into the environment as it is, under tests that may be running.
origin() {
    python3 -c 'import os, sys; print(sys.version, sys.prefix, os.path.realpath(".venv"))'
}
parts=guest
# What virtual machines need comes on top, and then what checks: the stamp of less is the beginning of that of more.
pins=$(cksum <requirements/guest.txt)
case " $* " in
*" in-place "*) ;;
*)
    parts="$parts run"
    pins="$pins
$(cat requirements/run.txt vm/advice/* | cksum)"
    ;;
esac
case " $* " in *" check "*)
    parts="$parts check"
    pins="$pins
$(cksum <requirements/check.txt)"
    ;;
esac
ready() {
    case "$(cat .venv/python .venv/pins 2>/dev/null)" in
    "$(origin)
$pins"*) ;;
    *) return 1 ;;
    esac
}
ready || (
    flock 9
    ! ready || exit 0
    if [ "$(cat .venv/python 2>/dev/null)" != "$(origin)" ]; then
        echo "setup: making .venv"
        [ -L .venv ] || rm -f .venv/python # one that is linked is another checkout's
        rm -rf .venv
        python3 -m venv .venv
    fi
    echo "setup: installing pinned packages into .venv"
    rm -f .venv/pins
    pip="-m pip install -q --disable-pip-version-check"
    # shellcheck disable=SC2046,SC2086
    .venv/bin/python $pip --require-hashes $(printf ' -r requirements/%s.txt' $parts) ||
        fail "cannot install what requirements/ names into .venv: see pip's messages above"
    # shellcheck disable=SC2086
    [ "$parts" = guest ] || .venv/bin/python $pip --no-deps --no-build-isolation --force-reinstall ./vm/advice ||
        fail "cannot install vm/advice into .venv: see pip's messages above"
    origin >.venv/python
    echo "$pins" >.venv/pins
) 9>.venv.lock
