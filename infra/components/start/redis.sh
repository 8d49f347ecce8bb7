# Starts Redis with the passwords of the Secret that is mounted at $CREDENTIALS, and takes new ones up while it
# runs: the one before stays valid for overlap-seconds. The arguments are Redis' own options.
#
# What is in force lies beside the data (name: the password's hash, the one before it, until when), so that a
# restart in the middle of a change forgets neither. Passwords never are arguments: those show in process lists.
umask 077
overlap() { cat "$CREDENTIALS/overlap-seconds" 2>/dev/null || echo 3600; }
known=${DATA:-/data}/celery-fleet-users
scratch=${SCRATCH:-/tmp}
mkdir -p "$known"
random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
hash() { printf %s "$1" | sha256sum | cut -c 1-64; }

# The hashes in force of user $1, whose password is in file $2, as Redis' ACL takes them.
passwords() {
    new=$(hash "$(cat "$CREDENTIALS/$2")") now=$(date +%s)
    hash= before= until=0
    [ ! -f "$known/$1" ] || read -r hash before until <"$known/$1"
    if [ "$new" != "$hash" ]; then
        before=${hash:--} until=$((now + $(overlap))) hash=$new
    fi
    if [ "$before" = - ] || [ "$before" = "$new" ] || [ "$until" -le "$now" ]; then
        before=- until=0
    fi
    echo "$hash $before $until" >"$known/$1.new"
    mv "$known/$1.new" "$known/$1"
    [ "$before" = - ] && echo "#$hash" || echo "#$hash #$before"
}

users() { # calls $1 with the name and the password's file of each user that there is
    "$1" default password
    [ ! -s "$CREDENTIALS/scaler-password" ] || "$1" celery-scaler scaler-password
}

rights() {
    [ "$1" = default ] && may='~* &* +@all' || may=$(cat "$CREDENTIALS/scaler-may")
    echo "on $(passwords "$1" "$2") $may"
}
declared() { echo "user $1 $(rights "$1" "$2")"; }
# Redis takes all of it or nothing, and nobody is disconnected.
changed() { echo "ACL SETUSER $1 reset $(rights "$1" "$2")"; }

said() { echo "celery-fleet: in force is password $(cat "$CREDENTIALS/mark" 2>/dev/null || echo '(no mark)')"; }

# Neither probes nor the loop below hang on the Secret's passwords.
random >"$scratch/local-password"
{
    echo "user celery-fleet-local on #$(hash "$(cat "$scratch/local-password")") -@all +ping +acl"
    users declared
} >"$scratch/users.acl"

watch() {
    seen=$(readlink "$CREDENTIALS/..data")
    said
    while sleep "${LOOK_SECONDS:-5}"; do
        due=$(cut -d ' ' -f 3 "$known"/* | sort -n | while read -r until; do
            [ "$until" -eq 0 ] || [ "$until" -gt "$(date +%s)" ] || echo due
        done)
        [ -n "$due" ] || [ "$seen" != "$(readlink "$CREDENTIALS/..data")" ] || continue
        look=$(readlink "$CREDENTIALS/..data")
        answers=$(users changed | REDISCLI_AUTH=$(cat "$scratch/local-password") \
            redis-cli -p "$PORT" --user celery-fleet-local --no-auth-warning 2>&1)
        case $(echo "$answers" | sort -u) in
            OK) seen=$look; said ;;
            *) echo "celery-fleet: Redis did not take the passwords: $answers" ;;
        esac
    done
}
watch &
exec redis-server --port "$PORT" --aclfile "$scratch/users.acl" "$@"
