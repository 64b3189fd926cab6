# SPDX-License-Identifier: Apache-2.0
# berth-signer under its unit, with systemd as process 1 (threat:S5): it starts; the user of the front servers, and others, reach neither
# its files nor its process; in its place a program that was taken over finds no way out. As root, in a container of systemd-nspawn, from
# a Debian that debootstrap makes (BERTH_ROOT=FOLDER: one that is there; it is copied).
# time-limit: 900
. "$SRC/lib.sh"
[ "$(id -u)" = 0 ] || skip "not root"
for p in systemd-nspawn debootstrap cc; do command -v $p >/dev/null || skip "no $p"; done
PACKAGES=systemd,systemd-sysv,dbus,libssl3,libjansson4,libinih1,libsystemd0,util-linux
root=$T/root
if [ -n "${BERTH_ROOT:-}" ]; then
    cp -a "$BERTH_ROOT" "$root"
else
    debootstrap --variant=minbase --include=$PACKAGES bookworm "$root" >"$T/debootstrap.log" 2>&1 || skip "debootstrap failed: $T/debootstrap.log"
fi
cc -O1 -o "$T/probe" "$SRC/../long/signer_probe.c" || die "signer_probe.c"

# what a package would put there: the same paths as in the unit
unit=$BUILD/packaging/berth-signer.service
program=$(sed -n 's/^ExecStart=//p' "$unit")
install -D -m 755 "$SIGNER" "$root$program"
install -D -m 644 "$unit" "$root/etc/systemd/system/berth-signer.service"
install -D -m 644 "$SRC/../../packaging/berth.sysusers" "$root/usr/lib/sysusers.d/berth.conf"
install -D -m 644 "$SRC/../../packaging/berth.tmpfiles" "$root/usr/lib/tmpfiles.d/berth.conf"
install -D -m 644 "$SRC/../../packaging/signer.conf" "$root/etc/berth/signer.conf"
install -D -m 755 "$T/probe" "$root/opt/probe"
cat >"$root/opt/look" <<'S'
#!/bin/bash
# in the container, once it is up
out=/opt/out
mkdir -p $out
systemctl is-active berth-signer >$out/active
systemctl show berth-signer -p MainPID -p User -p NRestarts >$out/show
systemctl status berth-signer --no-pager >$out/status 2>&1
pid=$(systemctl show berth-signer -p MainPID --value)
stat -c %U "/proc/$pid" >$out/user
stat -c '%U %a' /var/lib/berth-signer /var/lib/berth-signer/* /run/berth-signer/socket >$out/modes
for u in berth nobody; do setpriv --reuid $u --regid "$(id -g $u)" --clear-groups /opt/probe outside "$pid" /run/berth-signer/socket /var/lib/berth-signer >$out/$u 2>&1; done
systemctl is-active berth-signer >$out/still
systemctl stop berth-signer
# the same unit, with a program that was taken over in the signer's place
cp /opt/probe "$(sed -n 's/^ExecStart=//p' /etc/systemd/system/berth-signer.service)"
mkdir -p /etc/systemd/system/berth-signer.service.d
printf '[Service]\nType=oneshot\nRestart=no\nStandardOutput=file:/opt/out/inside\n' >/etc/systemd/system/berth-signer.service.d/probe.conf
systemctl daemon-reload
systemctl start berth-signer
systemctl show berth-signer -p Result >$out/result
touch $out/end
systemctl poweroff --no-block
S
chmod 755 "$root/opt/look"
cat >"$root/etc/systemd/system/look.service" <<'U'
[Unit]
After=berth-signer.service
Wants=berth-signer.service
[Service]
Type=oneshot
ExecStart=/opt/look
[Install]
WantedBy=multi-user.target
U
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../look.service "$root/etc/systemd/system/multi-user.target.wants/look.service"
# where no systemd runs the machine, its places under /run are made for this one command
boot='[ -d /run/systemd/system ] || mount -t tmpfs none /run
exec timeout "$2" systemd-nspawn --quiet --directory="$1" --boot --register=no --keep-unit --private-network --console=pipe'
unshare -m bash -c "$boot" boot "$root" "$(patience 300)" </dev/null >"$T/boot.log" 2>&1
out=$root/opt/out
[ -e "$out/active" ] || skip "systemd does not come up in a container here: $(tail -n 1 "$T/boot.log" | tr -d '\r')"
check_run "the look came to its end" [ -e "$out/end" ]
check "it starts under its unit" "$(cat "$out/active")" active
check "as a user of its own" "$(tr -d ' ' <"$out/user")" berth-signer
check_has "at the first time" "$(cat "$out/show")" NRestarts=0
check_has "its folder is its own" "$(cat "$out/modes")" "berth-signer 700"
said() { # file, name, wanted
    check "$1: $2" "$(sed -n "s/^$2 \([a-z]*\) .*/\1/p" "$out/$1")" "$3"
}
for u in berth nobody; do
    for what in proc-environ proc-mem proc-maps proc-stack proc-fd proc-root ptrace vm-read signal pidfd-getfd \
        folder file-master.key file-lock file-folder write-folder replace-socket; do
        said $u $what refused
    done
done
said berth ask allowed
said nobody ask refused
check "and it serves on" "$(cat "$out/still")" active
for what in inet inet6 exec exec-shell ptrace vm-read write-and-execute become-root namespace mount keyring set-clock write-etc write-usr \
    read-dps read-home read-shadow devices; do
    said inside $what refused
done
said inside unix allowed
said inside own-folder allowed
check "and that program ran" "$(cat "$out/result")" Result=success
finish
