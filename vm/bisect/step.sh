#!/bin/sh
# One step of a bisection in the tree one is in, with all of git's statuses:
#
#     cd linux && git bisect start BAD GOOD && git bisect run path/to/this/vm/bisect/step.sh TEST [OPTION...]
#
# The tree is only read; its kernel is built in the cache. Options are those of python -m vm bisect step.
here=$(cd "$(dirname "$0")/../.." && pwd) || exit 128
[ -x "$here/.venv/bin/python" ] || { echo "error: run make setup in $here first" >&2; exit 128; }
test=$1
[ -n "$test" ] || { echo "usage: $0 TEST [OPTION...]" >&2; exit 128; }
shift
tree=$(git rev-parse --show-toplevel 2>/dev/null) || tree=$PWD
PYTHONPATH=$here exec "$here/.venv/bin/python" -m vm bisect step "$test" --kernel "$tree" "$@"
