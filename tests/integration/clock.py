# SPDX-License-Identifier: Apache-2.0
"""Run by 26-clock.sh. This program's own clock is right; that of the servers and of the agent is set."""
import hashlib

from kit import *

T = os.environ["T"]
DAY, YEAR = 86400, 365 * 86400
P = f"?api-version={BERTH_VERSION}"
SHIM = {"LD_PRELOAD": os.path.join(T, "clock.so"), "CLOCK_SHIM": os.path.join(T, "clock")}
env = Env()
hub, dps = Server(env, "hub1"), Server(env, "dps")


def set_clock(seconds):
    with open(SHIM["CLOCK_SHIM"], "r+b") as f:
        f.write(struct.pack("=q", seconds))


def shimmed(start):
    os.environ.update(SHIM)
    try:
        return start()
    finally:
        for k in SHIM:
            del os.environ[k]


conf = os.path.join(env.dir, "hub1", "berth.conf")
with open(conf, "a") as f:
    f.write("[log]\nretention-s = 3600\nsegment-bytes = 1M\n[devices]\nmessages-per-day = 100000\n")
key = {d: put_device(env, d) for d in ("old", "new", "keeper", "big")}
hub.take()
dps.take()
shimmed(hub.start)
shimmed(dps.start)
for c in (env.hub_cs[0], env.dps_cs):  # what is steady now is the floor; else it takes an hour to be
    assert rest(env, c, "POST", "/admin/clock/accept" + P).status < 300


def clock(c):
    return rest(env, c, "GET", "/admin/clock" + P, token=cs_token(c, 20 * YEAR)).json


row("the clock counts as right", until(40, lambda: clock(env.hub_cs[0])["tokenFloor"][:2] == "20" and clock(env.dps_cs)["tokenFloor"][:2] == "20"))


class Agent:
    log = os.path.join(T, "agent.log")

    def __init__(self):
        with open(self.log, "ab") as log:
            self.p = shimmed(lambda: subprocess.Popen([os.environ["AGENT"], "--config", os.path.join(T, "agent.conf")], stdout=log, stderr=log))

    def said(self, word, since=0):
        with open(self.log, errors="replace") as f:
            return f.read()[since:].count(word)

    def end(self):
        self.p.terminate()
        return self.p.wait(patience(20))


def files(root):
    """what the folder of an identity holds: names and hashes of keys and certificates"""
    out = {}
    for d, _, names in os.walk(root):
        for n in names:
            if n.endswith((".key", ".pem", "key", ".json")) and n != "assignment.json":
                with open(os.path.join(d, n), "rb") as f:
                    out[os.path.relpath(os.path.join(d, n), root)] = hashlib.sha256(f.read()).hexdigest()
    return out


agent = Agent()
row("the agent is connected, with a certificate", until(40, lambda: agent.said("event=agent.hub_up") and os.path.exists(os.path.join(T, "unit-1", "current"))))
kept = files(os.path.join(T, "unit-1"))
row("it has a key and a certificate of its own to keep", sum(x.startswith("a/device.") for x in kept), 2)
k, code = hub_link(env, "keeper", key["keeper"], clean=False)
row("filters that outlive a link", k.subscribe(("$iothub/twin/PATCH/properties/desired/#", 1)), [1])
k.disconnect()
link, code = hub_link(env, "old", key["old"], ttl=20 * YEAR)
assert code == 0
sent = []


def send(n, m=None):
    for _ in range(n):
        body = f"m{len(sent)}"
        if (m or link).publish("devices/old/messages/events/", body, pid=len(sent) % 60000 + 1) is not True:
            return False
        sent.append(body)
    return True


def stored():
    rows = rest(env, env.hub_cs[0], "GET", f"/messages/events{P}&from=earliest&follow=false&device=old", token=cs_token(env.hub_cs[0], 20 * YEAR))
    assert rows.status == 200, rows
    return [json.loads(x)["body"] for x in rows.body.decode().split("\n") if x.strip()]


def refused(log, mark, word):
    return until(10, lambda: word in env.log(log)[mark:])


row("telemetry flows", send(50))
b, code = hub_link(env, "big", key["big"])
row("whole segments of it", sum(b.publish("devices/big/messages/events/", b"B" * 200000, pid=i) is True for i in range(1, 13)), 12)
b.disconnect()


def kept_big():
    """messages in segments that were finished long ago"""
    rows = rest(env, env.hub_cs[0], "GET", f"/messages/events{P}&from=earliest&follow=false&device=big", token=cs_token(env.hub_cs[0], 20 * YEAR))
    return rows.body.decode().count("BBB\"")


row("are on disk", kept_big(), 12)


def register(rid, ttl):
    """(last status, where it is assigned)"""
    conn = env.dps_cs
    k = new_key()
    r = rest(env, conn, "PUT", f"/enrollments/{rid}{DPS_V}", {"registrationId": rid, "attestation": {
        "type": "symmetricKey", "symmetricKey": {"primaryKey": k, "secondaryKey": k}}}, token=cs_token(conn, ttl))
    assert r.status == 200, r
    m, code = dps_link(env, rid, k, ttl=ttl)
    if code != 0:
        return code, None
    seen, j = dps_register(m, rid="7")
    m.close()
    return (seen[-1], (j or {}).get("status")), k


for name, by in (("a day ahead", DAY), ("a day back", -DAY), ("ten years ahead", 10 * YEAR), ("ten years back", -10 * YEAR)):
    far = abs(by) > YEAR
    mark, dmark = len(env.log("hub1")), len(env.log("dps"))
    set_clock(by)
    row(f"{name}: the link goes on, telemetry is stored", send(20) and link.ping())
    row(f"{name}: the agent lives", agent.p.poll(), None)
    row(f"{name}: nothing that was stored is gone", stored(), sent)
    row(f"{name}: it is told", refused("hub1", mark, "event=server.clock.jumped") if not far else True)
    row(f"{name}: the clock does not count as steady", clock(env.hub_cs[0])["isSteady"], False)
    m, code = hub_link(env, "new", key["new"], password=sas(f"{env.hub}/devices/new", key["new"], ttl=-400))
    row(f"{name}: a token that is over is refused", code, 5)
    row(f"{name}: and the log says why", refused("hub1", mark, "expired"))
    m, code = hub_link(env, "new", key["new"], ttl=20 * YEAR)
    row(f"{name}: a good one opens a link", code, 0)
    m.disconnect()
    got, k = register(f"r{by}", 20 * YEAR)
    # ten years off the hub's certificate is over, or not yet valid: a new connection to it waits, which the log says; a kept one serves
    row(f"{name}: a device registers", got, lambda g: g == ("200", "assigned") or (far and g[0] == "202" and refused("dps", dmark, "certificate")))
    row(f"{name}: nor of what is in older segments", kept_big(), 12)
    set_clock(0)
    row(f"{name}, and right again: the link goes on", send(20) and link.ping())
    row(f"{name}, and right again: all is there", stored(), sent)
    m, code = hub_link(env, "new", key["new"])
    row(f"{name}, and right again: a new token serves", code, 0)
    m.disconnect()
    if far:
        row(f"{name}, and right again: the registration ends well", until(60, lambda: rest(env, env.dps_cs, "GET", f"/registrations/r{by}{DPS_V}").json.get("status")), "assigned")

# the agent alone, begun while its clock is wrong: the servers' certificates are over or not yet valid for it
agent.end()
for name, by in (("ten years ahead", 10 * YEAR), ("ten years back", -10 * YEAR)):
    set_clock(by)
    mark = os.path.getsize(Agent.log)
    agent = Agent()
    row(f"an agent whose clock is {name} tries again and again", until(60, lambda: agent.said("_failed", mark) + agent.said("hub_down", mark) >= 2))
    row(f"{name}: it lives", agent.p.poll(), None)
    set_clock(0)
    row(f"{name}, and right again: it connects", until(90, lambda: agent.said("event=agent.hub_up", mark)))
    row(f"{name}: it has thrown nothing away", set(kept.items()) <= set(files(os.path.join(T, "unit-1")).items()))
    agent.end()
k, code = hub_link(env, "keeper", key["keeper"], clean=False)
row("the stored filters are there", (code, k.session_present), (0, 1))
for name, args in (("hub", ["hub", "audit", "--hub", "1"]), ("dps", ["dps", "audit"])):
    file = os.path.join(T, name + ".audit")
    with open(file, "wb") as f:
        subprocess.run([os.environ["BERTH"], *args, "--env", env.path], stdout=f, timeout=patience(60))
    r = subprocess.run([os.environ["BERTH"], "audit", "verify", file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=patience(60))
    row(f"the audit trail is unbroken: {name}", (r.returncode, r.stdout), lambda x: x[0] == 0)
done()
