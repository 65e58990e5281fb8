# shellcheck shell=bash disable=SC1090 # sections are written while it runs
# One machine of a guide: a terminal that takes sections by number. The arguments are the directory of its files and its home.
# PID 1 of its own PID namespace, in mount and IPC namespaces of its own: what it starts ends with it, and nobody else sees it.
set -e
files=$1 home=$2
mount -t tmpfs tmpfs /run
# Debian's PostgreSQL, as it is before there is a cluster.
for directory in /etc/postgresql /var/lib/postgresql /var/log/postgresql; do
    [ ! -d "$directory" ] || { mount -t tmpfs tmpfs "$directory" && chown postgres:postgres "$directory"; }
done
cd "$home"
exec 3<>"$files/requests"
while read -r section how <&3; do
    if [ "$how" = look ]; then
        set +e
        (set -e; . "$files/$section.sh") <"$files/$section.in" >"$files/$section.out" 2>"$files/$section.err" 3<&-
        set -e
    else
        . "$files/$section.sh" <"$files/$section.in" >"$files/$section.out" 2>"$files/$section.err" 3<&-
    fi
    : >"$files/$section.done"
done
