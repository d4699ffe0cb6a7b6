#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install from Debian's packages what building Millrace needs, and nothing that is there already.
#
#   deploy/install-deps.sh            what building and running needs
#   deploy/install-deps.sh --tests    also what tests/run.sh needs
#   deploy/install-deps.sh --peers    also what tests/bench/compare.sh needs: other brokers
#   deploy/install-deps.sh --list     print the names, install nothing
#
# Asks dpkg first, so that nothing is downloaded, and no network or root is needed, when all is
# there. Uses sudo when it is not run by root.
set -eu

build="gcc libc6-dev cmake ninja-build pkg-config libuv1-dev libraft-dev libprotobuf-c-dev
       protobuf-c-compiler protobuf-compiler liblz4-dev node-llhttp libjansson-dev libarchive-dev
       libseccomp-dev libcap-dev libssl-dev uthash-dev libcurl4-openssl-dev"
run="python3 python3-boto3"
tests="git libcmocka-dev clang libclang-rt-14-dev clang-format awscli curl zip
       python3-celery python3-kombu python3-pycurl ruby-aws-sdk
       iproute2 nftables procps libfaketime"
peers="rabbitmq-server nats-server redis-server nginx-light librabbitmq-dev libhiredis-dev
       gnuplot-nox"

with_tests=no
with_peers=no
list_only=no
for argument in "$@"; do
    case $argument in
    --tests) with_tests=yes ;;
    --peers) with_peers=yes ;;
    --list) list_only=yes ;;
    -h | --help)
        sed -n '3,11s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *)
        echo "install-deps.sh: unknown option '$argument'; --help lists them" >&2
        exit 64
        ;;
    esac
done

# Debian's nodejs and npm only where there is no node that will do: another one may come from
# elsewhere, and npm of Debian would draw in a second node.
node_is_good() {
    command -v npm >/dev/null 2>&1 || return 1
    major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\).*/\1/p')
    [ -n "$major" ] && [ "$major" -ge 18 ]
}

wanted="$build $run"
if [ "$with_tests" = yes ]; then
    wanted="$wanted $tests"
    node_is_good || wanted="$wanted nodejs npm"
fi

if [ "$with_peers" = yes ]; then
    wanted="$wanted $peers"
fi

is_installed() {
    dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

missing=
for package in $wanted; do
    if [ "$list_only" = yes ]; then
        echo "$package"
    elif ! is_installed "$package"; then
        missing="$missing $package"
    fi
done
if [ "$list_only" = yes ]; then
    exit 0
fi
if [ -z "$missing" ]; then
    echo "install-deps.sh: everything is installed already"
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "install-deps.sh: run this as root, to install:$missing" >&2
        exit 1
    fi
    as_root=sudo
fi

echo "install-deps.sh: installing$missing"
install_missing() {
    # $missing is a list of words.
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
        --no-install-recommends $missing </dev/null
}
# The package lists may be there and recent; fetch them only if installing fails without.
if ! install_missing; then
    $as_root apt-get update -q </dev/null
    install_missing
fi
