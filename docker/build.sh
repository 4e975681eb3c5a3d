#!/usr/bin/env bash
# Build one of the images with docker, or with buildah where there is no docker: docker/build.sh serve|serve-gpu|compile [OPTION ...]
# The options go to the builder: --build-arg BASE_IMAGE=..., --tag ... (in place of trtbert:NAME).
# BUILDAH, where set, is the command to build with, whether docker runs or not: "buildah --storage-driver vfs" needs no overlay filesystem.
# PIP_CONFIG_FILE (a pip.conf) and PIP_CERT (certificates of the index), where set, are given to the build as secrets: no layer holds them.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
    serve | serve-gpu | compile) name=$1 && shift ;;
    *) echo "usage: docker/build.sh serve|serve-gpu|compile [OPTION ...]" >&2 && exit 2 ;;
esac

case " $* " in
    *" --tag"* | *" -t"*) tag=() ;;
    *) tag=(--tag "trtbert:$name") ;;
esac

secrets=()
if [ -n "${PIP_CONFIG_FILE:-}" ]; then secrets+=(--secret "id=pip-conf,src=$PIP_CONFIG_FILE"); fi
if [ -n "${PIP_CERT:-}" ]; then secrets+=(--secret "id=ca,src=$PIP_CERT"); fi

read -ra buildah <<< "${BUILDAH:-buildah}"
if [ -z "${BUILDAH:-}" ] && docker info > /dev/null 2>&1; then
    DOCKER_BUILDKIT=1 docker build "${tag[@]}" --file "docker/$name.Dockerfile" "${secrets[@]}" "$@" .
elif command -v "${buildah[0]}" > /dev/null; then
    # The format of docker keeps HEALTHCHECK, which OCI's has no place for.
    "${buildah[@]}" build --format docker "${tag[@]}" --file "docker/$name.Dockerfile" "${secrets[@]}" "$@" .
else
    echo "docker/build.sh needs a running docker, or buildah" >&2 && exit 5
fi
