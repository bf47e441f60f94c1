#!/bin/sh
# Checks this machine's GPU. Needs: the NVIDIA driver, nvcc, g++. Node.js comes along where node.xz lies beside this file.
#   sh run.sh [options of test/gpu/check.mjs]      the report is report.json, beside this file
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=${GPU_CHECK_WORK:-$here/work}
mkdir -p "$work"
if [ -f "$here/node.xz" ]; then
  if [ ! -x "$work/node" ]; then
    if command -v xz >/dev/null; then xz -dc "$here/node.xz" >"$work/node.partial"
    else python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$here/node.xz" >"$work/node.partial"
    fi
    chmod +x "$work/node.partial"
    mv "$work/node.partial" "$work/node"
  fi
  node=$work/node
else
  node=$(command -v node) || { echo "there is no node.xz here and no node on PATH" >&2; exit 9; }
fi
rm -rf "$work/app"
mkdir -p "$work/app"
tar -xzf "$here/app.tar.gz" -C "$work/app"
if [ -f "$here/cache.tar.gz" ] && [ ! -d "$work/cache" ]; then mkdir "$work/cache" && tar -xzf "$here/cache.tar.gz" -C "$work/cache"; fi

# The addon, as native/CMakeLists.txt builds it, with the compiler alone.
cd "$work/app/native"
mkdir -p "$work/objects" build/Release
version=$(sed -n 's/.*"version": "\(.*\)".*/\1/p' package.json)
flags="-std=c++20 -O2 -DNDEBUG -fPIC -fvisibility=hidden -DNAPI_VERSION=8 -DNAPI_CPP_EXCEPTIONS -DNIMFORGE_VERSION=\"$version\"
  -Isrc -I../packages/engine/schema -isystem third_party/flatbuffers -Iemulator
  -isystem ../node_modules/node-api-headers/include -isystem ../node_modules/node-addon-api"
find src emulator -name '*.cpp' ! -path '*test*' ! -path '*/runner/*' | sort | while read -r file; do
  echo "$file $(echo "$file" | tr '/' '_').o"
done >"$work/units"
echo "building the addon ($(wc -l <"$work/units") files)" >&2
# shellcheck disable=SC2086 # the flags are words
xargs -P "$(nproc)" -n 2 sh -c 'g++ '"$(echo $flags | sed 's/"/\\"/g')"' -c "$0" -o "'"$work"'/objects/$1"' <"$work/units"
g++ -shared -o build/Release/nimforge.node "$work"/objects/*.o -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL -s -ldl -pthread

cd "$here"
PATH=$(dirname "$node"):$PATH exec "$node" "$work/app/test/gpu/check.mjs" --report "$here/report.json" --cache-dir "$work/cache" "$@"
