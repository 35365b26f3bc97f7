#!/bin/sh
# Installs the RAMarket node agent of this market on Debian, and enrols this machine if a token is given.
#
#   curl -fsSLO @URL@/install.sh && curl -fsSL @URL@/install.sh.sha256 | sha256sum -c
#   sudo sh install.sh                      installs
#   sudo sh install.sh --token-file FILE    installs, enrols with the one-time token in FILE, starts
set -eu

url=@URL@
token_file=

say() { printf '%s\n' "$*" >&2; }
die() {
    say "install.sh: $*"
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --token-file)
        [ $# -ge 2 ] || die "--token-file needs a file"
        token_file=$2
        shift 2
        ;;
    *) die "unknown argument $1; see the head of this script" ;;
    esac
done

[ "$(id -u)" -eq 0 ] || die "run this as root"
command -v dpkg >/dev/null || die "this script is for Debian and its like; there is no dpkg here"
command -v curl >/dev/null || die "curl not found; install it first: apt-get install curl"
[ -z "$token_file" ] || [ -r "$token_file" ] || die "$token_file can't be read"

architecture=$(dpkg --print-architecture)
case $architecture in
    @PACKAGES@
*) die "this market has no agent for $architecture" ;;
esac

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# apt reads the file as a user of its own
chmod 755 "$folder"
say "fetching $package"
curl -fsS --proto '=https,http' -o "$folder/$package" "$url/packages/$package"
printf '%s  %s\n' "$sha256" "$folder/$package" | sha256sum -c --quiet ||
    die "$package isn't what this market offers; nothing was installed"
if command -v apt-get >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$folder/$package"
else
    dpkg -i "$folder/$package"
fi

[ -S /var/run/docker.sock ] || say "there is no Docker engine yet; install one with \"live-restore\": true in /etc/docker/daemon.json"
if [ -n "$token_file" ]; then
    runuser -u ramarket-agent -- ramarket-agent enroll --url "$url" --token-file - <"$token_file"
    systemctl start ramarket-agent
    say "enrolled and started; see: ramarket-agent status"
else
    say "next: runuser -u ramarket-agent -- ramarket-agent enroll --url $url --token-file -"
    say "then: systemctl start ramarket-agent"
fi
