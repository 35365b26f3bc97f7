# Sourced by the scripts beside it: what they print, and how they get what is missing.
# shellcheck shell=bash

say() { if [ -t 2 ]; then printf '\033[1m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# need PACKAGE COMMAND…: the commands are there afterwards; installs Debian's PACKAGE when root and one is missing
need() {
    local package=$1 command missing=()
    shift
    for command in "$@"; do
        command -v "$command" >/dev/null || missing+=("$command")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        install_package "$package" "${missing[*]}"
    fi
}

# install_package PACKAGE WHY
install_package() {
    local package=$1 why=$2
    [ "$(id -u)" -eq 0 ] || die "$why not found; install it first: sudo apt-get install $package"
    command -v apt-get >/dev/null || die "$why not found and no apt-get here; install it by hand"
    say "installing $package ($why not found)"
    # RUNLEVEL keeps a package's own service from starting where there is no systemd
    apt_install "$package" 2>/dev/null || { apt-get update -qq >&2 && apt_install "$package"; } || die "$package can't be installed"
}

# what apt says is shown only when it fails
apt_install() {
    local said
    said=$(RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 \
        --no-install-recommends "$1" 2>&1 </dev/null) || {
        printf '%s\n' "$said" >&2
        return 1
    }
}

need_rust() {
    command -v cargo >/dev/null || die "cargo not found; install a Rust toolchain first (the version is in Cargo.toml: rust-version)"
    need gcc cc
}

# step NAME COMMAND…: runs it and says how long it took. No `||` around it: that would switch errexit off inside.
step() {
    local name=$1 started=$SECONDS
    shift
    say "== $name"
    "$@"
    say "== $name: $((SECONDS - started)) s"
}

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
