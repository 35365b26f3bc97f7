#!/usr/bin/env bash
# A Debian 12 in the container engine, made by debootstrap, and printed by its name.
#
#   scripts/debian-image.sh systemd   boots with systemd: the machine that tests install packages on
#   scripts/debian-image.sh base      what the image of coordinator and agent is made from
#
# Made once for each list of packages: the engine keeps it, labelled ramarket.image.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

SUITE=bookworm
kind=${1:-}
case $kind in
systemd) packages=systemd,systemd-sysv,dbus,ca-certificates,curl,procps,nftables,mount,e2fsprogs ;;
base) packages=systemd,ca-certificates,nftables,mount,e2fsprogs ;;
*) die "usage: $0 systemd|base" ;;
esac
image=ramarket-debian-$kind:$(printf '%s %s' "$SUITE" "$packages" | sha256sum | cut -c1-12)

has_image() { docker image inspect "$image" >/dev/null 2>&1; }

make_image() {
    [ "$(id -u)" -eq 0 ] || die "debootstrap needs root; run this as root once"
    need debootstrap debootstrap
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    debootstrap --variant=minbase --include="$packages" "$SUITE" "$work/root" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        die "debootstrap failed"
    }
    rm -rf "$work/root/var/cache/apt/archives" "$work/root/var/lib/apt/lists"
    mkdir -p "$work/root/var/cache/apt/archives/partial" "$work/root/var/lib/apt/lists/partial"
    # made anew by each machine that boots from it
    : >"$work/root/etc/machine-id"
    tar -C "$work/root" --one-file-system --numeric-owner -cf - . |
        docker import --change 'LABEL ramarket.image=debian' --change 'CMD ["/sbin/init"]' - "$image" >/dev/null
}

engine_answers || scripts/docker-engine.sh start
# several tests may come at once: one makes it, the others wait
exec 9>"/tmp/ramarket-debian-$kind.lock"
flock 9
has_image || step "debian $kind" make_image
echo "$image"
