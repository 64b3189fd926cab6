#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A station that is bound to an office: how many units it makes, under which quota, from which CA (threat S1).
set -u
tool=$PWD/enroll-tool/enroll-tool
[ -x "$tool" ] || { echo "no $tool"; exit 99; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/berth-quota-XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
trap 'exit 99' INT TERM
chmod 0700 "$dir"
n=0
fail() {
    echo "FAIL: $*: $(cat "$dir/out")"
    exit 1
}
# want STATUS "a part of what it says" ARGUMENT...
want() {
    status=$1 words=$2
    shift 2
    "$tool" "$@" >"$dir/out" 2>&1
    got=$?
    [ $got -eq "$status" ] || fail "$*: status $got"
    grep -q "$words" "$dir/out" || fail "$*: does not say '$words'"
    n=$((n + 1))
}
# burn SERIAL STATUS WORDS [option...]
burn() {
    serial=$1 status=$2 words=$3
    shift 3
    want "$status" "$words" burn --serial "$serial" --identity "$dir/unit-$serial" --station "$dir/st" --id-scope 0ne1 \
        --dps-host dps.example --server-ca "$dir/office/root.pem" "$@"
    [ "$status" -eq 0 ] || [ "$serial" = A ] || [ ! -e "$dir/unit-$serial" ] || fail "$serial: refused, and made"
}
used() { want 0 "\"used\":$1," quota show --station "$dir/st" --quota "$dir/q1.json" --json; }
echo MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= >"$dir/group.key"
chmod 0600 "$dir/group.key"
key="--group-key-file $dir/group.key"
mkdir -m 0700 "$dir/st"
want 0 "root and intermediate" ca create --dir "$dir/office" --name Office
want 0 "root and intermediate" ca create --dir "$dir/other" --name Other
office="--key $dir/office/root.key --office $dir/office/root.pem"
# shellcheck disable=SC2086
{
    want 0 "2 units for line-1" quota sign $office --name line-1 --units 2 --out "$dir/q1.json"
    want 3 "q1.json" quota sign $office --name line-1 --units 9 --out "$dir/q1.json"
    want 0 berthQuota quota sign $office --name line-2 --units 2 --out "$dir/q2.json" --json
    want 0 "for line-1" quota sign $office --name line-1 --units 5 --out "$dir/q3.json"
    want 0 "for line-1" quota sign --key "$dir/other/root.key" --office "$dir/other/root.pem" --name line-1 --units 9 --out "$dir/q4.json"
    want 1 "do not belong together" quota sign --key "$dir/other/root.key" --office "$dir/office/root.pem" --name line-1 --units 9
    want 2 usage quota sign $office --name "line 1" --units 9
    want 2 usage quota sign $office --name line-1 --units 0

    # as ever, until it is bound
    burn A 0 burned $key
    burn A2 2 "bound to no office" $key --quota "$dir/q1.json"
    want 1 "bound to no office" quota show --station "$dir/st" --quota "$dir/q1.json"
    want 2 "no name of a station" station bind --name "line 1" --office "$dir/office/root.pem" --station "$dir/st"
    want 0 "bound as line-1" station bind --name line-1 --office "$dir/office/root.pem" --station "$dir/st"
    want 3 "bound already, as 'line-1'" station bind --name line-1 --office "$dir/office/root.pem" --station "$dir/st"
    want 3 "bound already" station bind --name free --office "$dir/other/root.pem" --station "$dir/st"

    burn B 3 "needs a quota" $key
    burn B 3 "is for station 'line-2'; this is 'line-1'" $key --quota "$dir/q2.json"
    burn B 3 "another office" $key --quota "$dir/q4.json"
    sed 's/"units":2/"units":9/' "$dir/q1.json" >"$dir/changed.json"
    burn B 3 "was changed" $key --quota "$dir/changed.json"
    sed 's/line-2/line-1/' "$dir/q2.json" >"$dir/changed.json"
    burn B 3 "was changed" $key --quota "$dir/changed.json"
    burn B 1 "no signed quota" $key --quota "$dir/office/root.pem"
    burn B 1 "there is no file" $key --quota "$dir/nowhere"
    used 0
    burn B 0 burned $key --quota "$dir/q1.json"
    burn A 3 "was burned before" $key --quota "$dir/q1.json" # what came before is used up as ever, and costs nothing
    burn C 2 "say one of" --quota "$dir/q1.json"
    used 1
    burn C 0 burned $key --quota "$dir/q1.json"
    used 2
    burn D 3 "of 2 units is used up" $key --quota "$dir/q1.json"
    cp "$dir/q1.json" "$dir/copy.json"
    burn D 3 "used up" $key --quota "$dir/copy.json"
    used 2
    cp "$dir/q3.json" "$dir/st/quota.json" # the station's own, when none is named
    burn D 0 burned $key
    want 0 "1 of 5 units" quota show --station "$dir/st"

    # the CA of a bound station is cut out for it
    burn E 1 "not confined to station 'line-1'" --ca-dir "$dir/office"
    mkdir -m 0700 "$dir/rootless"
    cp -p "$dir/office/root.key" "$dir/rootless/intermediate.key"
    cp -p "$dir/office/root.pem" "$dir/rootless/intermediate.pem"
    burn E 1 "no pathlen 0" --ca-dir "$dir/rootless"
    want 0 "for station line-2 alone" ca delegate --root "$dir/office" --name line-2 --dir "$dir/ca2"
    want 0 "for station line-1 alone" ca delegate --root "$dir/office" --name line-1 --dir "$dir/ca1"
    want 3 "intermediate" ca delegate --root "$dir/office" --name line-1 --dir "$dir/ca1"
    want 1 "" ca delegate --root "$dir/ca1" --name line-1 --dir "$dir/ca3"
    burn E 1 "not confined" --ca-dir "$dir/ca2"
    burn E 0 burned --ca-dir "$dir/ca1"
    want 0 complete verify "$dir/unit-E"
    want 0 "2 of 5 units" quota show --station "$dir/st"
    # the office's certificate changed for another one's, and the ledger's line that binds taken out
    cp "$dir/other/root.pem" "$dir/st/office.pem"
    burn F 3 "not of the office" $key --quota "$dir/q4.json"
    cp "$dir/office/root.pem" "$dir/st/office.pem"
    cp "$dir/st/ledger.jsonl" "$dir/kept"
    grep -v '"bound"' "$dir/kept" >"$dir/st/ledger.jsonl"
    burn F 1 "was changed, or a line before it is missing" $key
    sed 's/,"quota":"[^"]*"//' "$dir/kept" >"$dir/st/ledger.jsonl"
    burn F 1 "was changed" $key --quota "$dir/q1.json"
    cp "$dir/kept" "$dir/st/ledger.jsonl"
    burn F 0 burned $key
}
want 0 bound ledger list --station "$dir/st"
echo "$n steps"
