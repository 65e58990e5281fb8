#!/bin/sh
# `scp [HOST:]FILE [HOST:]FILE` between the machines of a guide: HOST is a machine, FILE relative to its home.
[ $# = 2 ] || { echo "scp: found $# arguments, expected 2" >&2; exit 1; }
for argument; do
    shift
    case $argument in
    *:*) set -- "$@" "$HOMES/${argument%%:*}/${argument#*:}" ;;
    *) set -- "$@" "$argument" ;;
    esac
done
exec cp "$1" "$2"
