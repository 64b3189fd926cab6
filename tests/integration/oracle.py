# SPDX-License-Identifier: Apache-2.0
"""Timing classes of refusals: unknown id, wrong key, disabled (wrong key). Each is asked in turn over one connection, so that what else
happens on the machine meets all alike; two classes overlap when neither is the faster one clearly more often than by chance. Run by
42-oracle.sh."""
import statistics
from dps_kit import *

ROUNDS = 150
CLASSES = ("unknown", "wrong key", "disabled")
key = new_key()
enroll("enrollmentGroups", "grp", key_att(new_key()))


def ids(n):
    """A fresh id of each class: failures of one id are slowed after ten."""
    enroll("enrollments", f"known-{n}", key_att(key))
    enroll("enrollments", f"off-{n}", key_att(key), provisioningStatus="disabled")
    return {"unknown": f"ghost-{n}", "wrong key": f"known-{n}", "disabled": f"off-{n}"}


def faster_share(a, b):
    """How often a random one of a is faster than a random one of b: 0.5 when they are alike (Mann-Whitney's U over n^2)."""
    order = sorted([(x, 0) for x in a] + [(x, 1) for x in b])
    seen, wins = 0, 0
    for _, which in order:
        if which == 0:
            seen += 1
        else:
            wins += seen
    return wins / (len(a) * len(b))


def judge(transport, times, bodies):
    row(f"threat:N8 {transport}: one answer for all, but for its tracking id", len({tuple(sorted(b.items())) for b in bodies}), 1)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        share = faster_share(times[CLASSES[a]], times[CLASSES[b]])
        row(f"threat:N8 {transport}: {CLASSES[a]} and {CLASSES[b]} overlap", share, lambda v: 0.3 < v < 0.7)
        print(f"# {transport}: {CLASSES[a]} is faster than {CLASSES[b]} in {share:.3f} of the pairs; medians "
              f"{statistics.median(times[CLASSES[a]]) * 1e6:.0f} and {statistics.median(times[CLASSES[b]]) * 1e6:.0f} us")


def bare(body):
    return {k: str(v) for k, v in body.items() if k not in ("trackingId", "timestampUtc")}


def order_of(i):
    return CLASSES[i % 3:] + CLASSES[:i % 3]


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
    for c in order_of(i):
        t = time.perf_counter()
        a = device_ask(conn, "PUT", who[c], "/register", tokens[c])
        times[c].append(time.perf_counter() - t)
        bodies.append(bare(a.json))
conn.close()
judge("HTTPS", times, bodies)

# --- MQTT ------------------------------------------------------------------------------------------------------------------------------
times, bodies = {c: [] for c in CLASSES}, []
for i in range(ROUNDS):
    if i % per_id == 0:
        who, links = ids(f"m{i // per_id}"), {}
        for c, rid in who.items():
            links[c] = Mqtt(tls(env.dps, 8883, env.ca))
            assert links[c].connect(rid, f"{env.scope}/registrations/{rid}/api-version=2019-03-31", device_token(rid, new_key())) == 0
            links[c].subscribe("$dps/registrations/res/#")
    for c in order_of(i):
        t = time.perf_counter()
        links[c].publish(f"$dps/registrations/PUT/iotdps-register/?$rid={i}", b"{}", qos=1, pid=i + 10)
        topic, body = links[c].message()
        times[c].append(time.perf_counter() - t)
        assert topic.startswith("$dps/registrations/res/401/"), topic
        bodies.append(bare(json.loads(body)))
    if i % per_id == per_id - 1:
        for m in links.values():
            m.close()
judge("MQTT", times, bodies)
done()
