# Sourced by quickstart.sh, run_tests.sh and oldest.sh: make a virtual environment with hybridcls, once.
#
#   VENV      its folder                     (.venv in the repository)
#   PYTHON    the interpreter                (python3)
#   NEEDED_MB what an environment takes at least (6200 where PyTorch brings CUDA: Linux on x86_64; else not asked)
#   TMPDIR    pip's temporary files          ($VENV/.unfinished)
#
# make_environment NAME...  installs requirements/runtime.txt and the named further ones, unless they are there
# already, and sets PYTHON to the environment's. The folder $VENV/.unfinished is there only until all is installed: a
# call that finds it goes on where another was cut short.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
case "$VENV" in /*) ;; *) VENV="$PWD/$VENV" ;; esac
if [ -z "${NEEDED_MB:-}" ]; then
    NEEDED_MB=0
    [ "$(uname -sm)" != 'Linux x86_64' ] || NEEDED_MB=6200
fi

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
    if [ ! -x "$VENV/bin/pip" ]; then # the last file of a new environment
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
    if [ -d "$VENV/.unfinished" ] || ! is_installed "${files[@]}"; then
        rm -rf "$VENV/.unfinished"
        remove_unfinished
        check_disk "$VENV"
        echo "Installing hybridcls and what it needs into $VENV (a few minutes, some GB the first time) ..."
        local arguments=(-e "$ROOT") file
        for file in "${files[@]:1}"; do
            arguments+=(-r "$file")
        done
        mkdir "$VENV/.unfinished"
        TMPDIR="${TMPDIR:-$VENV/.unfinished}" \
            "$PYTHON" -m pip install --disable-pip-version-check --progress-bar off "${arguments[@]}" \
            || stop "the installation failed (see above). Without internet, point pip to a mirror with PIP_INDEX_URL."
    fi
    fix_opencv
    rm -rf "$VENV/.unfinished"
}

# Stop where a disk cannot hold the environments in these folders, and say where it may not also hold the wheels that
# pip downloads: until all of an environment is installed they lie beside it, and take half of its size. An environment
# with PyTorch has nearly all, of whichever size.
check_disk() {
    local folder disk there missing free need=0 wheels=0 here=() others=()
    disk="$(disk_of "$1")"
    for folder in "$@"; do
        if [ "$(disk_of "$folder")" != "$disk" ]; then
            others+=("$folder")
            continue
        fi
        here+=("$folder")
        there="$({ du -sk "$folder/." 2> /dev/null || true; } | awk '{ print int($1 / 1024) }')"
        missing=$((NEEDED_MB - ${there:-0}))
        if [ "$missing" -lt 0 ] || has_torch "$folder"; then missing=0; fi
        need=$((need + missing))
        [ "$wheels" -ge $((missing / 2)) ] || wheels=$((missing / 2))
    done
    free="$(disk_line "$1" | awk 'match($0, /[0-9]+ +[0-9]+%/) { print int(substr($0, RSTART) / 1024) }')"
    free="${free:-$((need + wheels))}" # not told
    [ "$free" -ge "$need" ] || stop "expected $need MB of free disk for ${here[*]}, got $free MB: free some, set VENV" \
        "(of tools/oldest.sh: OLDEST_VENV) to a folder on another disk, or NEEDED_MB where PyTorch comes without CUDA."
    [ "$free" -ge $((need + wheels)) ] || echo "warning: ${here[*]} may need $((need + wheels)) MB of free disk for a" \
        "while, with what pip downloads, and there are $free MB." >&2
    [ -z "${others[*]-}" ] || check_disk "${others[@]}"
}

# What df says of the disk of a folder that may not be there yet. (Names of disks have spaces: columns are not counted.)
disk_line() {
    local folder="$1"
    while [ ! -e "$folder" ]; do folder="$(dirname "$folder")"; done
    df -Pk "$folder" 2> /dev/null | tail -n 1 || true
}

disk_of() { disk_line "$1" | sed 's/.*% *//'; }

has_torch() {
    local record
    for record in "$1"/lib/python3*/site-packages/torch-*.dist-info/RECORD; do
        [ ! -f "$record" ] || return 0
    done
    return 1
}

# Let pip install again what it was cut short in: it takes a package for installed as soon as its metadata are there,
# which come before its last files, and names itself in RECORD at the end. What others installed (conda) is theirs.
remove_unfinished() {
    local folder
    for folder in "$VENV"/lib/python3*/site-packages/*.dist-info; do
        [ -d "$folder" ] || continue
        if [ -f "$folder/INSTALLER" ] && ! grep -q '^pip' "$folder/INSTALLER"; then continue; fi
        grep -qs '/INSTALLER,' "$folder/RECORD" || rm -rf "$folder"
    done
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
if importlib.util.find_spec('cv2') is None:  # fix_opencv was cut short
    sys.exit(1)
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
