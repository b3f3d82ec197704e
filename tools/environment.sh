# Sourced by quickstart.sh, run_tests.sh and oldest.sh: make a virtual environment with hybridcls, once.
#
#   VENV    its folder             (.venv in the repository)
#   PYTHON  the interpreter        (python3)
#
# make_environment NAME...  installs requirements/runtime.txt and the named further ones, unless they are there
# already, and sets PYTHON to the environment's.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"

stop() {
    echo "error: $*" >&2
    exit 2
}

make_environment() {
    local base="${PYTHON:-python3}"
    local files=("$ROOT/requirements/runtime.txt") name
    for name in "$@"; do
        files+=("$ROOT/requirements/$name.txt")
    done
    if [ ! -x "$VENV/bin/python" ]; then
        command -v "$base" > /dev/null || stop "$base is not installed: apt-get install python3 python3-venv" \
            "(or set PYTHON to a Python from 3.10 on)."
        "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
            || stop "$base is Python $("$base" -c 'import platform; print(platform.python_version())')," \
                "and hybridcls needs 3.10 or newer: set PYTHON to one."
        "$base" -c 'import ensurepip, venv' 2> /dev/null \
            || stop "$base cannot make virtual environments: apt-get install python3-venv."
        echo "Making the virtual environment $VENV ..."
        "$base" -m venv "$VENV" || stop "$VENV could not be made; set VENV to a folder that can be written."
    fi
    PYTHON="$VENV/bin/python"
    export PYTHON
    if ! is_installed "${files[@]}"; then
        echo "Installing hybridcls and what it needs into $VENV (a few minutes, some GB the first time) ..."
        local arguments=(-e "$ROOT") file
        for file in "${files[@]:1}"; do
            arguments+=(-r "$file")
        done
        "$PYTHON" -m pip install --disable-pip-version-check --progress-bar off "${arguments[@]}" \
            || stop "the installation failed (see above). Without internet, point pip to a mirror with PIP_INDEX_URL."
    fi
    fix_opencv
}

# Whether this clone is installed, and every requirement of the named files met: asked each time, since a note of an
# earlier installation would keep what was removed since.
is_installed() {
    (cd / && "$PYTHON" - "$ROOT" "$@" 2> /dev/null) << 'END'
import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

root, *files = sys.argv[1:]
package = importlib.util.find_spec('hybridcls')
importlib.metadata.version('hybridcls')
if package is None or Path(root).resolve() not in Path(package.origin).resolve().parents:
    sys.exit(1)
for file in files:
    for line in Path(file).read_text().splitlines():
        line = line.split('#')[0].strip()
        if line and importlib.metadata.version(Requirement(line).name) not in Requirement(line).specifier:
            sys.exit(1)
END
}

# mmcv requires opencv-python, which needs the graphics libraries of a desktop. Where they are missing (a server, a
# container), the same version without windows replaces it. Both write to one folder, hence the order.
fix_opencv() {
    local trouble
    if trouble="$("$PYTHON" -c 'import cv2' 2>&1)"; then
        return 0
    fi
    case "$trouble" in
        *libGL* | *libgthread* | *libglib* | *libSM* | *libXext* | *libxcb* | *libX11* | *libEGL*) ;;
        *) stop "import cv2 fails: $trouble" ;;
    esac
    echo "This machine has no desktop libraries: taking opencv-python-headless instead of opencv-python ..."
    local version
    version="$("$PYTHON" -c 'from importlib.metadata import version; print(version("opencv-python"))')"
    "$PYTHON" -m pip uninstall --disable-pip-version-check -q -y opencv-python
    "$PYTHON" -m pip install --disable-pip-version-check --progress-bar off -q --force-reinstall --no-deps \
        "opencv-python-headless==$version" \
        || "$PYTHON" -m pip install --disable-pip-version-check --progress-bar off -q --force-reinstall --no-deps \
            opencv-python-headless \
        || stop "opencv-python-headless could not be installed. With administrator's rights: apt-get install" \
            "libgl1 libglib2.0-0, and pip install opencv-python."
    "$PYTHON" -c 'import cv2' || stop "import cv2 still fails: apt-get install libgl1 libglib2.0-0."
}
