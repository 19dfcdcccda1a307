#!/usr/bin/env bash
# Resolves requirements/*.in into the complete pinned lists, for Python 3.10 to 3.13.
# Usage: scripts/lock_requirements.sh [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "error: uv is missing; install it with: pip install uv" >&2; exit 2; }

# resolve IN OUT [OPTION ...]
resolve() {
    uv pip compile "$1" --universal --python-version 3.10 --override requirements/overrides.txt \
        --no-annotate --no-header --quiet --output-file "$2" "${@:3}"
    sed -i '/emscripten/{/ != /!d}' "$2"
}

title() {
    sed -i "1i # Written by scripts/lock_requirements.sh; $2" "requirements/$1.txt"
}

for name in runtime dev; do
    resolve "requirements/$name.in" "requirements/$name.txt" "$@"
    title "$name" "install with pip install --no-deps -r"
done
# Parts: the same versions, without what the core brings along; its setuptools may be too new.
core=$(mktemp)
trap 'rm -f "$core"' EXIT
resolve requirements/core.in "$core" -c requirements/runtime.txt
sed -i '/^setuptools==/d' "$core"
for name in training scoring; do
    rm -f "requirements/$name.txt"
    resolve "requirements/$name.in" "requirements/$name.txt" -c requirements/runtime.txt
    grep -vxFf "$core" "requirements/$name.txt" >"requirements/$name.new"
    mv "requirements/$name.new" "requirements/$name.txt"
    title "$name" "what 'vice install $name' adds to the core"
done
