# Starts PostgreSQL with a database `celery` and the user of the Secret that is mounted at $CREDENTIALS, and takes
# a new one up while it runs. PostgreSQL has one password a user, so a new password comes with a new user; the
# one before stays for overlap-seconds. The arguments are options of `postgres`.
#
# Tables belong to the role `celery_results`, which all of these users become when they log in.
# Passwords go in by a file: arguments show in process lists, and statements in logs.
umask 077
overlap() { cat "$CREDENTIALS/overlap-seconds" 2>/dev/null || echo 3600; }
export PGDATA=/var/lib/postgresql/data/pgdata
until=/var/lib/postgresql/data/celery-fleet-until
mkdir -p "$PGHOST"
# fsGroup opens the folder to the group, and PostgreSQL refuses one that others can read.
mkdir -p "$PGDATA"
chmod 700 "$PGDATA"
[ -s "$PGDATA/PG_VERSION" ] || initdb --username=postgres --auth=trust --encoding=UTF8 --locale=C --no-instructions
# The socket's folder is this container's own.
printf '%s\n' 'local all postgres trust' 'host celery all all scram-sha-256' >"$PGDATA/pg_hba.conf"

sql() { psql --no-psqlrc --quiet --tuples-only --no-align \
    --set=ON_ERROR_STOP=1 "$@"; }

define() {
    sql --dbname=postgres <<'END'
SELECT 'CREATE ROLE celery_results' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'celery_results') \gexec
SELECT 'CREATE DATABASE celery OWNER celery_results'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'celery') \gexec
END
    sql --dbname=celery <<'END'
\set user `[ -s "$CREDENTIALS/username" ] && cat "$CREDENTIALS/username" || echo celery`
\set password `cat "$CREDENTIALS/password"`
SET log_min_error_statement = panic;
SET log_statement = none;
SELECT format('CREATE ROLE %I LOGIN', :'user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') \gexec
ALTER ROLE :"user" PASSWORD :'password';
GRANT celery_results TO :"user";
ALTER ROLE :"user" SET role = celery_results;
END
}

# Ours that the Secret does not name any more.
former() {
    sql --dbname=celery <<'END'
\set user `[ -s "$CREDENTIALS/username" ] && cat "$CREDENTIALS/username" || echo celery`
SELECT rolname FROM pg_auth_members JOIN pg_roles ON pg_roles.oid = member
WHERE roleid = 'celery_results'::regrole AND rolname <> :'user';
END
}

# A further change within the overlap begins it anew, for all that are former then.
due() { [ -s "$until" ] && [ "$(cut -d ' ' -f 1 "$until")" -le "$(date +%s)" ]; }
retire() {
    gone=$(former) user=$(cat "$CREDENTIALS/username" 2>/dev/null || echo celery)
    if [ -z "$gone" ]; then
        rm -f "$until"
    elif [ "$(cut -d ' ' -f 2 "$until" 2>/dev/null)" != "$user" ]; then
        echo "$(($(date +%s) + $(overlap))) $user" >"$until"
    elif due; then
        for name in $gone; do
            echo "DROP OWNED BY :\"name\"; DROP ROLE :\"name\";" | sql --dbname=celery --set=name="$name"
        done
        rm -f "$until"
    fi
}

said() { echo "celery-fleet: in force is password $(cat "$CREDENTIALS/mark" 2>/dev/null || echo '(no mark)')"; }

watch() {
    seen=
    until pg_isready --quiet; do sleep 1; done
    while :; do
        look=$(readlink "$CREDENTIALS/..data" || echo none)
        if [ "$seen" != "$look" ]; then
            if answer=$(define 2>&1) && answer=$(retire 2>&1); then
                seen=$look
                said
            else
                echo "celery-fleet: PostgreSQL did not take the user: $answer"
            fi
        elif due; then
            retire
        fi
        sleep "${LOOK_SECONDS:-5}"
    done
}

watch &
postgres -c listen_addresses='*' -c unix_socket_directories="$PGHOST" "$@" &
server=$!
# A fast shutdown: at SIGTERM PostgreSQL would wait until every worker has gone away.
trap 'kill -INT $server' TERM INT
wait $server
wait $server
