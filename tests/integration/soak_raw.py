# SPDX-License-Identifier: Apache-2.0
"""Raw WebSocket peers of stream_soak.py: one device and its service; every round opens a stream and ends it in one of many ways."""
import random
import traceback

from streams_kit import *

V1 = "berth.streams.v1"
LONG = min(patience(60), 300)  # seconds that nothing takes unless it is stuck


class SoakEnd(End):
    """Counts what it was sent and what it got; an empty message is the end of the other's half."""

    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        assert self.status == 101, self.head
        self.sent = self.got = 0

    def say(self, data, size):
        for i in range(0, len(data), size):
            self.sent += len(data[i:i + size])  # before: it may have left when the call fails
            self.send(data[i:i + size])

    def hear(self, n=None):
        """n bytes, or all up to the end of the half or of the stream."""
        out = bytearray()
        while n is None or len(out) < n:
            f = self.frame(LONG)
            if f is None or f[0] == 8:
                self.closed = "eof" if f is None else (struct.unpack(">H", f[2][:2])[0] if f[2] else None, f[2][2:].decode())
                break
            if f[0] == 9:
                self.send(f[2], 10)
            elif f[0] == 2 and not f[2]:
                break
            elif f[0] == 2:
                out += f[2]
        self.got += len(out)
        return bytes(out)


class RawPeer(threading.Thread):
    def __init__(self, env, stop, seed, index):
        super().__init__(daemon=True)
        self.env, self.stop, self.index = env, stop, index
        self.rng = random.Random(seed * 1000 + index)
        self.did = f"soak-{index}"
        self.key = put_device(env, self.did)
        self.dev, self.dev_since, self.rejects = None, 0, False
        self.n, self.failures, self.records = 0, [], {}
        self.ways = [getattr(self, w) for w in sorted(dir(RawPeer)) if w.startswith("way_")]

    # --- the device and its streams -----------------------------------------------------------------------------------------------
    def device(self):
        if self.dev is None or not self.dev.thread.is_alive() or time.monotonic() - self.dev_since > 45:
            self.rest()
            self.dev = Device(self.env, self.did, self.key, answer=lambda rq: None if "mute" in rq["name"] else "no" not in rq["name"])
            self.dev_since = time.monotonic()
        return self.dev

    def rest(self):
        if self.dev is not None:
            self.dev.end()
            self.dev.thread.join(10)
            self.dev = None

    def name(self, word):
        self.n += 1
        return f"{word}-{self.index}-{self.n}"

    def asked(self, name):
        while True:
            rq = self.dev.request(LONG)
            if rq["name"] == name:
                return rq

    def pair(self, word, protocol=None):
        """(device end, service end) of a stream that is open; its bytes are judged at the end."""
        dev, name = self.device(), self.name(word)
        asking = Later(post, self.env, self.did, name, 20, 30)
        rq = self.asked(name)

        def service():
            r = asking.get(LONG)
            assert r.status == 200, r
            return SoakEnd(self.env, r.headers["iothub-streaming-url"], r.headers["iothub-streaming-auth-token"], protocol=protocol)

        if self.rng.random() < 0.5:
            d, s = SoakEnd(self.env, rq["url"], rq["auth"], protocol=protocol), service()
        else:
            s = service()
            d = SoakEnd(self.env, rq["url"], rq["auth"], protocol=protocol)
        self.records[name] = [d, s, False]
        assert dev is self.dev
        return name, rq, d, s

    def exact(self, name):
        self.records[name][2] = True

    def data(self, most=1 << 20):
        return self.rng.randbytes(int(2 ** self.rng.uniform(0, most.bit_length() - 1)))

    def size(self):
        return int(2 ** self.rng.uniform(8, 17))

    def both_ways(self, d, s, read_after=0.0):
        up, down = self.data(), self.data()
        writers = [Later(s.say, up, self.size()), Later(d.say, down, self.size())]
        if read_after:
            time.sleep(read_after)
        other = Later(d.hear, len(up))
        assert s.hear(len(down)) == down, "bytes to the service"
        assert other.get(LONG) == up, "bytes to the device"
        for w in writers:
            assert w.get(LONG) is None and not w.is_alive(), "a writer is stuck"

    def over(self, *ends, codes=None):
        """Each hears how the stream ended, and its connection ends."""
        for e in ends:
            how = e.end(LONG)
            code = how[0] if isinstance(how, tuple) else how
            assert codes is None or code in codes, f"ended with {how}"
            assert e.is_gone(LONG), "the connection stays"
            e.drop()

    # --- ways -------------------------------------------------------------------------------------------------------------------------
    def way_close(self):
        name, _, d, s = self.pair("close")
        self.both_ways(d, s)
        first, second = self.rng.sample([d, s], 2)
        first.close()
        self.over(first, second, codes=[1000])
        self.exact(name)

    def way_close_both(self):
        name, _, d, s = self.pair("both")
        self.both_ways(d, s)
        d.close()
        s.close()
        self.over(d, s, codes=[1000])
        self.exact(name)

    def way_vanish(self):
        name, _, d, s = self.pair("vanish")
        self.both_ways(d, s)
        gone, left = self.rng.sample([d, s], 2)
        (gone.reset if self.rng.random() < 0.5 else gone.drop)()
        self.over(left, codes=[1011])
        self.exact(name)

    def way_cut(self):
        """Gone in the middle of what is sent both ways."""
        _, _, d, s = self.pair("cut")
        data = [self.data(1 << 22) for _ in (d, s)]
        writers = [Later(e.say, x, self.size()) for e, x in zip((d, s), data)]
        gone, left = self.rng.sample([d, s], 2)
        if self.rng.random() < 0.5:
            gone.hear(min(*map(len, data), 1 << self.rng.randrange(4, 12)))
        gone.reset()
        left.hear()
        self.over(left)
        self.joined(writers)

    def joined(self, writers):
        for w in writers:
            w.join(LONG)
            assert not w.is_alive(), "a writer is stuck"

    def way_stall(self):
        name, _, d, s = self.pair("stall")
        self.both_ways(d, s, self.rng.uniform(0.05, 1))
        s.close()
        self.over(s, d, codes=[1000])
        self.exact(name)

    def way_stall_cut(self):
        """Nobody reads what a writer has ready; then one of them goes."""
        _, _, d, s = self.pair("stallcut")
        writer, deaf = self.rng.sample([d, s], 2)
        w = Later(writer.say, self.rng.randbytes(4 << 20), 65536)
        time.sleep(self.rng.uniform(0.05, 0.5))
        gone, left = (writer, deaf) if self.rng.random() < 0.5 else (deaf, writer)
        gone.reset()
        if left is deaf:
            left.hear()
        self.joined([w])
        self.over(left)

    def way_halves(self):
        name, _, d, s = self.pair("halves", V1)
        a, b = self.rng.sample([d, s], 2)
        for one, two in ((a, b), (b, a)):
            data = self.data()
            w = Later(lambda e=one, x=data: (e.say(x, self.size()), e.send(b"")))
            assert two.hear() == data, "a half"
            self.joined([w])
        a.close()
        self.over(a, b, codes=[1000])
        self.exact(name)

    def way_operator(self):
        _, rq, d, s = self.pair("operator")
        writers = [Later(e.say, self.data(1 << 22), self.size()) for e in (d, s)]
        sid = rq["url"].split("/sid/")[1].split("/")[0]
        r = rest(self.env, self.env.hub_cs[0], "DELETE", f"/admin/streams/{sid}?api-version={BERTH_VERSION}")
        assert r.status == 204, r
        others = [Later(e.hear) for e in (d, s)]
        self.joined(others)
        self.over(d, s, codes=[1008, "eof"])
        self.joined(writers)

    def way_reject(self):
        self.device()
        name = self.name("no")
        r = post(self.env, self.did, name, 20, 30)
        assert r.status == 200 and r.headers["iothub-streaming-is-accepted"] == "False", r

    def way_hang_up(self):
        """The caller goes while the device thinks."""
        dev, name = self.device(), self.name("mute")
        c = Http(self.env.hub, self.env.ca)
        c.send(f"POST /twins/{self.did}/streams/{name}{API} HTTP/1.1\r\nHost: {self.env.hub}\r\n"
               f"Authorization: {cs_token(self.env.hub_cs[0])}\r\nContent-Length: 0\r\n\r\n".encode())
        rq = self.asked(name)
        c.close()
        if self.rng.random() < 0.5:
            dev.do(dev.say, 200, rq["rid"])

    def way_alone(self):
        """The device's end comes before its answer, says something, and the request is rejected or the end goes."""
        dev, name = self.device(), self.name("mute")
        asking = Later(post, self.env, self.did, name, 20, 30)
        rq = self.asked(name)
        d = SoakEnd(self.env, rq["url"], rq["auth"])
        d.say(self.data(1 << 14), self.size())
        if self.rng.random() < 0.5:
            d.close()
            self.over(d)
        dev.do(dev.say, 400, rq["rid"])
        asking.get(LONG)
        d.drop()

    def way_link_lost(self):
        """The device's link goes while it is asked, and comes back."""
        self.device()
        name = self.name("mute")
        asking = Later(post, self.env, self.did, name, 20, 30)
        self.asked(name)
        self.rest()
        dev = self.device()
        rq = self.asked(name)
        dev.do(dev.say, 400, rq["rid"])
        assert asking.get(LONG).status == 200, asking.out

    def way_frames(self):
        """Whatever a frame can be; at last one that breaks the protocol."""
        name, _, d, s = self.pair("frames")
        a, b = self.rng.sample([d, s], 2)
        a.send(b"", fin=True)
        a.send(b"abc", fin=False)
        a.send(b"", 0, fin=False)
        a.send(b"hello", 9)
        a.send(b"def", 0)
        a.send(b"ghi", 1)
        a.sent += 9
        assert b.hear(9) == b"abcdefghi", "fragments"
        a.raw(self.rng.choice([b"\x82\1a", b"\xc2\x81abcda", b"\x83\x81abcda", b"\x09\x80abcd", b"\x80\x81abcda"]))
        self.over(a, codes=[1002])
        self.over(b, codes=[1011])
        self.exact(name)

    def way_talk(self):
        name, _, d, s = self.pair("talk")
        for _ in range(self.rng.randrange(5, 50)):
            x = self.rng.randbytes(self.rng.randrange(1, 200))
            s.say(x, 1000)
            assert d.hear(len(x)) == x, "a question"
            d.say(x, 1000)
            assert s.hear(len(x)) == x, "an answer"
        d.close()
        self.over(d, s, codes=[1000])
        self.exact(name)

    # --- life -------------------------------------------------------------------------------------------------------------------------
    def once(self, way):
        try:
            way()
        except Exception as e:  # noqa: BLE001: any is a failure of the run
            self.failures.append(f"{way.__name__} of peer {self.index}, stream {self.n}: {type(e).__name__} {e} at "
                                 f"{traceback.extract_tb(e.__traceback__)[-1].lineno}, {traceback.extract_tb(e.__traceback__)[1].lineno}")

    def warm_up(self):
        for w in self.ways if self.index == 0 else self.ways[:1]:
            self.once(w)

    def run(self):
        while not self.stop.is_set() and not self.failures:
            self.once(self.rng.choice(self.ways))
        self.rest()

    def finish(self):
        self.join(3 * LONG)
        return not self.is_alive()

    def judge(self, by_name):
        """Streams whose audited bytes cannot be."""
        for name, (d, s, exact) in self.records.items():
            lines = by_name.get(name, [])
            if len(lines) != 1:
                yield name, "lines in the audit trail", len(lines)
                continue
            _, from_device, from_service = lines[0]
            good = s.got <= from_device <= d.sent and d.got <= from_service <= s.sent
            if exact:
                good = good and from_device == d.sent == s.got and from_service == s.sent == d.got
            if not good:
                yield name, exact, (d.sent, from_device, s.got), (s.sent, from_service, d.got)
