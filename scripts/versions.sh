#!/usr/bin/env bash
# Runs the suite by night with each Python from 3.11 to 3.13 that is installed, and the oldest and the newest torch
# that pyproject.toml allows. Says in the end which pairs were run, and fails if one failed or none ran.
# Each pair takes an environment of 5 GB for as long as it runs, and as long as the suite.
set -uo pipefail
cd "$(dirname "$0")/.."

oldest() { sed -n "s/^  \"$1>=\(.*\)\",$/\1/p" pyproject.toml; }

told=() failed=0 ran=0 at=
trap '[ -z "$at" ] || rm -rf "$at"' EXIT
for version in 3.11 3.12 3.13; do
  if ! "python$version" --version >/dev/null 2>&1; then
    told+=("Python $version: not run, not installed")
    continue
  fi
  for torch in oldest newest; do
    at=$(mktemp -d)
    pins=()
    [ "$torch" = oldest ] && pins=("torch==$(oldest torch).*" "torchvision==$(oldest torchvision).*")
    echo "== Python $version, $torch torch"
    "python$version" -m venv "$at" &&
      "$at/bin/pip" install --quiet --disable-pip-version-check '.[test]' "${pins[@]}" &&
      MPLBACKEND=Agg "$at/bin/python" -m pytest
    code=$?
    ran=$((ran + 1))
    [ $code -eq 0 ] && word=passed || { word="FAILED ($code)" && failed=1; }
    have=$("$at/bin/python" -c 'import sys, torch; print("Python", sys.version.split()[0] + ", torch", torch.__version__)') ||
      have="Python $version, $torch torch"
    told+=("$have: $word")
    rm -rf "$at"
  done
done

printf '\n%s\n' "== what was run"
printf '%s\n' "${told[@]}"
[ $failed -eq 0 ] && [ $ran -gt 0 ]
