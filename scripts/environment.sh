# shellcheck shell=bash
# The virtual environment that the scripts run in. It is made when there is none, brought up to date
# when pyproject.toml or constraints.txt changed, and left alone otherwise. Source this file, then call
# `use_environment EXTRA`, which sets $python. DARKROOM_PYTHON names an interpreter to use as it is.
# DARKROOM_TORCH_INDEX names a package index for torch and torchvision.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
log=$venv/install.log

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
        found="${found:+$found, }$name is ${version// /.}"
    done
    fail "Darkroom needs Python 3.11 or later, and there is none on the PATH (found: ${found:-no Python at all}).
Install Python 3.11, 3.12 or 3.13 beside it and run this again:
  Debian 12, Ubuntu 24.04 or later:  sudo apt install python3 python3-venv
  Ubuntu 22.04:                      sudo apt install python3.11 python3.11-venv
  macOS:                             brew install python@3.13
  any system:                        https://www.python.org/downloads"
}

require_venv_module() { # PYTHON
    local major minor _
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    read -r major minor _ <<<"$(python_version "$1")"
    fail "$1 cannot make virtual environments (its modules venv and ensurepip are missing).
On Debian and Ubuntu: sudo apt install python$major.$minor-venv. Then run this again."
}

needed_gb() { # measured: 6.1 GB installed, 1.3 without CUDA; pip also keeps its downloads for a while
    if [ -n "${DARKROOM_TORCH_INDEX:-}" ]; then echo 4; else echo 9; fi
}

require_space() { # FOLDER GIGABYTES
    local free_kb
    free_kb=$(df -Pk "$1" | awk 'NR == 2 { print $4 }')
    [ "$free_kb" -ge $(($2 * 1024 * 1024)) ] ||
        fail "$((free_kb / 1024 / 1024)) GB are free in $1, and installing needs about $2 GB.
Free some space, or set TMPDIR and clone Darkroom to where there is more, and run this again."
}

say_what_cuda_costs() { # to people who have no use for it
    [ "$(uname -s)" = Linux ] && [ -z "${DARKROOM_TORCH_INDEX:-}" ] || return 0
    if nvidia-smi -L >/dev/null 2>&1; then return; fi
    say "There is no NVIDIA GPU here, but PyTorch comes with its CUDA libraries all the
same: 2.5 GB to download, 4.3 GB on disk. To install without, press Ctrl-C and type
  DARKROOM_TORCH_INDEX=ADDRESS $0
where ADDRESS is the index of the CPU packages; PyTorch's page \"Get started\" shows it."
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
    require_space "$root" "$(needed_gb)"
    require_space "${TMPDIR:-/tmp}" 4
    say_what_cuda_costs
    say "Making $venv with $base (Python $(python_version "$base" | tr ' ' '.'))"
    rm -rf "$venv"
    mkdir "$venv"
    echo $$ >"$venv/installing"
    "$base" -m venv "$venv" || fail "$base -m venv $venv failed; the lines above say why."
}

show_progress() { # lines of uv or pip in; out: the large packages and the phases, with the seconds
    local line status name size mb total=0 sizes=" " started=$SECONDS
    while true; do
        status=0
        IFS= read -r -t 20 line || status=$?
        if [ "$status" -gt 128 ]; then
            line="... still at work"
        elif [ "$status" -ne 0 ]; then
            break
        fi
        case $line in
        "Downloading "*"iB)") # uv begins a download; it begins all of them at once
            read -r _ name size <<<"$line"
            mb=${size#(} mb=${mb%%[.iKMG]*}
            case $size in *KiB*) mb=0 ;; *GiB*) mb=$((mb * 1024)) ;; esac
            total=$((total + mb))
            if [ "$mb" -ge 20 ]; then sizes="$sizes$name=$size "; fi
            continue
            ;;
        " Downloaded "*) # uv has a package
            if [ "$total" -ge 100 ]; then printf '[%3d s] downloading %d MiB\n' "$((SECONDS - started))" "$total" >&2; fi
            total=0 name=${line# Downloaded }
            case $sizes in *" $name="*) ;; *) continue ;; esac
            size=${sizes##*" $name="}
            line="$name ${size%% *}"
            ;;
        Resolved* | Prepared* | Installed*) ;;
        *.metadata* | *" kB)"* | *" bytes)"*) continue ;; # of pip; many and small
        *"  Downloading "* | *"Using cached "*)
            name=${line##*Downloading } name=${name##*Using cached }
            line="${name%%-[cp][py][23]*} (${name##*(}"
            ;;
        "Installing collected packages"*) line="unpacking all of them; this takes a minute or two" ;;
        "... still at work" | ERROR* | WARNING* | error:*) ;;
        *) continue ;;
        esac
        printf '[%3d s] %s\n' "$((SECONDS - started))" "$line" >&2
    done
}

with_pip() { # ARGUMENTS of pip install
    "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off \
        --no-compile --constraint "$root/constraints.txt" "$@"
}

with_uv() { # ARGUMENTS of pip install
    "$venv/bin/uv" pip install --python "$venv/bin/python" --constraint "$root/constraints.txt" "$@"
}

install_packages() { # with_pip|with_uv EXTRA
    if [ -n "${DARKROOM_TORCH_INDEX:-}" ]; then # for these two alone; what they need comes as usual
        "$1" --no-deps --index-url "$DARKROOM_TORCH_INDEX" torch torchvision || return
    fi
    "$1" --editable "${root}[$2]"
}

use_indexes_of_pip() { # uv does not read pip's configuration
    local setting value
    while IFS='=' read -r setting value; do
        value=${value#\'} value=${value%\'} value=${value//\\n/ }
        case $setting in
        *.index-url) export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$value}" ;;
        *.extra-index-url) export UV_INDEX="${UV_INDEX:-$value}" UV_INDEX_STRATEGY=unsafe-best-match ;;
        esac
    done <<<"$("$venv/bin/python" -m pip config list 2>/dev/null)"
}

try_uv() { # EXTRA; uv takes a third of pip's time
    if [ ! -x "$venv/bin/uv" ]; then with_pip --no-deps uv </dev/null >>"$log" 2>&1 || return; fi
    use_indexes_of_pip
    install_packages with_uv "$1" </dev/null 2>&1 | tee -a "$log" | show_progress
}

compile_what_is_used() { # EXTRA; once, in two processes, and not all packages, which takes twice as long
    local status=0 tools=""
    case $1 in test | bench) tools=", hypothesis, kafka, onnxruntime, psutil, pytest" ;; esac
    say "Compiling the Python files that Darkroom uses"
    PYTHONDONTWRITEBYTECODE="" "$venv/bin/python" -P -c \
        'import torch, torchvision.transforms.v2, torchmetrics, torch.utils.tensorboard' >>"$log" 2>&1 &
    PYTHONDONTWRITEBYTECODE="" "$venv/bin/python" -P -c \
        "import faust.cli.worker, worker.app, google.cloud.pubsub_v1, pandas, PIL.Image, mlxtend.data$tools" \
        >>"$log" 2>&1 || status=$?
    wait $! && [ "$status" -eq 0 ]
}

install() { # EXTRA
    local extra=$1 started=$SECONDS
    echo $$ >"$venv/installing"
    : >"$log"
    trap 'say "Interrupted. Run this again to start afresh."; exit 130' INT
    say "Installing Darkroom with what \"$extra\" needs (once; about a minute)"
    if ! try_uv "$extra"; then
        say "uv could not do it; $log says why.
Installing with pip, which takes a few minutes."
        if ! install_packages with_pip "$extra" </dev/null 2>&1 | tee -a "$log" | show_progress; then
            tail -n 15 "$log" >&2
            fail "pip could not install Darkroom; the lines above say why, and $log has all of them.
Correct that and run this again."
        fi
    fi
    if ! compile_what_is_used "$extra"; then
        tail -n 15 "$log" >&2
        fail "Darkroom was installed but cannot be imported; the lines above say why.
Correct that and run this again."
    fi
    trap - INT
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
            fail "DARKROOM_PYTHON=$python does not run, or is not Python 3.11 or later."
        return
    fi
    python=$venv/bin/python
    wait_for_other_installation
    if is_installed "$1"; then return; fi
    if [ -e "$venv/installing" ]; then
        say "The last installation was interrupted; starting afresh."
        rm -rf "$venv"
    fi
    version=$(python_version "$python") || { make_venv && version=$(python_version "$python"); }
    is_new_enough "$version" ||
        fail "$venv has Python ${version// /.}, but Darkroom needs 3.11 or later.
Delete that folder and run this again."
    install "$1"
}
