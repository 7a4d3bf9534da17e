#!/bin/sh
# For NIPA's executor, "exec=" of its configuration: started in a kernel tree, which is built and tested unless $KERNEL
# says what else. Everything is left in $RESULTS_DIR.
set -u
KERNEL=${KERNEL:-$PWD} exec "$(dirname "$0")/run" nipa "$@"
