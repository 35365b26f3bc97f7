#!/bin/sh
# A Docker engine for `make run` and the tests, on a machine that may have none.
#
#   scripts/docker-engine.sh start     an engine answers afterwards; installs Debian's docker.io, and nftables, when root and they aren't there
#   scripts/docker-engine.sh image     busybox:latest is there afterwards; made from Debian's busybox-static when it can't be pulled
#   scripts/docker-engine.sh registry  prints the path of Debian's docker-registry, for tests that pull; fetched, not installed
#   scripts/docker-engine.sh stop      ends what `start` started, and nothing else
#
# An engine that already answers is used as it is. One that is started here has live-restore on and uses a containerd of its
# own life, so that containers outlive dockerd. Process ids and logs lie in $ENGINE_DIR.
set -eu

ENGINE_DIR=${ENGINE_DIR:-/run/ramarket-engine}
CONTAINERD_SOCKET=/run/containerd/containerd.sock
WAIT_SECONDS=60
IMAGE=busybox:latest

say() { printf 'docker-engine: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }
containerd_answers() { [ -S "$CONTAINERD_SOCKET" ] && ctr --address "$CONTAINERD_SOCKET" version >/dev/null 2>&1; }
has_systemd() { [ -d /run/systemd/system ]; }

# alive NAME: whether the process of NAME's pid file runs and is that program (a pid may be another's by now)
alive() {
    [ -f "$ENGINE_DIR/$1.pid" ] || return 1
    [ "$(cat "/proc/$(cat "$ENGINE_DIR/$1.pid")/comm" 2>/dev/null)" = "$1" ]
}

# wait_for WHAT PID-FILE-NAME CONDITION…: returns when the condition holds, fails when the process is gone or time is up
wait_for() {
    what=$1 name=$2
    shift 2
    tries=$((WAIT_SECONDS * 5))
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || die "$what didn't answer within $WAIT_SECONDS s; see $ENGINE_DIR/$name.log"
        [ -z "$name" ] || alive "$name" || { tail -n 20 "$ENGINE_DIR/$name.log" >&2; die "$name ended; see above"; }
        sleep 0.2
    done
}

# launch NAME ARGS…: detached from this shell and its terminal, with log and pid file
launch() {
    name=$1
    # the shell writes its own pid and then becomes the program, so the file is right before the program runs
    setsid sh -c 'echo $$ >"$0" && exec "$@"' "$ENGINE_DIR/$name.pid" "$@" \
        </dev/null >>"$ENGINE_DIR/$name.log" 2>&1 &
    tries=50
    until [ -s "$ENGINE_DIR/$name.pid" ] && alive "$name"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { tail -n 20 "$ENGINE_DIR/$name.log" >&2; die "$name didn't start"; }
        sleep 0.1
    done
}

install_engine() {
    [ "$(id -u)" -eq 0 ] || die "no Docker engine answers; start one, or run this as root to install Debian's"
    command -v apt-get >/dev/null || die "no dockerd here and no apt-get to install it with; install Docker by hand"
    # where systemd starts the engine at installation it must find this setting; an administrator's file is left alone
    if has_systemd && [ ! -e /etc/docker/daemon.json ]; then
        mkdir -p /etc/docker
        printf '{ "live-restore": true }\n' >/etc/docker/daemon.json
    fi
    say "installing docker.io, containerd and runc"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends docker.io containerd runc >&2
}

# The agent gives no rental a network without it.
firewall() {
    [ -x /usr/sbin/nft ] || [ -x /sbin/nft ] || [ -x /usr/bin/nft ] || {
        if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
            say "installing nftables"
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nftables >&2
        else
            say "nft isn't installed: rentals get no network until it is (package nftables)"
        fi
    }
}

start() {
    firewall
    if answers; then
        say "an engine answers ($(docker version --format '{{.Server.Version}}'))"
        return
    fi
    [ -x "$(command -v dockerd)" ] && [ -x "$(command -v containerd)" ] || install_engine
    [ "$(id -u)" -eq 0 ] || die "dockerd is installed but doesn't answer; start it, or run this as root"
    if has_systemd; then
        systemctl start docker
        wait_for dockerd "" answers
        return
    fi
    mkdir -p "$ENGINE_DIR"
    if ! containerd_answers; then
        launch containerd --address "$CONTAINERD_SOCKET"
        wait_for containerd containerd containerd_answers
    fi
    # no bridge and no firewall rules of Docker's: the agent has its own for rentals, and the machine's stay untouched
    launch dockerd --containerd "$CONTAINERD_SOCKET" --live-restore --bridge none --iptables=false --ip6tables=false \
        --pidfile "$ENGINE_DIR/dockerd-own.pid" --host unix:///var/run/docker.sock
    wait_for dockerd dockerd answers
    say "dockerd $(docker version --format '{{.Server.Version}}') runs; logs in $ENGINE_DIR"
}

# busybox_tree DIR: a root file system around Debian's static busybox, which is unpacked and not installed
busybox_tree() {
    tree=$1/root
    mkdir -p "$tree"/bin "$tree"/etc "$tree"/root "$tree"/tmp "$tree"/var "$tree"/home
    if [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1; then
        cp /bin/busybox "$tree/bin/busybox"
    else
        unpack busybox-static "$1/deb"
        cp "$1/deb/bin/busybox" "$tree/bin/busybox"
    fi
    for applet in $("$tree/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
    done
    ln -s bin "$tree/sbin"
    mkdir "$tree/usr" && ln -s ../bin "$tree/usr/bin" && ln -s ../bin "$tree/usr/sbin"
    chmod 1777 "$tree/tmp"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' >"$tree/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$tree/etc/group"
}

image() {
    if docker image inspect "$IMAGE" >/dev/null 2>&1; then
        return
    fi
    if timeout 60 docker pull -q "$IMAGE" >/dev/null 2>&1; then
        say "pulled $IMAGE"
        return
    fi
    say "$IMAGE can't be pulled; making it from Debian's busybox-static"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    busybox_tree "$work"
    tar -C "$work/root" --owner=0 --group=0 --numeric-owner -cf - . |
        docker import --change 'CMD ["sh"]' --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$IMAGE" >/dev/null
    docker image inspect "$IMAGE" >/dev/null
}

# unpack PACKAGE FOLDER: the package's files below FOLDER, without installing it
unpack() {
    mkdir -p "$2"
    (
        cd "$2"
        # fetched as this user: the folder is not open to apt's own
        fetch="apt-get -qq -o APT::Sandbox::User=$(id -un) download $1"
        $fetch || { apt-get update -qq && $fetch; }
        dpkg-deb -x "$1"_*.deb .
        rm -f "$1"_*.deb
    ) >&2
}

registry() {
    if command -v docker-registry; then
        return
    fi
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/ramarket/docker-registry
    if [ ! -x "$cache/usr/bin/docker-registry" ]; then
        fresh=$cache.$$
        unpack docker-registry "$fresh"
        # whole or not at all, also when two tests come at once
        mv -T "$fresh" "$cache" 2>/dev/null || rm -rf "$fresh"
    fi
    echo "$cache/usr/bin/docker-registry"
}

# end NAME: asks the process of the pid file to end, and returns when it is gone
end() {
    if alive "$1"; then
        kill "$(cat "$ENGINE_DIR/$1.pid")"
        tries=$((WAIT_SECONDS * 5))
        while alive "$1"; do
            tries=$((tries - 1))
            [ "$tries" -gt 0 ] || die "$1 didn't end within $WAIT_SECONDS s"
            sleep 0.2
        done
        say "$1 ended"
    fi
    rm -f "$ENGINE_DIR/$1.pid"
}

stop() {
    # dockerd first: containerd keeps the containers that live-restore leaves running
    end dockerd
    end containerd
}

case ${1:-} in
start | image | registry | stop) "$1" ;;
*) die "usage: $0 start|image|registry|stop" ;;
esac
