# SPDX-License-Identifier: Apache-2.0
# What the disk may hold at a start: a folder in use, a damaged database, one of a newer version, a master key that is not its own: each is
# refused with one clear line, nothing is written over, and the original goes on working. threat:S8 threat:S6
# time-limit: 60
. "$SRC/lib.sh"
sandbox_up --hubs 1
refused() { # name, program, conf, part of the message
    local out
    out=$(timeout 20 "$2" --config "$3" 2>&1)
    local s=$?
    check "$1: refused" "$([ $s -ne 0 ] && [ $s -lt 124 ] && echo yes || echo "status $s")" yes
    check_has "$1: with words" "$out" "$4"
}
refused "data folder in use" "$HUB" "$SB/hub1/berth.conf" "is used by another process"
refused "data folder of the DPS in use" "$DPS" "$SB/dps/berth.conf" "is used by another process"
"$BERTH" sandbox down --dir "$SB" >/dev/null
for s in hub1 dps; do
    prog=$HUB
    [ $s = dps ] && prog=$DPS
    d=$SB/$s/data
    cp -a "$d" "$T/$s.good"
    fresh() { rm -rf "$d"; cp -a "$T/$s.good" "$d"; }
    # the file is no database any more
    dd if=/dev/urandom of="$d/registry.db" bs=4096 count=4 conv=notrunc status=none
    rm -f "$d"/registry.db-*
    sum=$(sha256sum <"$d/registry.db")
    refused "$s, damaged database" "$prog" "$SB/$s/berth.conf" "registry.db"
    check "$s, damaged database: untouched" "$(sha256sum <"$d/registry.db")" "$sum"
    fresh
    sqlite=$(python3 - "$d/registry.db" <<'PY'
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
t = [r[0] for r in c.execute("select name from sqlite_master where type='table'") if "schema" in r[0]]
cols = [r[1] for r in c.execute(f"pragma table_info({t[0]})")]
v = [x for x in cols if "version" in x][0]
c.execute(f"update {t[0]} set {v} = 9999")
c.commit()
print("done")
PY
)
    check "$s: made newer" "$sqlite" done
    refused "$s, newer schema" "$prog" "$SB/$s/berth.conf" "newer"
    fresh
    printf '%s' "$(head -c 200 "$d/master.key" | tr '[a-y]' '[b-z]' | tr 'A-Y' 'B-Z')" >"$d/master.key"
    refused "$s, another master key" "$prog" "$SB/$s/berth.conf" "key"
    fresh
    chmod 755 "$d"
    out=$(timeout 20 "$prog" --config "$SB/$s/berth.conf" --ready-fd 7 7>"$T/$s.r" 2>&1 &
        p=$!
        wait_until 5 test -s "$T/$s.r" -o ! -d "/proc/$p"
        kill -TERM $p 2>/dev/null
        wait $p)
    check "$s, folder open to others: closed or refused" "$(stat -c %a "$d" | grep -q '^700$' && echo closed || { [ ! -s "$T/$s.r" ] && echo refused; })" \
        "$(stat -c %a "$d" | grep -q '^700$' && echo closed || echo refused)"
    fresh
    check_run "$s: the good copy starts" start "$s" "$prog" "$SB/$s/berth.conf"
done
check "and serves" "$(status_of "$(env_get 'e["hubs"][0]["serviceConnectionString"]')" GET '/devices?api-version=2021-04-12')" 200
finish
