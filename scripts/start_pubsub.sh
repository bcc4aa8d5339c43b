#!/usr/bin/env bash
# Run Google's Pub/Sub emulator on the loopback interface, until Ctrl-C or a signal.
set -euo pipefail

port=8085
jar_in_sdk=platform/pubsub-emulator/lib

usage() {
    cat <<USAGE
Usage: scripts/start_pubsub.sh [--port PORT]

Run Google's Pub/Sub emulator on 127.0.0.1 in the foreground. It prints "Pub/Sub is ready at
HOST:PORT" on standard output once it takes connections; Ctrl-C or SIGTERM ends it. Programs use it
when PUBSUB_EMULATOR_HOST is set to that address. It keeps nothing.

  --port PORT   where it listens (default $port); 0 takes a free port
  -h, --help    this text

The emulator is a component of the Google Cloud CLI, looked for in \$CLOUDSDK_ROOT, in the usual
places, and where \`gcloud info\` says. Needs Java 17 or later (\$JAVA_HOME or on the PATH).
Where PUBSUB_EMULATOR_HOST is set already, this script only checks that the emulator there answers.
USAGE
}

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "start_pubsub.sh: $*"
    exit 1
}

unavailable() { # something has to be installed; EX_UNAVAILABLE, by which the tests know that they cannot run
    say "start_pubsub.sh: $*"
    exit 69
}

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        --port=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        --port) [ $# -ge 2 ] || fail "$1 needs a value; see --help" ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "unknown option $1; see --help" ;;
        esac
        port=$2
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

find_java() {
    local java=java major
    [ -z "${JAVA_HOME:-}" ] || java=$JAVA_HOME/bin/java
    major=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ] || unavailable "the emulator needs Java 17 or later, and $java is ${major:-not there}.
On Debian and Ubuntu: apt install openjdk-17-jre-headless. On macOS: brew install openjdk@17.
Another one is used when JAVA_HOME names it."
    echo "$java"
}

sdk_roots() {
    printf '%s\n' "${CLOUDSDK_ROOT:-}" "${CLOUDSDK_ROOT_DIR:-}" /usr/lib/google-cloud-sdk \
        /usr/share/google-cloud-sdk /opt/google-cloud-sdk "$HOME/google-cloud-sdk" \
        /opt/homebrew/share/google-cloud-sdk /usr/local/share/google-cloud-sdk
    if command -v gcloud >/dev/null; then # last, for it takes a second
        gcloud info --format='value(installation.sdk_root)' 2>/dev/null || true
    fi
}

find_jar() {
    local root jar
    while IFS= read -r root; do
        for jar in "${root:-/nowhere}/$jar_in_sdk"/cloud-pubsub-emulator-*.jar; do
            if [ -e "$jar" ]; then
                echo "$jar"
                return
            fi
        done
    done < <(sdk_roots)
    unavailable "Google's Pub/Sub emulator is not here.
With the Google Cloud CLI: gcloud components install pubsub-emulator; on Debian and Ubuntu:
apt install google-cloud-cli-pubsub-emulator (https://cloud.google.com/sdk/docs/install#deb).
Where it is elsewhere, set CLOUDSDK_ROOT to the CLI's folder; where it runs already, set
PUBSUB_EMULATOR_HOST to its address."
}

check_running() { # HOST:PORT
    is_open "${1%:*}" "${1##*:}" ||
        fail "PUBSUB_EMULATOR_HOST=$1: nothing answers there; start it, or unset the variable to start one here."
    echo "Pub/Sub is ready at $1"
}

announce_when_ready() { # THE EMULATOR'S PROCESS; runs beside it, and ends with it
    while kill -0 "$1" 2>/dev/null; do
        if is_open 127.0.0.1 "$port"; then
            echo "Pub/Sub is ready at 127.0.0.1:$port"
            return
        fi
        sleep 0.1
    done
}

parse "$@"
if [ -n "${PUBSUB_EMULATOR_HOST:-}" ]; then
    check_running "$PUBSUB_EMULATOR_HOST"
    exit
fi
java=$(find_java) || exit
jar=$(find_jar) || exit
if [ "$port" -eq 0 ]; then port=$(free_port); fi
! is_open 127.0.0.1 "$port" || fail "port $port is taken; end what listens there, or choose another with --port (0: any free one)."
(announce_when_ready $$ &) # in a shell of its own, so that the emulator gets no child that it would never reap
# shellcheck disable=SC2086 # several options
exec "$java" ${PUBSUB_EMULATOR_OPTS:--Xmx1g} -jar "$jar" --host=127.0.0.1 "--port=$port"
