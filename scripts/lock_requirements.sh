#!/usr/bin/env bash
# Resolves requirements/*.in into the complete pinned lists, for Python 3.10 to 3.12.
# Usage: scripts/lock_requirements.sh [--upgrade]
set -euo pipefail
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "error: uv is missing; install it with: pip install uv" >&2; exit 2; }
for name in runtime dev; do
    uv pip compile "requirements/$name.in" --universal --python-version 3.10 \
        --override requirements/overrides.txt --no-annotate --no-header --quiet \
        --output-file "requirements/$name.txt" "$@"
    sed -i '1i # Written by scripts/lock_requirements.sh; install with pip install --no-deps -r' \
        "requirements/$name.txt"
    sed -i '/emscripten/{/ != /!d}' "requirements/$name.txt"
done
