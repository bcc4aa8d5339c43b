#!/usr/bin/env bash
# Run Google's Pub/Sub emulator on the loopback interface, until Ctrl-C or a signal.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/broker.sh"

port=8085
options=--port
jar_in_sdk=platform/pubsub-emulator/lib

usage() {
    cat <<USAGE
Usage: scripts/start_pubsub.sh [--port PORT]

Run Google's Pub/Sub emulator on 127.0.0.1 in the foreground. It prints "Pub/Sub is ready at
HOST:PORT" on standard output when it accepts connections; Ctrl-C or SIGTERM ends it. Programs use
it if PUBSUB_EMULATOR_HOST is set to that address. It keeps nothing.

  --port PORT   the port to listen on (default $port); 0 takes a free one
  -h, --help    show this text

The emulator is a component of the Google Cloud CLI. The script looks for it in \$CLOUDSDK_ROOT, in
the usual places, and where \`gcloud info\` says. It needs Java 17 or later (\$JAVA_HOME or on the
PATH). If PUBSUB_EMULATOR_HOST is set, the script only checks that an emulator answers there.
USAGE
}

option() { # NAME VALUE
    port=$2
}

sdk_roots() {
    printf '%s\n' "${CLOUDSDK_ROOT:-}" "${CLOUDSDK_ROOT_DIR:-}" /usr/lib/google-cloud-sdk \
        /usr/share/google-cloud-sdk /opt/google-cloud-sdk "$HOME/google-cloud-sdk" \
        /opt/homebrew/share/google-cloud-sdk /usr/local/share/google-cloud-sdk
    if command -v gcloud >/dev/null; then # last, because it takes a second
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
    unavailable "Google's Pub/Sub emulator is not installed.
With the Google Cloud CLI: gcloud components install pubsub-emulator; on Debian and Ubuntu:
apt install google-cloud-cli-pubsub-emulator (https://cloud.google.com/sdk/docs/install#deb).
If the CLI is in another folder, set CLOUDSDK_ROOT to it. If an emulator runs already, set
PUBSUB_EMULATOR_HOST to its address."
}

check_running() { # HOST:PORT
    is_open "${1%:*}" "${1##*:}" ||
        fail "PUBSUB_EMULATOR_HOST=$1: nothing answers there; start an emulator there, or unset the variable to start one here."
    echo "Pub/Sub is ready at $1"
}

parse "$@"
if [ -n "${PUBSUB_EMULATOR_HOST:-}" ]; then
    check_running "$PUBSUB_EMULATOR_HOST"
    exit
fi
java=$(find_java "the emulator") || exit
jar=$(find_jar) || exit
choose_port
(announce_when_ready Pub/Sub $$ &) # in a subshell: the emulator would never reap a child
# shellcheck disable=SC2086 # several options
exec "$java" ${PUBSUB_EMULATOR_OPTS:--Xmx1g} -jar "$jar" --host=127.0.0.1 "--port=$port"
