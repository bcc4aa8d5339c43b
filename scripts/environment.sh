# shellcheck shell=bash
# The virtual environment that the scripts run in: made when there is none, brought up to date when
# pyproject.toml or constraints.txt changed, left alone otherwise. Source it, then call
# `use_environment EXTRA`; it sets $python. DARKROOM_PYTHON names an interpreter to use as it is.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
needed_gb=9 # measured: 6.4 GB installed, and pip's downloads while it unpacks them

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "darkroom: $*"
    exit 1
}

python_version() { # PYTHON -> "3 11 7", or failure when it does not run (pyenv leaves such shims)
    "$1" -c 'import sys; print(*sys.version_info[:3])' 2>/dev/null
}

is_new_enough() { # "3 11 7"
    local major minor _
    read -r major minor _ <<<"$1"
    [ "$major" -eq 3 ] && [ "$minor" -ge 11 ]
}

find_python() { # the newest tested Python that runs; else a python3 that is at least new enough
    local name version found=""
    for name in python3.13 python3.12 python3.11 python3 python; do
        version=$(python_version "$name") || continue
        if is_new_enough "$version"; then
            command -v "$name"
            return
        fi
        found="$found, $name is ${version// /.}"
    done
    fail "no Python 3.11 or later on the PATH (found: ${found:2}${found:-none}).
Install Python 3.13, 3.12 or 3.11 (apt install python3 python3-venv, brew install python@3.13, or python.org) and run this again."
}

require_venv_module() { # PYTHON
    "$1" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$1 cannot make virtual environments (its modules venv and ensurepip are missing).
On Debian and Ubuntu: apt install python3-venv. Then run this again."
}

require_space() { # FOLDER GIGABYTES
    local free_kb
    free_kb=$(df -Pk "$1" | awk 'NR == 2 { print $4 }')
    [ "$free_kb" -ge $(($2 * 1024 * 1024)) ] ||
        fail "$((free_kb / 1024 / 1024)) GB are free in $1, and installing needs about $2 GB (PyTorch brings the CUDA libraries).
Free some space, or set TMPDIR and clone Darkroom to where there is more, and run this again."
}

wanted_stamp() { # EXTRA: what an installation is known by
    printf '%s %s\n' "$1" "$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum)"
}

is_installed() { # EXTRA
    [ -x "$venv/bin/python" ] && [ ! -e "$venv/installing" ] &&
        grep -qxF "$(wanted_stamp "$1")" "$venv/installed" 2>/dev/null &&
        "$venv/bin/python" -c '' 2>/dev/null
}

wait_for_other_installation() {
    local other
    other=$(cat "$venv/installing" 2>/dev/null) || return 0
    [ -n "$other" ] && kill -0 "$other" 2>/dev/null || return 0
    say "Process $other is installing into $venv; waiting for it."
    while [ -e "$venv/installing" ] && kill -0 "$other" 2>/dev/null; do sleep 1; done
}

make_venv() {
    local base
    base=$(find_python) || exit 1
    require_venv_module "$base"
    require_space "$root" "$needed_gb"
    require_space "${TMPDIR:-/tmp}" 4
    say "Making $venv with $base (Python $(python_version "$base" | tr ' ' '.'))"
    rm -rf "$venv"
    mkdir "$venv"
    echo $$ >"$venv/installing"
    "$base" -m venv "$venv" || fail "$base -m venv $venv failed; the lines above say why."
}

show_progress() { # pip's lines in, one short line a package or phase out, with the seconds so far
    local line file status
    while true; do
        status=0
        IFS= read -r -t 20 line || status=$?
        if [ "$status" -gt 128 ]; then
            line="... still at it"
        elif [ "$status" -ne 0 ]; then
            break
        fi
        case $line in
        *.metadata* | *" kB)"* | *" bytes)"*) continue ;; # many and small: not worth a line
        *"Downloading "* | *"Using cached "*)
            file=${line##*Downloading } file=${file##*Using cached }
            line="${file%%-[cp][py][23]*} (${file##*(}"
            ;;
        "Installing collected packages"*) line="unpacking all of them; this takes a minute or two" ;;
        "... still at it" | ERROR* | WARNING*) ;;
        *) continue ;;
        esac
        printf '[%3d s] %s\n' "$((SECONDS - started))" "$line" >&2
    done
}

install() { # EXTRA
    local extra=$1 started=$SECONDS log=$venv/install.log
    echo $$ >"$venv/installing"
    say "Installing Darkroom with what \"$extra\" needs (once; about three minutes)"
    if ! "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off \
        --constraint "$root/constraints.txt" --editable "${root}[$extra]" </dev/null 2>&1 |
        tee "$log" | show_progress; then
        tail -n 15 "$log" >&2
        fail "pip could not install Darkroom; the lines above say why and $log has all of them. Run this again when it is put right."
    fi
    touch "$venv/installed"
    sed -i.old "/^$extra /d" "$venv/installed"
    wanted_stamp "$extra" >>"$venv/installed"
    rm "$venv/installing"
    say "Installed in $((SECONDS - started)) s."
}

use_environment() { # EXTRA
    local version
    if [ -n "${DARKROOM_PYTHON:-}" ]; then
        python=$DARKROOM_PYTHON
        is_new_enough "$(python_version "$python" || echo 0 0 0)" ||
            fail "DARKROOM_PYTHON=$python is no Python 3.11 or later that runs."
        return
    fi
    python=$venv/bin/python
    wait_for_other_installation
    if is_installed "$1"; then return; fi
    if [ -e "$venv/installing" ]; then
        say "The last installation was interrupted; starting it afresh."
        rm -rf "$venv"
    fi
    version=$(python_version "$python") || { make_venv && version=$(python_version "$python"); }
    is_new_enough "$version" ||
        fail "$venv has Python ${version// /.}, and Darkroom needs 3.11 or later. Delete that folder and run this again."
    install "$1"
}
