#!/bin/sh
# Both databases, out and back in. Runs in PostgreSQL's own image: docker compose run --rm backup …
#
#   backup.sh dump                        write a new backup and remove those older than BACKUP_DAYS
#   backup.sh list                        names of the whole backups, oldest first
#   backup.sh restore NAME|latest         put one back into empty databases
#   backup.sh restore NAME|latest --replace    drop what is there first
#
# BACKUP_FOLDER holds a folder for each backup: a dump of each database and their checksums. It
# appears in one step, once both dumps are whole and can be read back. BACKUP_DATABASES names the
# databases; for each NAME_HOST, NAME_PASSWORD and where they differ NAME_PORT, NAME_USER,
# NAME_DATABASE say where it is. Passwords travel in the environment, never on a command line.
#
# Not in here, and as needed as the dumps: ENCRYPTION_KEYS and LITELLM_SALT_KEY.
set -eu
umask 077

FOLDER=${BACKUP_FOLDER:?is not set}
DATABASES=${BACKUP_DATABASES:-tesslate litellm}
DAYS=${BACKUP_DAYS:-14}

say() { printf '%s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# Point libpq at the database of that name.
use() {
    prefix=$(say "$1" | tr '[:lower:]-' '[:upper:]_')
    PGHOST=$(printenv "${prefix}_HOST") || fail "${prefix}_HOST is not set"
    PGPASSWORD=$(printenv "${prefix}_PASSWORD") || fail "${prefix}_PASSWORD is not set"
    PGPORT=$(printenv "${prefix}_PORT") || PGPORT=5432
    PGUSER=$(printenv "${prefix}_USER") || PGUSER=$1
    PGDATABASE=$(printenv "${prefix}_DATABASE") || PGDATABASE=$1
    export PGHOST PGPASSWORD PGPORT PGUSER PGDATABASE
}

query() { psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 "$@"; }

dump() {
    mkdir -p "$FOLDER"
    name=$(date -u +%Y-%m-%dT%H%M%SZ)
    [ ! -e "$FOLDER/$name" ] || fail "$name is there already"
    draft=$FOLDER/.$name.partial
    rm -rf "$FOLDER"/.*.partial
    mkdir "$draft"
    for database in $DATABASES; do
        use "$database"
        pg_dump --format=custom --compress=6 --no-owner --no-privileges --file="$draft/$database.dump"
        pg_restore --list "$draft/$database.dump" > "$draft/$database.contents"
        say "$database: $(wc -c < "$draft/$database.dump" | tr -d ' ') bytes," \
            "$(grep -c 'TABLE DATA' "$draft/$database.contents" || true) tables"
    done
    (cd "$draft" && sha256sum ./*.dump ./*.contents > SHA256SUMS)
    mv "$draft" "$FOLDER/$name"
    say "$name is whole."
    find "$FOLDER" -mindepth 1 -maxdepth 1 -type d -name '2*Z' -mtime "+$DAYS" -exec rm -rf {} +
}

list() {
    for found in "$FOLDER"/2*Z; do
        [ ! -f "$found/SHA256SUMS" ] || basename "$found"
    done
}

restore() {
    name=${1:?name a backup, or say latest}
    [ "$name" != latest ] || name=$(list | tail -n 1)
    from=$FOLDER/$name
    [ -n "$name" ] && [ -f "$from/SHA256SUMS" ] || fail "There is no backup $name in $FOLDER"
    (cd "$from" && sha256sum --check --quiet SHA256SUMS) || fail "$name is damaged: nothing was done"
    # Look at all of them before touching any.
    for database in $DATABASES; do
        [ -f "$from/$database.dump" ] || fail "$name holds no $database: nothing was done"
        use "$database"
        tables=$(query --command "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p')
            AND relnamespace = 'public'::regnamespace") || fail "$database cannot be reached"
        [ "$tables" = 0 ] || [ "${2:-}" = --replace ] ||
            fail "$database is not empty ($tables tables): stop what uses it, then say --replace"
    done
    for database in $DATABASES; do
        use "$database"
        # All or nothing: a restore that fails leaves what was there.
        {
            say 'BEGIN; SET client_min_messages = warning;'
            say 'DROP SCHEMA public CASCADE; CREATE SCHEMA public;'
            # A pipe hides that its beginning failed: what follows then is no SQL, and undoes it.
            { pg_restore --file=- --no-owner --no-privileges "$from/$database.dump" ||
                say 'pg_restore failed;'; } |
                grep -v -e '^CREATE SCHEMA public;$' -e '^SET transaction_timeout'
            say 'COMMIT;'
        } | query > /dev/null || fail "$database was not restored: it is as it was"
        query --command 'ANALYZE'
        say "$database: restored from $name"
    done
}

case ${1:-} in
    dump) dump ;;
    list) list ;;
    restore) shift; restore "$@" ;;
    *) sed -n '2,8p' "$0" | cut -c3-; exit 2 ;;
esac
