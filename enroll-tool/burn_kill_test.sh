#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A burn is killed at each of the system calls that write: afterwards the identity is absent or complete, the same burn again
# completes it, and a further one is refused. Of a station with a quota of one unit the unit is counted once.
set -u
command -v strace >/dev/null || { echo "strace is not here"; exit 77; }
tool=$PWD/enroll-tool/enroll-tool
[ -x "$tool" ] || { echo "no $tool"; exit 99; }
# Leak checks do not run under a tracer; the other checks do.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
dir=$(mktemp -d "${TMPDIR:-/tmp}/berth-burn-kill-XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
trap 'exit 99' INT TERM
chmod 0700 "$dir"
# As the C library makes them; a name that this machine's kernel does not know is left out.
calls=
for call in write fsync rename renameat renameat2 link linkat mkdir mkdirat ftruncate fchmod unlink unlinkat; do
    strace -f -qq -o /dev/null -e trace=$call true 2>/dev/null && calls="$calls $call"
done
[ -n "$calls" ] || { echo "this machine does not let strace trace"; exit 77; }

echo MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= >"$dir/group.key"
chmod 0600 "$dir/group.key"
"$tool" ca create --dir "$dir/ca" --name Works >/dev/null || exit 1
"$tool" quota sign --key "$dir/ca/root.key" --office "$dir/ca/root.pem" --name line-1 --units 1 --out "$dir/quota.json" >/dev/null || exit 1

fail() {
    echo "FAIL: $*"
    exit 1
}
# run KIND N [command before it]: a burn into a folder of its own, with its own ledger
run() {
    kind=$1 n=$2
    shift 2
    case $kind in
    key) how="--group-key-file $dir/group.key" ;;
    quota) how="--group-key-file $dir/group.key --quota $dir/quota.json" ;;
    *) how="--ca-dir $dir/ca" ;;
    esac
    # shellcheck disable=SC2086
    "$@" "$tool" burn --serial "SN-$n" --identity "$dir/$n/unit" --station "$dir/$n/station" --id-scope 0ne1 \
        --dps-host dps.example --server-ca "$dir/ca/root.pem" $how >"$dir/out" 2>&1
}

# One call of one kind: was the burn killed there?
kill_at() {
    kind=$1 call=$2 nth=$3
    n=$kind-$call-$nth
    mkdir -m 0700 "$dir/$n" "$dir/$n/station"
    [ "$kind" != quota ] || "$tool" station bind --name line-1 --office "$dir/ca/root.pem" --station "$dir/$n/station" >/dev/null ||
        fail "$n: not bound"
    run "$kind" "$n" strace -f -qq -o /dev/null -e trace="$call" -e inject="$call:signal=KILL:when=$nth"
    status=$?
    if [ -e "$dir/$n/unit" ]; then
        "$tool" verify "$dir/$n/unit" >"$dir/out.verify" 2>&1 || fail "$n: not complete: $(cat "$dir/out.verify")"
        [ $status -eq 0 ] || complete=$((complete + 1))
    else
        [ $status -ne 0 ] || fail "$n: done, but nothing is there"
        absent=$((absent + 1))
    fi
    if [ $status -eq 0 ]; then
        rm -rf "${dir:?}/$n"
        return 1
    fi
    [ $status -eq 137 ] || fail "$n: status $status: $(cat "$dir/out")"
    killed=$((killed + 1))
    if ! grep -qs '"event":"done"' "$dir/$n/station/ledger.jsonl"; then
        run "$kind" "$n" || fail "$n: the second burn failed: $(cat "$dir/out")"
    fi
    "$tool" verify "$dir/$n/unit" >/dev/null || fail "$n: not complete after the second burn"
    run "$kind" "$n"
    [ $? -eq 3 ] || fail "$n: a further burn was not refused"
    if [ "$kind" = quota ]; then
        "$tool" quota show --json --quota "$dir/quota.json" --station "$dir/$n/station" >"$dir/out" 2>&1
        grep -q '"used":1,"units":1,' "$dir/out" || fail "$n: not one unit: $(cat "$dir/out")"
        "$tool" burn --serial one-past --identity "$dir/$n/past" --station "$dir/$n/station" --id-scope 0ne1 --dps-host dps.example \
            --server-ca "$dir/ca/root.pem" $how >"$dir/out" 2>&1
        [ $? -eq 3 ] || fail "$n: one past the quota was made: $(cat "$dir/out")"
    fi
    [ "$(ls "$dir/$n")" = "$(printf 'station\nunit')" ] || fail "$n: left behind: $(ls "$dir/$n")"
    "$tool" ledger list --station "$dir/$n/station" >"$dir/out" || fail "$n: ledger: $(cat "$dir/out")"
    rm -rf "${dir:?}/$n"
}

for kind in key x509 quota; do
    killed=0 absent=0 complete=0
    for call in $calls; do
        nth=1
        while kill_at $kind "$call" $nth; do
            nth=$((nth + 1))
            [ $nth -lt 100 ] || fail "$kind: $call never came to an end"
        done
    done
    echo "$kind: killed at each of $killed calls; identity absent $absent times, complete $complete times"
    [ $killed -ge 30 ] && [ $absent -gt 10 ] && [ $complete -gt 2 ] || fail "$kind: that was not a test"
done
