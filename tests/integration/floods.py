# SPDX-License-Identifier: Apache-2.0
"""Run by 27-floods.sh. One device floods by every door it has; its neighbour's acknowledgements are counted, not timed: each must come,
however the machine is loaded. Then a day is used up."""
import threading

from kit import *

env = Env()
hub = Server(env, "hub1")
EVENTS = "devices/{}/messages/events/"
BATCH = {"Content-Type": "application/vnd.microsoft.iothub.json"}

key = {d: put_device(env, d) for d in ("flood", "calm", "spare")}


def flood_telemetry(m, stop):
    """QoS 1, without waiting for an acknowledgement"""
    one = publish_packet(EVENTS.format("flood"), b"f" * 200, 1, 7) * 50
    while not stop.is_set():
        m.send(one)


def flood_filters(m, stop):
    """subscriptions that are stored, and taken back"""
    pid = 1
    while not stop.is_set():
        m.send(subscribe_packet([("$iothub/twin/PATCH/properties/desired/#", 1)], pid) + packet(10, 2, struct.pack(">H", pid) + mstr("$iothub/twin/PATCH/properties/desired/#")))
        pid = pid % 60000 + 1


def flood_twins(m, stop):
    """patches that nearly fill the section"""
    body = json.dumps({f"k{i}": "v" * 4000 for i in range(7)}).encode()
    while not stop.is_set():
        m.send(publish_packet("$iothub/twin/PATCH/properties/reported/?$rid=1", body, 0) * 8)


def reader(m, stop, counts):
    """what the flooding device hears: it reads, so that it is its sending that is bounded"""
    while not stop.is_set():
        try:
            kind, _, b = m.recv(0.2)
            what = kind if kind != PUBLISH else b[2:2 + struct.unpack(">H", b[:2])[0]].decode().split("/?")[0]
            counts[what] = counts.get(what, 0) + 1
        except TimeoutError:
            pass
        except (Closed, OSError, ValueError):
            return


def flooded(name, fn, clean=True, wants=None):
    """the neighbour's 40 messages, two twin reads and a new link, each while the other floods"""
    m, code = hub_link(env, "flood", key["flood"], clean=clean)
    n, code2 = hub_link(env, "calm", key["calm"])
    assert (code, code2) == (0, 0)
    stop, counts = threading.Event(), {}
    if wants:
        m.subscribe(wants)
    threads = [threading.Thread(target=reader, args=(m, stop, counts), daemon=True),
               threading.Thread(target=guarded, args=(fn, m, stop), daemon=True)]
    for t in threads:
        t.start()
    acked = sum(n.publish(EVENTS.format("calm"), f"{i}", pid=i) is True for i in range(1, 41))
    row(f"{name}: the neighbour's messages", acked, 40)
    r = rest(env, env.hub_cs[0], "GET", "/twins/calm" + HUB_V)
    row(f"{name}: a service's call", r.status, 200)
    s, code = hub_link(env, "spare", key["spare"])
    row(f"{name}: another device connects", code, 0)
    s.disconnect()
    stop.set()
    for t in threads:
        t.join(patience(20))
    m.close()
    n.disconnect()
    return counts


def guarded(fn, m, stop):
    try:
        fn(m, stop)
    except (Closed, OSError, ssl.SSLError):
        pass


flooded("telemetry without a bound", flood_telemetry)
flooded("filters", flood_filters, clean=False)
c = flooded("twins", flood_twins, wants="$iothub/twin/res/#")
row("twins: what is too much is told", c, lambda c: "$iothub/twin/res/204" in c and "$iothub/twin/res/429" in c)

# --- bounds, taken over by a reload --------------------------------------------------------------------------------------------
conf = os.path.join(env.dir, "hub1", "berth.conf")
with open(conf) as f:
    plain = f.read()


def bounds(text):
    with open(conf, "w") as f:
        f.write(plain + text)
    mark = len(env.log("hub1"))
    hub.p.send_signal(signal.SIGHUP)
    assert until(20, lambda: "server.reload.done" in env.log("hub1")[mark:]), env.log("hub1")[mark:]


hub.take()
hub.start()
env.j["metrics"]["hubs"][0] = hub.status()["metrics"]
before = len(events(env, query="from=earliest&follow=false&device=flood"))
bounds("[devices]\nmessages-per-second = 20\n")
t0 = time.monotonic()
c = flooded("telemetry over the rate", flood_telemetry)
stored = len(events(env, query="from=earliest&follow=false&device=flood")) - before
took = time.monotonic() - t0
row("no more than the rate, and what was saved up", stored, lambda n: 0 < n <= 20 * (took + 2))
row("the device is named", until(10, lambda: "event=hub.rate device=flood" in env.log("hub1")))

bounds("[devices]\nmessages-per-day = 1000000\nbytes-per-day = 10000\n")
a, _ = hub_link(env, "spare", key["spare"])
n = 0
while n < 200 and a.publish(EVENTS.format("spare"), b"s" * 100, pid=n + 1) is True:
    n += 1
row("a hundred bytes a hundred times, and no more: the link is closed", (n, a.ends()), (100, True))
row("the device is named once", until(10, lambda: env.log("hub1").count("event=hub.quota device=spare")), 1)
PATH = "/devices/spare/messages/events" + HUB_V


def post(did):
    return http(env.hub, env.ca, "POST", PATH.replace("spare", did), {"Authorization": sas(f"{env.hub}/devices/{did}", key[did])}, b"x")


r = post("spare")
row("over HTTPS", (r.status, r.headers.get("iothub-errorcode")), (403, "IotHubQuotaExceeded"))
row("its neighbour", post("calm").status, 204)
a, code = hub_link(env, "spare", key["spare"])
row("it may connect", code, 0)
a.subscribe("$iothub/twin/res/#")
a.publish("$iothub/twin/PATCH/properties/reported/?$rid=4", b'{"a":1}', 0)
topic, body = a.message()
row("a patch", (topic, json.loads(body)["errorCode"]), ("$iothub/twin/res/403/?$rid=4", 403002))
a.disconnect()
row("counted", env.metrics(0).get("berth_hub_quota_total"), lambda v: v is not None and v >= 3)
hub.kill()
hub.start()
row("kill -9 begins no new day", post("spare").status, 403)
row("the neighbour's is not over either", post("calm").status, 204)
hub.stop()
hub.start()
row("nor does a stop in order", post("spare").status, 403)
done()
