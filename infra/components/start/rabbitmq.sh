# Starts RabbitMQ with the users of the Secret that is mounted at $CREDENTIALS, and takes new ones up while it
# runs. RabbitMQ has one password a user, so a new password comes with a new user; those before stay for
# overlap-seconds. The arguments are lines of rabbitmq.conf.
#
# Users are RabbitMQ's own data and outlive a restart; those made here carry a tag, and no others are touched.
# Passwords go in by a file: arguments show in process lists.
umask 077
overlap() { cat "$CREDENTIALS/overlap-seconds" 2>/dev/null || echo 3600; }
data=${DATA:-/var/lib/rabbitmq}
scratch=${SCRATCH:-/tmp}
until=$data/celery-fleet-until
export RABBITMQ_CONFIG_FILE=$scratch/rabbitmq.conf RABBITMQ_ENABLED_PLUGINS_FILE=$scratch/enabled_plugins
export RABBITMQ_MNESIA_BASE=$data/mnesia RABBITMQ_LOGS=-
# Nobody joins this node: doors to it that only this pod reaches, and a cookie that nobody knows.
export ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}'
rm -f "$HOME/.erlang.cookie"
head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$HOME/.erlang.cookie"
chmod 400 "$HOME/.erlang.cookie"
patience() { cat "$CREDENTIALS/consumer-timeout-ms" 2>/dev/null || echo 1800000; }
printf '%s\n' "$@" "consumer_timeout = $(patience)" "load_definitions = $scratch/definitions.json" \
    >"$scratch/rabbitmq.conf"
echo '[rabbitmq_management].' >"$scratch/enabled_plugins"

text() { sed 's/[\\"]/\\&/g' "$CREDENTIALS/$1"; }
user() { [ -s "$CREDENTIALS/$1" ] && text "$1" || echo "$2"; }

define() {
    workers=$(user username celery) scaler=$(user scaler-username celery-scaler)
    users="{\"name\":\"$workers\",\"password\":\"$(text password)\",\"tags\":[\"celery-fleet\"]}"
    may="{\"user\":\"$workers\",\"vhost\":\"celery\",\"configure\":\".*\",\"write\":\".*\",\"read\":\".*\"}"
    if [ -s "$CREDENTIALS/scaler-password" ]; then
        users="$users,{\"name\":\"$scaler\",\"password\":\"$(text scaler-password)\",
            \"tags\":[\"celery-fleet\",\"monitoring\"]}"
        may="$may,{\"user\":\"$scaler\",\"vhost\":\"celery\",\"configure\":\"$(text scaler-configure)\",
            \"write\":\"$(text scaler-write)\",\"read\":\"$(text scaler-read)\"}"
    fi
    kind="{\"default_queue_type\":\"$QUEUE_TYPE\"}"
    echo "{\"vhosts\":[{\"name\":\"celery\",\"metadata\":$kind}],\"users\":[$users],\"permissions\":[$may]}" \
        >"$scratch/definitions.json"
}

# Ours that the Secret does not name any more.
former() {
    rabbitmqctl --quiet list_users --no-table-headers | while read -r name tags; do
        case $tags in
            *celery-fleet*) [ "$name" = "$workers" ] || [ "$name" = "$scaler" ] || echo "$name" ;;
        esac
    done
}

# A further change within the overlap begins it anew, for all that are former then.
due() { [ -s "$until" ] && [ "$(cut -d ' ' -f 1 "$until")" -le "$(date +%s)" ]; }
retire() {
    gone=$(former)
    if [ -z "$gone" ]; then
        rm -f "$until"
    elif [ "$(cut -d ' ' -f 2- "$until" 2>/dev/null)" != "$workers $scaler" ]; then
        echo "$(($(date +%s) + $(overlap))) $workers $scaler" >"$until"
    elif due; then
        for name in $gone; do
            rabbitmqctl --quiet delete_user "$name"
        done
        rm -f "$until"
    fi
}

said() { echo "celery-fleet: in force is password $(cat "$CREDENTIALS/mark" 2>/dev/null || echo '(no mark)')"; }

watch() {
    seen=$(readlink "$CREDENTIALS/..data")
    # It listens once it has booted; asking rabbitmqctl all the while would take the processor from the boot.
    until grep -q ":$(printf %04X "$PORT") .* 0A " /proc/net/tcp /proc/net/tcp6; do sleep 1; done
    retire
    said
    while sleep "${LOOK_SECONDS:-5}"; do
        if [ "$seen" != "$(readlink "$CREDENTIALS/..data")" ]; then
            look=$(readlink "$CREDENTIALS/..data")
            define
            longer="application:set_env(rabbit, consumer_timeout, $(patience))."
            if answer=$(rabbitmqctl --quiet import_definitions "$scratch/definitions.json" 2>&1) &&
                answer=$(rabbitmqctl --quiet eval "$longer" 2>&1); then
                retire
                seen=$look
                said
            else
                echo "celery-fleet: RabbitMQ did not take the users: $answer"
            fi
        elif due; then
            retire
        fi
    done
}

define
watch &
exec rabbitmq-server
