#!/usr/bin/env bash
# Builds sdist and wheel into dist/, looks them through, and installs each in an environment of its own.
# Usage: scripts/make_dist.sh    (python, pip and twine are those of the search path)
set -euo pipefail
cd "$(dirname "$0")/.."
rm -rf dist build
python setup.py --quiet sdist
python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
twine check --strict dist/*

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
for file in dist/*.whl dist/*.tar.gz; do
    python -m venv --clear "$work/env"
    # Its dependencies are this environment's: they are gigabytes, and the same.
    python_of="$work/env/bin/python"
    own=$("$python_of" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    echo "$site" >"$own/closure.pth"
    python -m pip --python "$python_of" install --quiet --no-deps --no-build-isolation "$PWD/$file"
    (cd "$work" && env -u PYTHONPATH "$work/env/bin/vice" info | head -1 && \
        env -u PYTHONPATH "$work/env/bin/vice" train folder --options | grep -c '^config\.')
done
