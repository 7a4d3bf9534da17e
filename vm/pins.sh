#!/bin/sh
# Writes requirements/*.txt: the exact versions of what the dependency groups in pyproject.toml need, and the hashes of
# all their files. Versions stay as they are where nothing forbids that.
#
# usage: vm/pins.sh [OPTION ...]      options of "uv pip compile": --upgrade, --upgrade-package NAME
set -eu
cd -P "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install -q --disable-pip-version-check uv

# A file has what those before it lack; what they have for some Pythons only it may need for others, and has again.
constraints= has=
for group in guest run check; do
    file=requirements/$group.txt
    # shellcheck disable=SC2086
    UV_CUSTOM_COMPILE_COMMAND='make pins' UV_PYTHON_DOWNLOADS=never "$tools/bin/uv" pip compile -q --universal \
        --python-version 3.10 --generate-hashes --no-annotate --group "$group" $constraints $has "$@" -o "$file"
    constraints="$constraints -c $file"
    has="$has $(sed -n '/python_full_version/!s/^\([A-Za-z0-9_.-]*\)==.*/--no-emit-package \1/p' "$file")"
done
