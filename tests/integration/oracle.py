# SPDX-License-Identifier: Apache-2.0
"""Timing classes of refusals of the DPS: unknown id, wrong key, disabled (wrong key). Each is asked in turn over one connection. Run by
42-oracle.sh."""
from dps_kit import *
from oracle_kit import judge, turns

ROUNDS = 150
CLASSES = ("unknown", "wrong key", "disabled")
key = new_key()
enroll("enrollmentGroups", "grp", key_att(new_key()))


def ids(n):
    """A fresh id of each class: failures of one id are slowed after ten."""
    enroll("enrollments", f"known-{n}", key_att(key))
    enroll("enrollments", f"off-{n}", key_att(key), provisioningStatus="disabled")
    return {"unknown": f"ghost-{n}", "wrong key": f"known-{n}", "disabled": f"off-{n}"}


def bare(body):
    return {k: str(v) for k, v in body.items() if k not in ("trackingId", "timestampUtc")}


# --- HTTPS ---------------------------------------------------------------------------------------------------------------------------
per_id = 8
times, bodies = {c: [] for c in CLASSES}, []
conn = Http(env.dps, env.ca)
for i in range(ROUNDS):
    if i % per_id == 0:
        who = ids(f"h{i // per_id}")
        tokens = {c: device_token(rid, new_key()) for c, rid in who.items()}
        for c in CLASSES:
            device_ask(conn, "PUT", who[c], "/register", tokens[c])  # what is cold is the same for all
    for c in turns(CLASSES, i):
        t = time.perf_counter()
        a = device_ask(conn, "PUT", who[c], "/register", tokens[c])
        times[c].append(time.perf_counter() - t)
        bodies.append(bare(a.json))
conn.close()
judge("DPS, HTTPS", times, bodies)

# --- MQTT ------------------------------------------------------------------------------------------------------------------------------
times, bodies = {c: [] for c in CLASSES}, []
for i in range(ROUNDS):
    if i % per_id == 0:
        who, links = ids(f"m{i // per_id}"), {}
        for c, rid in who.items():
            links[c] = Mqtt(tls(env.dps, 8883, env.ca))
            assert links[c].connect(rid, f"{env.scope}/registrations/{rid}/api-version=2019-03-31", device_token(rid, new_key())) == 0
            links[c].subscribe("$dps/registrations/res/#")
    for c in turns(CLASSES, i):
        t = time.perf_counter()
        links[c].publish(f"$dps/registrations/PUT/iotdps-register/?$rid={i}", b"{}", qos=1, pid=i + 10)
        topic, body = links[c].message()
        times[c].append(time.perf_counter() - t)
        assert topic.startswith("$dps/registrations/res/401/"), topic
        bodies.append(bare(json.loads(body)))
    if i % per_id == per_id - 1:
        for m in links.values():
            m.close()
judge("DPS, MQTT", times, bodies)
done()
