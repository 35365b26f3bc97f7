#!/usr/bin/env bash
# A Debian 12 in the container engine, made by mmdebstrap, and printed by its name.
#
#   scripts/debian-image.sh systemd   boots with systemd: the machine that tests install packages on
#   scripts/debian-image.sh base      what the image of coordinator and agent is made from
#   scripts/debian-image.sh rental    what people rent machines for: a database server, a notebook, files to synchronise
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
rental) packages=ca-certificates,curl,jupyter-notebook,postgresql,procps,rsync ;;
*) die "usage: $0 systemd|base|rental" ;;
esac
image=ramarket-debian-$kind:$(printf 'mmdebstrap %s %s' "$SUITE" "$packages" | sha256sum | cut -c1-12)

has_image() { docker image inspect "$image" >/dev/null 2>&1; }

make_image() {
    [ "$(id -u)" -eq 0 ] || die "making a Debian needs root; run this as root once"
    need mmdebstrap mmdebstrap
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    # a machine id is made anew by each machine that boots from it
    # shellcheck disable=SC2016
    mmdebstrap --quiet --variant=minbase --include="$packages" --customize-hook=': >"$1/etc/machine-id"' \
        "$SUITE" "$work/root.tar" 2>"$work/log" || {
        tail -n 20 "$work/log" >&2
        die "mmdebstrap failed"
    }
    docker import --change 'LABEL ramarket.image=debian' --change 'CMD ["/sbin/init"]' "$work/root.tar" "$image" >/dev/null
}

engine_answers || scripts/docker-engine.sh start
# several tests may come at once: one makes it, the others wait
exec 9>"/tmp/ramarket-debian-$kind.lock"
flock 9
has_image || step "debian $kind" make_image
echo "$image"
