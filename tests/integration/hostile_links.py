# SPDX-License-Identifier: Apache-2.0
"""Run by 65-hostile-links.sh, as root: the other user is nobody."""
import random
import shutil
import stat
import tempfile

from kit import *

# A folder that the other user reaches, as the build folder may not be.
T = tempfile.mkdtemp(prefix="berth-hostile-")
atexit.register(shutil.rmtree, T, True)
ENROLL, HUB = os.environ["ENROLL"], os.environ["HUB"]
NOBODY = 65534
ROUNDS = int(os.environ.get("BERTH_ROUNDS", 40))
os.chmod(T, 0o711)
spool, victim, his = f"{T}/spool", f"{T}/victim", f"{T}/his"
os.mkdir(spool)
os.mkdir(victim)
os.mkdir(his)
os.chmod(spool, 0o1777)
os.chmod(victim, 0o755)
with open(f"{victim}/precious", "w") as f:
    f.write("precious")
os.chown(his, NOBODY, NOBODY)
with open(f"{T}/canary", "w") as f:
    f.write("untouched")
os.makedirs(f"{T}/ours", 0o700)
with open(os.open(f"{T}/ours/group.key", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
    f.write(new_key(64) + "\n")


def attack():
    """The other user: until he is killed."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    r = random.Random(1)
    n = 0
    while os.getppid() == parent:
        i = r.randrange(200)
        try:  # what looks like a burn that was interrupted
            p = f"{spool}/unit-{i}.partial-{n}"
            os.mkdir(p, 0o777)
            os.symlink(victim, p + "/factory")
        except OSError:
            pass
        # the names that are used next, and what is there already
        names = [f"unit-{i}" for i in range(200)] + ["ca"] + os.listdir(spool)
        for name in r.sample(names, 12):
            p = os.path.join(spool, name)
            n += 1
            try:
                (lambda: os.symlink(victim, p), lambda: os.symlink(f"{T}/canary", p), lambda: os.symlink(f"{his}/made-{n}", p), lambda: os.mkdir(p, 0o777),
                 lambda: os.mkfifo(p, 0o666), lambda: os.rename(p, f"{his}/taken-{n}"))[r.randrange(6)]()
            except OSError:
                pass
        for name in os.listdir(spool):  # room for what is to be made: of his own most goes again
            p = os.path.join(spool, name)
            try:
                if os.lstat(p).st_uid == NOBODY and r.random() < 0.7:
                    if stat.S_ISDIR(os.lstat(p).st_mode):
                        if os.path.lexists(p + "/factory"):
                            os.unlink(p + "/factory")
                        os.rmdir(p)
                    else:
                        os.unlink(p)
            except OSError:
                pass
        time.sleep(0.001)


def burn(n, folder=spool, station=f"{T}/ours/station"):
    p = subprocess.run([ENROLL, "burn", "--serial", f"SN-{n}", "--identity", f"{folder}/unit-{n}", "--station", station, "--id-scope", "0ne1", "--dps-host", "dps.example",
                        "--server-ca", f"{T}/ours/root.pem", "--group-key-file", f"{T}/ours/group.key"], capture_output=True, text=True, timeout=60)
    return p.returncode, p.stdout + p.stderr


def is_ours(path, mode):
    st = os.lstat(path)
    return stat.S_ISDIR(st.st_mode) and st.st_uid == 0 and stat.S_IMODE(st.st_mode) == mode


def strangers():
    """What of ours came to be in his folder, or in the victim's"""
    return [os.path.join(d, x) for top in (his, victim) for d, ds, fs in os.walk(top) for x in ds + fs
            if os.lstat(os.path.join(d, x)).st_uid == 0 and x != "precious"]


subprocess.run([ENROLL, "ca", "create", "--dir", f"{T}/ours/ca", "--name", "Works"], check=True, capture_output=True, timeout=60)
shutil.copy(f"{T}/ours/ca/root.pem", f"{T}/ours/root.pem")

# --- a folder in which he may rename what is ours ----------------------------------------------------------------------------------------
os.mkdir(f"{T}/open")
os.chmod(f"{T}/open", 0o777)
status, text = burn(1000, f"{T}/open")
row("threat:E4 no identity is made in a folder that others write", (status != 0, "can be written by others" in text, os.listdir(f"{T}/open")), (True, True, []))
os.mkdir(f"{T}/open/station", 0o700)
row("threat:E4 nor is a station's ledger kept there", burn(1001, f"{T}/ours", f"{T}/open/station")[0] != 0)
os.chown(f"{T}/open", NOBODY, NOBODY)
os.chmod(f"{T}/open", 0o755)
row("threat:E4 nor in one that is his", burn(1002, f"{T}/open")[0] != 0)

# --- a folder like /tmp, and he at work ----------------------------------------------------------------------------------------------------
parent = os.getpid()
attacker = os.fork()
if attacker == 0:
    try:
        attack()
    finally:
        os._exit(0)
odd, done_n, refused = [], 0, 0
try:
    until(20, lambda: os.listdir(spool))
    for n in range(ROUNDS):
        status, text = burn(n)
        path = f"{spool}/unit-{n}"
        if status == 0:
            done_n += 1
            whole = subprocess.run([ENROLL, "verify", path], capture_output=True, timeout=60).returncode == 0
            if not is_ours(path, 0o700) or not whole:
                odd.append((n, "done, but not ours or not whole", text))
        else:
            refused += 1
            if os.path.lexists(path) and os.lstat(path).st_uid == 0:
                odd.append((n, "refused, but something is there", text))
    created = [subprocess.run([ENROLL, "ca", "create", "--dir", f"{spool}/ca", "--name", "Works"], capture_output=True, timeout=60).returncode for _ in range(10)]
    row("threat:E4 a CA is made once, in a folder of ours, or not at all", created.count(0) <= 1 and (0 not in created or is_ours(f"{spool}/ca", 0o700)))
finally:
    os.kill(attacker, signal.SIGKILL)
    os.waitpid(attacker, 0)
row(f"threat:E4 {ROUNDS} identities beside a hostile user: whole and ours, or refused", odd, [])
print(f"# {done_n} were made, {refused} refused because something stood in the way")
row("threat:E4 some were made and he was in the way of some", (done_n > 0, len(os.listdir(his)) > 0 or refused > 0), (True, True))
row("threat:E4 nothing of ours went to his folder or through his links", strangers(), [])
row("threat:E4 the file behind his links is as it was", open(f"{T}/canary").read(), "untouched")
row("threat:E4 nothing half made stays behind", [x for x in os.listdir(spool) if os.lstat(f"{spool}/{x}").st_uid == 0 and not x.startswith(("unit-", "ca"))], [])

# --- each kind of thing in the way, one by one --------------------------------------------------------------------------------------------
for name, make in (("a link to a folder", lambda p: os.symlink(victim, p)), ("a link to a file", lambda p: os.symlink(f"{T}/canary", p)), ("a link to nothing", lambda p: os.symlink(f"{his}/x", p)),
                   ("a hard link", lambda p: os.link(f"{T}/canary", p)), ("a pipe", os.mkfifo), ("an empty folder", os.mkdir)):
    n = 2000 + len(name)
    make(f"{T}/ours/unit-{n}")
    row(f"threat:E4 identity: {name} in the way is refused", burn(n, f"{T}/ours")[0] != 0)
    make(f"{T}/ours/st-{n}")
    row(f"threat:E4 station: {name} in its place", burn(n + 500, f"{T}/ours", f"{T}/ours/st-{n}")[0] != 0, name != "an empty folder" or (lambda v: True))
for n, kind in ((3000, "partial"), (3001, "factory")):
    p = f"{spool}/unit-{n}.partial-1"
    if kind == "partial":
        os.makedirs(f"{his}/fake/factory")
        os.symlink(f"{victim}", f"{his}/fake/factory/x")
        for x in (f"{his}/fake", f"{his}/fake/factory", f"{his}/fake/factory/x"):
            os.chown(x, NOBODY, NOBODY, follow_symlinks=False)
        os.symlink(f"{his}/fake", p)
    else:
        os.mkdir(p)
        os.chown(p, NOBODY, NOBODY)
        os.symlink(victim, p + "/factory")
    row(f"threat:E4 a burn beside what looks like an interrupted one ({kind})", burn(n)[0], 0)
row("threat:E4 removes nothing of others", (os.path.exists(f"{victim}/precious"), os.path.lexists(f"{his}/fake/factory/x")), (True, True))
row("threat:E4 and touches nothing", (strangers(), open(f"{T}/canary").read(), os.path.lexists(f"{his}/x")), ([], "untouched", False))
done()
