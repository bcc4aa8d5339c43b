# The common part of start_kafka.sh and start_pubsub.sh, to be sourced. They set `port`, `options` (names
# of options with a value) and `flags` (options without one), and define `usage` and `option NAME VALUE`.

script=${0##*/}

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$script: $*"
    exit 1
}

unavailable() { # something has to be installed; EX_UNAVAILABLE tells the tests that they cannot run
    say "$script: $*"
    exit 69
}

# Read `--NAME VALUE` and `--NAME=VALUE` and hand each to `option`; `--help` prints `usage`.
parse() { # ARGUMENT...
    while [ $# -gt 0 ]; do
        case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --?*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        esac
        case " ${flags:-} " in
        *" $1 "*)
            option "$1" yes
            shift
            continue
            ;;
        esac
        case " $options " in
        *" $1 "*) [ $# -ge 2 ] || fail "$1 needs a value; see --help" ;;
        *) fail "unknown option $1; see --help" ;;
        esac
        option "$1" "$2"
        shift 2
    done
    if ! [[ $port =~ ^[0-9]{1,5}$ ]] || [ "$port" -gt 65535 ]; then
        fail "--port $port: not a port, 0 to 65535"
    fi
}

is_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; } # HOST PORT

free_port() { # below the range from which the kernel hands out ports
    local found
    while true; do
        found=$((20000 + (RANDOM << 15 | RANDOM) % 12000))
        is_open 127.0.0.1 "$found" || break
    done
    echo "$found"
}

choose_port() {
    if [ "$port" -eq 0 ]; then port=$(free_port); fi
    ! is_open 127.0.0.1 "$port" ||
        fail "port $port is in use; end the program that listens there, or choose another port with --port (0: any free one)."
}

find_java() { # WHAT NEEDS IT
    local java=java major
    [ -z "${JAVA_HOME:-}" ] || java=$JAVA_HOME/bin/java
    major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ] || unavailable "$1 needs Java 17 or later, but $java is ${major:+Java }${major:-not installed}.
On Debian and Ubuntu: apt install openjdk-17-jre-headless. On macOS: brew install openjdk@17.
To use another Java, set JAVA_HOME to its folder."
    echo "$java"
}

announce_when_ready() { # PRODUCT PROCESS; runs beside the process and ends with it
    while kill -0 "$2" 2>/dev/null; do
        if is_open 127.0.0.1 "$port"; then
            echo "$1 is ready at 127.0.0.1:$port"
            return
        fi
        sleep 0.1
    done
}
