# SPDX-License-Identifier: Apache-2.0
"""Run by 24-rivals.sh."""
import threading

from kit import *

env = Env()
host = env.hub
NET = os.environ["NET"]
K = put_device(env, "copied")
KN = put_device(env, "neighbour")


def link(source=None, did="copied", key=K):
    m = Mqtt(tls(host, 8883, env.ca, source=source, timeout=30))
    return m, m.connect(did, hub_user(host, did), sas(f"{host}/devices/{did}", key))


# --- a bad CONNECT against a live link, and a good one -----------------------------------------------------------------------------
a, c = link()
row("M9 first link", c, 0)
row("M10 a wrong key takes nothing over", [link(key=new_key())[1] for _ in range(20)], [5] * 20)
row("M10 and the link is alive", a.publish("devices/copied/messages/events/", "x"), True)
t0 = time.monotonic()
b, c = link()
row("M9 second link", c, 0)
row("M9 the first is closed within a second", a.ends(5) and within(t0, 1))

# --- the war ---------------------------------------------------------------------------------------------------------------------------
took, stop, why = [], threading.Event(), []


def neighbour():
    m, _ = link(did="neighbour", key=KN)
    n = 0
    while not stop.is_set():
        t = time.monotonic()
        n += 1
        if m.publish("devices/neighbour/messages/events/", "x", pid=n % 60000 + 1) is not True:
            why.append("closed")
            return
        took.append(time.monotonic() - t)
        stop.wait(0.01)


def fighter(source, connected):
    while not stop.is_set():
        try:
            t = time.monotonic()
            m, c = link(source)
            if c == 0:
                connected.append((t, time.monotonic() - t))
                while not (m.ends(1) or stop.is_set()):  # until the other one has taken over
                    pass
            m.close()
        except OSError:
            pass


th = threading.Thread(target=neighbour, daemon=True)
th.start()
fights = [], []
ts = [threading.Thread(target=fighter, args=(f"{NET}.{200 + i}", fights[i]), daemon=True) for i in (0, 1)]
for t in ts:
    t.start()
began = time.monotonic()
until(30, lambda: any(d > 3 for f in fights for _, d in f))
stop.set()
th.join(10)
took_s = time.monotonic() - began
waits = [d for _, d in sorted(fights[0] + fights[1])]
print(f"# {len(waits)} takeovers in {took_s:.1f} s, the last waited {waits[-1]:.1f} s; the neighbour's p99 {sorted(took)[int(len(took) * .99)] * 1000:.1f} ms")
row("D7 the first ones are let at once", [w for w in waits[:3] if w > patience(1)], [])
row("D7 then each costs more time", max(waits) > 3 and len(waits) < 30)
row("D7 the neighbour noticed nothing", (why, sorted(took)[int(len(took) * .99)] < patience(0.5)), ([], True))


def audit():
    return [e["act"] for e in rest(env, env.hub_cs[0], "GET", f"/admin/audit?api-version={BERTH_VERSION}").json["value"]]


for what, metric in (("links take over from one another", "berth_hub_takeover_wars_total"), ("used from two addresses in turn", "berth_hub_two_places_total")):
    attempt(f"D10 log: {what}", lambda: [x for x in env.log("hub1").split("\n") if "event=hub.rivals" in x and what in x and "device=copied" in x], lambda v: len(v) == 1)
    attempt(f"D10 metric: {what}", lambda: env.metrics(0)[metric], 1.0)
    attempt(f"D10 audit: {what}", lambda: until(5, lambda: f"ALARM /devices/copied: {what}" in audit()))
row("D10 nothing of the kind about the neighbour", [x for x in env.log("hub1").split("\n") if "event=hub.rivals" in x and "neighbour" in x], [])

# --- disabled: off within a second, and refused wherever it comes ---------------------------------------------------------------------
for t in ts:
    t.join(30)
m, c = link(f"{NET}.200")
row("D10 the one that is left is connected", c, 0)
t0 = time.monotonic()
put_device(env, "copied", K, enabled=False, if_match="*")
row("D10 disabled: off within a second", (m.ends(5), within(t0, 1)), (True, True))
attempt("D10 refused over MQTT", lambda: link(f"{NET}.201")[1], 5)
attempt("D10 refused over HTTPS", lambda: http(host, env.ca, "POST", f"/devices/copied/messages/events{HUB_V}",
                                               {"Authorization": sas(f"{host}/devices/copied", K)}, b"x").status, 401)


def enrollment(status, headers=None):
    key = enrollment.key
    r = rest(env, env.dps_cs, "PUT", f"/enrollments/copied{DPS_V}", {
        "registrationId": "copied", "provisioningStatus": status,
        "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}}, headers)
    assert r.status == 200, r
    return r


def register():
    """the status that it ends with"""
    m, c = dps_link(env, "copied", enrollment.key)
    return dps_register(m)[1]["status"] if c == 0 else c


enrollment.key = new_key()
enrollment("enabled")
attempt("D10 enrolled: the DPS knows it", register, "assigned")
attempt("D10 but what was disabled at the hub stays so", lambda: rest(env, env.hub_cs[0], "GET", f"/devices/copied{HUB_V}").json["status"], "disabled")
attempt("D10 and is refused with the new key as with the old", lambda: [link(key=k)[1] for k in (K, enrollment.key)], [5, 5])
enrollment("disabled", {"If-Match": "*"})
attempt("D10 disabled at the DPS: not provisioned again", register, lambda s: s in (5, "disabled"))
done()
