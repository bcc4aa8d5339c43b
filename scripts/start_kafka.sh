#!/usr/bin/env bash
# Run a one-node Apache Kafka (KRaft) on the loopback interface, until Ctrl-C or a signal.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/broker.sh"
. "$(dirname "${BASH_SOURCE[0]}")/kafka_security.sh"

version=4.1.1
cache=${XDG_CACHE_HOME:-$HOME/.cache}/darkroom
port=9092
home=${XDG_DATA_HOME:-$HOME/.local/share}/darkroom
data=
secure=
overrides=()
options="--port --data --set"
flags=--secure

usage() {
    cat <<USAGE
Usage: scripts/start_kafka.sh [OPTION]...

Run a one-node Apache Kafka on 127.0.0.1 in the foreground. It prints "Kafka is ready at HOST:PORT"
on standard output when it accepts connections; Ctrl-C or SIGTERM ends it. Topics must be created
before they are used.

  --port PORT        the port to listen on (default $port); 0 takes a free one
  --data DIR         the folder for its messages
                     (default $home/kafka, with --secure $home/kafka-secure)
  --secure           ask for passwords (SASL PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; with TLS on PORT,
                     without TLS on PORT+2) or client certificates (PORT+1), and for permissions
                     (ACLs). It makes an authority, certificates and a user that may do everything
                     in DIR/security, and prints the settings of a worker
  --set KEY=VALUE    a setting of the broker that overrides this script's; may be repeated
  -h, --help         show this text

Kafka comes from \$KAFKA_HOME if that is set. Otherwise Maven fetches Kafka $version once, into
$cache
It needs Java 17 or later (\$JAVA_HOME or on the PATH).
USAGE
}

option() { # NAME VALUE
    case $1 in
    --port) port=$2 ;;
    --data) data=$2 ;;
    --secure) secure=$2 ;;
    --set) overrides+=("$2") ;;
    esac
}

fetch() { # FOLDER: copy Kafka and its libraries there, all or nothing
    local folder=$1 new=$1.$$
    command -v mvn >/dev/null || unavailable "Kafka is not installed, and neither is Maven, which would fetch it.
On Debian and Ubuntu: apt install maven. On macOS: brew install maven.
Or unpack a Kafka from https://kafka.apache.org/downloads and set KAFKA_HOME to its folder."
    say "Fetching Apache Kafka $version (46 files, 43 MB; once)"
    mkdir -p "$new"
    cat >"$new/pom.xml" <<POM
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>darkroom</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
    <!-- without it Kafka's warnings and errors go nowhere -->
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
  </dependencies>
</project>
POM
    mvn -q -B -f "$new/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$new/libs" >"$new/log" 2>&1 || {
        tail -n 20 "$new/log" >&2
        rm -rf "$new"
        unavailable "Maven could not fetch Kafka $version; the lines above say why."
    }
    rm -f "$new/pom.xml" "$new/log"
    if [ -d "$folder/libs" ]; then # another script was faster
        rm -rf "$new"
    else
        mv "$new" "$folder"
    fi
}

find_libs() {
    if [ -n "${KAFKA_HOME:-}" ]; then
        ls "$KAFKA_HOME"/libs/kafka_*.jar >/dev/null 2>&1 ||
            fail "KAFKA_HOME=$KAFKA_HOME has no libs/kafka_*.jar; set it to an unpacked Kafka, or unset it to have Maven fetch one."
        echo "$KAFKA_HOME/libs"
    else
        [ -d "$cache/kafka-$version/libs" ] || fetch "$cache/kafka-$version"
        echo "$cache/kafka-$version/libs"
    fi
}

write_settings() { # FOLDER
    local controller
    controller=$(free_port)
    cat >"$1/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:$controller
log.dirs=$1/messages
# one node
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# a misspelt name is an error, not a new topic
auto.create.topics.enable=false
# a worker that starts does not wait for others to join its group
group.initial.rebalance.delay.ms=0
# an image may be larger than Kafka's 1 MB, and a Pub/Sub message is 10 MB at most
message.max.bytes=11534336
replica.fetch.max.bytes=11534336
PROPERTIES
    if [ "$secure" ]; then
        secure_settings "$1" "$controller"
    else
        echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller"
    fi >>"$1/server.properties"
    [ ${#overrides[@]} -eq 0 ] || printf '%s\n' "${overrides[@]}" >>"$1/server.properties"
    cat >"$1/log4j2.properties" <<'LOGGING'
status=error
appender.stderr.type=Console
appender.stderr.name=stderr
appender.stderr.target=SYSTEM_ERR
appender.stderr.layout.type=PatternLayout
appender.stderr.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.stderr.ref=stderr
LOGGING
}

format_once() { # FOLDER JAVA LIBS
    [ -e "$1/messages/meta.properties" ] && return
    local id users=() # the options: for a program that ends at once
    local run=("$2" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$3/*" "-Dlog4j2.configurationFile=$1/log4j2.properties")
    [ ! "$secure" ] || users=("@$1/security/scram") # in a file, so that ps shows no password
    id=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '=') # as Kafka writes a UUID
    "${run[@]}" kafka.tools.StorageTool format -t "$id" -c "$1/server.properties" ${users[@]+"${users[@]}"} >&2 ||
        fail "Kafka cannot keep its messages in $1; the lines above say why."
}

parse "$@"
java=$(find_java "Kafka $version") || exit
libs=$(find_libs) || exit
data=${data:-$home/kafka${secure:+-secure}}
mkdir -p "$data" || fail "--data $data: cannot make this folder"
data=$(cd "$data" && pwd -P)
if [ "$secure" ]; then
    umask 077
    secure_ports
    make_security_once "$data"
else
    choose_port
    [ ! -d "$data/security" ] || fail "--data $data belongs to a secured Kafka; add --secure, or choose another folder."
fi
mkdir -p "$data/messages"
write_settings "$data"
format_once "$data" "$java" "$libs"
say "Kafka keeps its messages in $data"
[ ! "$secure" ] || explain_access "$data"
(announce_when_ready Kafka $$ &) # in a shell of its own, so that Kafka gets no child that it would never reap
# shellcheck disable=SC2086 # several options
exec "$java" ${KAFKA_HEAP_OPTS:--Xms256m -Xmx1g} ${KAFKA_JVM_PERFORMANCE_OPTS:-} -cp "$libs/*" \
    "-Dlog4j2.configurationFile=$data/log4j2.properties" kafka.Kafka "$data/server.properties"
