#!/usr/bin/env bash
# The container image of coordinator, agent and helper: `ramarket:latest`, for packaging/compose.yaml.
#
#   scripts/image.sh            builds optimised packages and the image
#   scripts/image.sh FOLDER     from the packages in FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/need.sh

TAG=${TAG:-ramarket:latest}
folder=${1:-}
if [ -z "$folder" ]; then
    folder=${CARGO_TARGET_DIR:-$PWD/target}/debian
    scripts/package.sh "$folder" >/dev/null
fi
base=$(scripts/debian-image.sh base)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp packaging/Containerfile "$context/Containerfile"
# the newest of each
for package in ramarket-agent ramarket-coordinator; do
    newest=$(find "$folder" -name "${package}_*.deb" -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
    [ -n "$newest" ] || die "there is no $package in $folder"
    cp "$newest" "$context/"
done
docker build --quiet --network none --build-arg "BASE=$base" --file "$context/Containerfile" --tag "$TAG" "$context" >&2
echo "$TAG"
