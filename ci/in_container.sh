#!/bin/sh
# Runs a command in the container that Containerfile makes, with KVM where that may be used, with the kernels that were
# fetched in ./cache and with results in ./results.
#
# usage: ci/in_container.sh docker|podman COMMAND [ARGUMENT …]
set -u
[ "$#" -gt 1 ] || { echo "usage: ci/in_container.sh docker|podman COMMAND [ARGUMENT ...]" >&2; exit 1; }
engine=$1 program=$2
shift 2
mkdir -p cache results || exit 1
set -- --entrypoint "$program" af-alg-tests "$@"
for name in KERNEL AFALG_OFFLINE CI; do
    eval "[ -z \"\${$name:-}\" ]" || set -- --env "$name" "$@"
done
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    set -- --env GITHUB_STEP_SUMMARY=/summary --volume "$GITHUB_STEP_SUMMARY:/summary" "$@"
fi
[ ! -w /dev/kvm ] || set -- --device /dev/kvm "$@"
# An init, for the processes whose parents end before them.
exec "$engine" run --rm --init --env AFALG_CACHE=/cache --volume "$PWD/cache:/cache" \
    --volume "$PWD/results:/af-alg-tests/results" "$@"
