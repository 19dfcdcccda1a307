#!/usr/bin/env bash
# Builds sdist and wheel into dist/, looks them through, and installs one in a new environment.
# Usage: scripts/make_dist.sh    (python, pip and twine are those of the search path)
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf dist build
python setup.py --quiet sdist
python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
twine check --strict dist/*

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What the sdist alone makes must be what the checkout makes.
python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$work" dist/*.tar.gz
names() { python -m zipfile --list "$1" | awk 'NR > 1 {print $1}' | sort; }
diff <(names dist/*.whl) <(names "$work"/*.whl)

# The dependencies are this environment's: they are gigabytes, and the same.
python -m venv --without-pip "$work/env"
purelib='import sysconfig; print(sysconfig.get_path("purelib"))'
python -c "$purelib" >"$("$work/env/bin/python" -c "$purelib")/closure.pth"
python -m pip --python "$work/env/bin/python" install --quiet --no-deps --ignore-installed "$work"/*.whl
cd "$work"
unset PYTHONPATH
env/bin/vice info | sed -n 1p
env/bin/vice train folder --options | grep -c '^config\.' | sed 's/$/ options of a training/'
