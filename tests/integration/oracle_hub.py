# SPDX-License-Identifier: Apache-2.0
"""oracle.py for a hub: MQTT CONNECT and telemetry over HTTPS. Run by 42-oracle.sh."""
import time

from kit import *
from oracle_kit import judge, turns

ROUNDS = 150
env = Env()
host = env.hub
own = put_device(env, "dev-dead", enabled=False)
put_device(env, "dev-live")
put_device(env, "dev-x509", auth={"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "0" * 64, "secondaryThumbprint": "0" * 64}})
# class: id, key of the token (None: any). The ids are of one length, so that nothing but what is stored differs.
WHO = {"unknown": ("dev-none", None), "wrong key": ("dev-live", None), "disabled": ("dev-dead", None), "disabled, its own key": ("dev-dead", own),
       "an X.509 identity": ("dev-x509", None)}
CLASSES = tuple(WHO)


def token(c):
    did, key = WHO[c]
    return sas(f"{host}/devices/{did}", key or new_key())


# --- HTTPS: one connection, so that a new one costs none of the classes --------------------------------------------------------------
times, bodies = {c: [] for c in CLASSES}, []
conn = Http(host, env.ca)
for i in range(-3, ROUNDS):  # the first ones warm up what is cold
    for c in turns(CLASSES, i):
        h = {"Authorization": token(c)}
        t = time.perf_counter()
        a = conn.ask("POST", f"/devices/{WHO[c][0]}/messages/events{HUB_V}", h, b"x")
        t = time.perf_counter() - t
        assert a.status == 401, a
        if i >= 0:
            times[c].append(t)
            body = a.json
            bodies.append({"status": a.status, "code": a.headers.get("iothub-errorcode"), "Message": body["Message"], "members": str(sorted(body))})
conn.close()
judge("hub, HTTPS", times, bodies)

# --- MQTT: the connection is made before the clock runs ----------------------------------------------------------------------------------
times, bodies = {c: [] for c in CLASSES}, []
for i in range(-3, ROUNDS):
    for c in turns(CLASSES, i):
        pw = token(c)
        m = Mqtt(tls(host, 8883, env.ca))
        t = time.perf_counter()
        code = m.connect(WHO[c][0], hub_user(host, WHO[c][0]), pw)
        t = time.perf_counter() - t
        ended = m.ends(20)
        m.close()
        if i >= 0:
            times[c].append(t)
            bodies.append({"code": code, "closed": ended})
judge("hub, MQTT", times, bodies)
done()
