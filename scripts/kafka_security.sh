# The secure half of start_kafka.sh, to be sourced by it: an authority of its own, certificates,
# users, and the listeners that ask for them. Everything lies in FOLDER/security, for its owner only.

user=darkroom # may do everything, by password and by certificate

secure_ports() { # the three listeners stand next to each other, so that a restart finds them again
    local offset
    [ "$port" -ne 0 ] || while true; do
        port=$(free_port)
        are_closed "$port" $((port + 1)) $((port + 2)) && break
    done
    for offset in 1 2; do
        are_closed $((port + offset)) ||
            fail "port $((port + offset)) is in use; --secure needs three in a row: choose another --port (0: any free ones)."
    done
}

are_closed() { # PORT...
    local one
    for one in "$@"; do ! is_open 127.0.0.1 "$one" || return 1; done
}

make_security_once() { # FOLDER: all of it or nothing
    [ -d "$1/security" ] && return
    [ ! -e "$1/messages/meta.properties" ] ||
        fail "--data $1 holds the messages of a Kafka without security; choose another folder for --secure."
    command -v openssl >/dev/null || unavailable "--secure makes certificates with openssl, which is not installed.
On Debian and Ubuntu: apt install openssl. On macOS: brew install openssl."
    say "Making an authority, certificates and the user $user in $1/security"
    local new=$1/security.$$
    (
        umask 077
        mkdir -p "$new"
        cd "$new"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
            -subj "/CN=Darkroom's test authority" -keyout ca.key -out ca.crt
        certificate broker serverAuth,clientAuth subjectAltName=DNS:localhost,IP:127.0.0.1
        certificate "$user" clientAuth
        cat broker.key broker.crt >broker.pem
        password=$(openssl rand -hex 16)
        printf %s "$password" >"$user.password"
        printf '%s\n' --add-scram "SCRAM-SHA-256=[name=$user,password=$password]" \
            --add-scram "SCRAM-SHA-512=[name=$user,password=$password]" >scram
    ) 2>"$1/security.log" || {
        cat "$1/security.log" >&2
        rm -rf "$new"
        fail "openssl could not make the certificates; the lines above say why."
    }
    rm -f "$1/security.log"
    mv "$new" "$1/security"
}

certificate() { # NAME USE [MORE]: NAME.key and NAME.crt, signed by the authority
    printf '%s\n' "extendedKeyUsage=$2" "${@:3}" >extensions
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -subj "/CN=$1" -keyout "$1.key" -out request
    openssl x509 -req -in request -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 \
        -extfile extensions -out "$1.crt"
    rm -f request extensions
}

secure_settings() { # FOLDER CONTROLLER-PORT
    local files=$1/security login=org.apache.kafka.common.security password
    password=$(cat "$files/$user.password")
    cat <<PROPERTIES
listeners=SASL_SSL://127.0.0.1:$port,SSL://127.0.0.1:$((port + 1)),SASL_PLAINTEXT://127.0.0.1:$((port + 2)),CONTROLLER://127.0.0.1:$2
listener.security.protocol.map=SASL_SSL:SASL_SSL,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:SSL
inter.broker.listener.name=SSL
ssl.keystore.type=PEM
ssl.keystore.location=$files/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=$files/ca.crt
listener.name.ssl.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
# a certificate's user is its common name
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*\$/\$1/
super.users=User:broker;User:$user
PROPERTIES
    local listener
    for listener in sasl_ssl sasl_plaintext; do
        cat <<PROPERTIES
listener.name.$listener.plain.sasl.jaas.config=$login.plain.PlainLoginModule required user_$user="$password";
listener.name.$listener.scram-sha-256.sasl.jaas.config=$login.scram.ScramLoginModule required;
listener.name.$listener.scram-sha-512.sasl.jaas.config=$login.scram.ScramLoginModule required;
PROPERTIES
    done
}

explain_access() { # FOLDER
    local files=$1/security
    cat >&2 <<ACCESS

Listeners: SASL_SSL 127.0.0.1:$port, SSL (client certificate) 127.0.0.1:$((port + 1)), SASL_PLAINTEXT 127.0.0.1:$((port + 2))
Mechanisms: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512. Without a permission nobody but $user may do anything.

For a worker, by password:
  export KAFKA_HOST=SASL_SSL://127.0.0.1:$port
  export DARKROOM_KAFKA_MECHANISM=SCRAM-SHA-512
  export DARKROOM_KAFKA_USERNAME=$user
  export DARKROOM_KAFKA_PASSWORD=\$(cat '$files/$user.password')
  export DARKROOM_KAFKA_CA_FILE='$files/ca.crt'

By certificate:
  export KAFKA_HOST=SSL://127.0.0.1:$((port + 1))
  export DARKROOM_KAFKA_CA_FILE='$files/ca.crt'
  export DARKROOM_KAFKA_CERT_FILE='$files/$user.crt'
  export DARKROOM_KAFKA_KEY_FILE='$files/$user.key'

ACCESS
}
