#!/usr/bin/env bash
# Installs a pinned list, and nothing else, into a virtual environment, byte code included.
# Usage: scripts/install.sh ENVIRONMENT LIST
set -euo pipefail
environment=$1 list=$2
python=$environment/bin/python
pip=("$python" -m pip --quiet --disable-pip-version-check)
tool=$(cd "$(dirname "$0")/.." && pwd)/requirements/install.txt
# On the disk of the environment: files are linked there and not copied.
work=$environment/.install
trap 'rm -rf "$work"' EXIT
# Ctrl-C: pip answers it as any failure, and a process in the background not at all.
other=
trap 'kill $other 2>/dev/null || true; exit 130' INT TERM
mkdir -p "$work"
echo "installing the packages of $list into $environment: gigabytes, a minute or more"
# VISSL's wheel holds an older copy of ClassyVision, over which ClassyVision's own is put.
sed -n '/^vissl/p' "$list" >"$work/first.txt"
sed '/^vissl/d' "$list" >"$work/rest.txt"

# uv unpacks on all cores, pip on one. It reads none of pip's settings, so that whoever has told pip
# of another index, or of none, gets pip. All of the lists is in the first index, whatever others are.
with_uv() {
    local settings certificates part
    settings=$("$python" -m pip --disable-pip-version-check config list) || return 1
    if grep -qE "[.](index-url|no-index|proxy)=" <<<"$settings"; then
        return 1
    fi
    certificates=$(sed -nE "s/^.*[.]cert='(.*)'$/\1/p" <<<"$settings" | head -n 1)
    if [ -n "$certificates" ]; then
        export SSL_CERT_FILE=${SSL_CERT_FILE:-$certificates}
    fi
    "${pip[@]}" install --no-deps --target "$work/uv" -r "$tool" || return 1
    for part in first rest; do
        UV_CACHE_DIR=$work/cache UV_NO_CONFIG=1 UV_SYSTEM_CERTS=1 "$work/uv/bin/uv" pip install \
            --quiet --no-deps --python "$python" -r "$work/$part.txt" || return 1
    done
}

with_pip() {
    local install=("${pip[@]}" install --no-compile --no-deps -r) status=0
    "${install[@]}" "$work/first.txt"
    # Two of them share the packages, of which a few are most of the bytes.
    sed -nE '/^(nvidia|torch|triton)/p' "$work/rest.txt" | "${install[@]}" /dev/stdin &
    other=$!
    sed -E '/^(nvidia|torch|triton)/d' "$work/rest.txt" | "${install[@]}" /dev/stdin || status=$?
    wait "$other" || status=$?
    return "$status"
}

with_uv 2>"$work/uv.log" || { sed 's/^/uv: /' "$work/uv.log" >&2; with_pip; }
# Byte code: what no command of ViCE imports is compiled where it is imported, if it ever is.
unread='/(tests?|networkx|onnxruntime|onnxscript|onnx_ir|pip|setuptools|fontTools|debugpy|mypyc?)/'
(cd "$environment" && bin/python -m compileall -qq -j 0 -x "$unread" lib) || true
