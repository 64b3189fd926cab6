# SPDX-License-Identifier: Apache-2.0
"""berth-agent and berth stream under stream_soak.py. unit-1 is never killed and its figures must agree to the byte where connections end
in order ("calm") and in one direction where they do not ("rough"); unit-2 and its forwarder are stopped, continued and killed ("wild")."""
import random
import re
import traceback

from streams_kit import *

LONG = min(patience(90), 300)  # seconds that nothing takes unless it is stuck; a killed agent is back in less
PLACES = (("calm", "unit-1"), ("rough", "unit-1"), ("wild", "unit-2"))


class Echo(threading.Thread):
    """A target: sends back what comes, with the end of its half."""

    def __init__(self):
        super().__init__(daemon=True)
        self.s = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.s.getsockname()[1]
        self.got, self.lock, self.open = 0, threading.Lock(), 0
        self.start()

    def run(self):
        while True:
            c, _ = self.s.accept()
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        n = 0
        with self.lock:
            self.open += 1
        try:
            while True:
                d = c.recv(65536)
                n += len(d)
                if not d:
                    c.shutdown(socket.SHUT_WR)
                    break
                c.sendall(d)
        except OSError:
            pass
        c.close()
        with self.lock:
            self.got += n
            self.open -= 1


class Agents:
    def __init__(self, env, stop, seed, is_short):
        self.env, self.stop, self.t = env, stop, os.environ["T"]
        self.is_short = is_short  # what waits a minute for a peer that is gone is ended by the operator
        self.rng = random.Random(seed * 1000 + 999)
        self.echo = {n: Echo() for n, _ in PLACES}
        self.p, self.port, self.lines, self.starts = {}, {}, {n: [] for n, _ in PLACES}, {}
        self.n, self.failures, self.lock, self.threads = 0, [], threading.Lock(), []
        self.sent = {n: 0 for n, _ in PLACES}
        self.got = {n: 0 for n, _ in PLACES}
        self.stdio = [0, 0, 0]  # connections, bytes there, bytes back
        self.kills = {"agent killed": 0, "berth killed": 0, "stopped": 0, "stream ended by the operator": 0}
        self.restarted = {"agent unit-2", "berth stream wild"}
        atexit.register(lambda: [p.kill() for p in self.p.values() if p.poll() is None])

    # --- programs ---------------------------------------------------------------------------------------------------------------------
    def start_programs(self):
        for unit in ("unit-1", "unit-2"):
            with open(f"{self.t}/{unit}.conf", "w") as f:
                f.write(f"[agent]\nidentity = {self.t}/{unit}\nstate = {self.t}/{unit}.state\ntelemetry-interval = 3600\n")
                for name, u in PLACES:
                    if u == unit:
                        f.write(f"[stream {name}]\ntarget = 127.0.0.1:{self.echo[name].port}\n")
            self.start_agent(unit)
        for name, _ in PLACES:
            self.start_forward(name)

    def start_agent(self, unit):
        path = f"{self.t}/{unit}.log"
        self.starts[unit] = self.starts.get(unit, 0) + 1
        with open(path, "ab") as log:
            self.p["agent " + unit] = subprocess.Popen([os.environ["AGENT"], "--config", f"{self.t}/{unit}.conf"], stdout=log, stderr=log)

        def ups():
            with open(path) as f:
                return f.read().count("event=agent.hub_up") >= self.starts[unit]

        if not until(LONG, ups):
            raise AssertionError(f"{unit} does not come up")

    def start_forward(self, name):
        unit = dict(PLACES)[name]
        with open(f"{self.t}/berth-{name}.err", "ab") as err:
            p = subprocess.Popen([os.environ["BERTH"], "stream", unit, "--to", name, "--listen", f"127.0.0.1:{self.port.get(name, 0)}", "--env",
                                  self.env.path, "--json"], stdout=subprocess.PIPE, stderr=err)
        first = json.loads(p.stdout.readline())
        assert first["event"] == "listening", first
        self.p["berth stream " + name], self.port[name] = p, first["port"]
        threading.Thread(target=self._events, args=(p, self.lines[name]), daemon=True).start()

    def _events(self, p, lines):
        for line in p.stdout:
            lines.append(json.loads(line))

    def pids(self):
        return {n: p.pid for n, p in self.p.items()}

    def sessions(self):
        return sorted((u, "open") for _, u in PLACES)

    # --- connections --------------------------------------------------------------------------------------------------------------------
    def connect(self, name):
        s = socket.create_connection(("127.0.0.1", self.port[name]), LONG)
        with self.lock:
            self.n += 1
        return s

    def say(self, s, name, data):
        """What a program says: it stops without a word when the connection ends."""
        sent = 0
        try:
            while sent < len(data):
                k = s.send(data[sent:sent + 65536])
                sent += k
        except OSError:
            pass
        with self.lock:
            self.sent[name] += sent

    def hear(self, s, name, n=None):
        out = bytearray()
        s.settimeout(LONG)
        try:
            while n is None or len(out) < n:
                d = s.recv(65536)
                if not d:
                    break
                out += d
        except (socket.timeout, TimeoutError):
            raise AssertionError("nothing comes, and no end") from None
        except OSError:
            pass
        with self.lock:
            self.got[name] += len(out)
        return bytes(out)

    @staticmethod
    def data(rng, most):
        return rng.randbytes(int(2 ** rng.uniform(0, most)))

    def calm(self, rng):
        """A question and its end, the answer and its end."""
        data, s = self.data(rng, 21), self.connect("calm")

        def ask():
            self.say(s, "calm", data)
            s.shutdown(socket.SHUT_WR)

        w = Later(ask)
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0, 0.5))
        assert self.hear(s, "calm") == data, "an echo"
        w.join(LONG)
        s.close()

    def rough(self, rng, name="rough"):
        s = self.connect(name)
        data = self.data(rng, 22)
        w = Later(self.say, s, name, data)
        how = rng.choice(["at once", "some", "deaf", "half", "all"])
        if how == "some":
            self.hear(s, name, min(len(data), 1 << rng.randrange(0, 16)))
        elif how == "deaf":
            time.sleep(rng.uniform(0.05, 0.6))
        elif how == "half":
            w.join(0.05)
            try:
                s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.hear(s, name)
        elif how == "all":
            Later(lambda: (w.join(LONG), s.shutdown(socket.SHUT_WR)))
            self.hear(s, name)
        if rng.random() < 0.5:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            s.shutdown(socket.SHUT_RDWR)  # the writer's call ends too
        except OSError:
            pass
        w.join(LONG)
        assert not w.is_alive(), "a writer is stuck"
        s.close()

    def wild(self, rng):
        try:
            self.rough(rng, "wild")
        except ConnectionError:
            time.sleep(0.05)  # its forwarder is killed, or being started again

    def by_stdio(self, rng):
        """One connection by standard input and output, to "rough" when it is killed on the way."""
        data, kill = self.data(rng, 20), not self.is_short and rng.random() < 0.3
        to = "rough" if kill else "calm"
        p = subprocess.Popen([os.environ["BERTH"], "stream", "unit-1", "--to", to, "--stdio", "--env", self.env.path], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with self.lock:
            self.n += 1
        if kill:
            w = Later(p.communicate, data)
            time.sleep(rng.uniform(0, 0.3))
            p.kill()
            w.join(LONG)
            return
        out, err = p.communicate(data, LONG)
        assert out == data and p.returncode == 0, (len(out), len(data), p.returncode, err[-200:])
        with self.lock:
            self.stdio = [a + b for a, b in zip(self.stdio, (1, len(data), len(out)))]

    # --- what happens to unit-2 -----------------------------------------------------------------------------------------------------------
    def harm(self, rng):
        what = rng.choice(["agent killed", "berth killed", "stopped", "stopped", "stream ended by the operator"])
        self.kills[what] += 1
        if what == "agent killed":
            p = self.p["agent unit-2"]
            p.kill()
            p.wait(20)
            self.start_agent("unit-2")
        elif what == "berth killed":
            p = self.p["berth stream wild"]
            p.kill()
            p.wait(20)
            self.start_forward("wild")
        elif what == "stopped":
            p = self.p[rng.choice(["agent unit-2", "berth stream wild"])]
            p.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.2, 2))
            p.send_signal(signal.SIGCONT)
        else:
            self.kill_streams(lambda s: True)
        if self.is_short:
            self.kill_streams(lambda s: s["state"] != "open")
        self.stop.wait(rng.uniform(0.5, 5))

    def kill_streams(self, wanted):
        for s in rest(self.env, self.env.hub_cs[0], "GET", f"/admin/streams?api-version={BERTH_VERSION}").json["value"]:
            if s["deviceId"] == "unit-2" and wanted(s):
                rest(self.env, self.env.hub_cs[0], "DELETE", f"/admin/streams/{s['sid']}?api-version={BERTH_VERSION}")

    # --- life ---------------------------------------------------------------------------------------------------------------------------------
    def once(self, fn, rng):
        try:
            fn(rng)
        except Exception as e:  # noqa: BLE001: any is a failure of the run
            self.failures.append(f"{fn.__name__}: {type(e).__name__} {e} at {traceback.extract_tb(e.__traceback__)[-1].lineno}, "
                                 f"{traceback.extract_tb(e.__traceback__)[1].lineno}")

    def repeat(self, fn, seed):
        rng = random.Random(seed)
        while not self.stop.is_set() and not self.failures:
            self.once(fn, rng)

    def warm_up(self):
        for fn in (self.calm, self.rough, self.by_stdio):
            self.once(fn, self.rng)
        for name, _ in PLACES:  # a session is there at the end
            self.once(lambda rng, n=name: self._ping(n), self.rng)

    def _ping(self, name):
        def try_it():
            s = self.connect(name)
            self.say(s, name, b"x")
            s.shutdown(socket.SHUT_WR)
            got = self.hear(s, name)
            s.close()
            return got == b"x"
        assert until(LONG, try_it), f"no way through to {name}"

    def start(self):
        for i, fn in enumerate([self.calm, self.calm, self.rough, self.rough, self.wild, self.wild, self.by_stdio, self.harm]):
            t = threading.Thread(target=self.repeat, args=(fn, self.rng.randrange(1 << 30) + i), daemon=True)
            t.start()
            self.threads.append(t)

    def finish(self):
        for t in self.threads:
            t.join(2 * LONG)
        return not any(t.is_alive() for t in self.threads)

    def told(self):
        return ", ".join(f"{v} x {k}" for k, v in self.kills.items()) + f", {self.stdio[0]} by standard input"

    def totals(self):
        """(row, got, wanted)"""
        def closed(name):
            return [x for x in self.lines[name] if x["event"] == "closed"]

        def at_agent(name):
            with open(f"{self.t}/unit-1.log") as f:
                text = f.read()
            v = re.findall(rf"event=agent\.stream_closed name={name} to_device=(\d+) from_device=(\d+)", text)
            return len(v), sum(int(a) for a, _ in v), sum(int(b) for _, b in v)

        until(30, lambda: self.echo["calm"].open == 0 and self.echo["rough"].open == 0)
        up, down = sum(x["bytesUp"] for x in closed("calm")), sum(x["bytesDown"] for x in closed("calm"))
        yield "calm: berth stream tells the bytes that its users counted", (up, down), (self.sent["calm"], self.got["calm"])
        want = (len(closed("calm")) + self.stdio[0], up + self.stdio[1], down + self.stdio[2])
        until(30, lambda: at_agent("calm") == want)
        yield "calm: and so does the agent, with those by standard input", at_agent("calm"), want
        yield "calm: and so does the target", self.echo["calm"].got, up + self.stdio[1]
        up, down = sum(x["bytesUp"] for x in closed("rough")), sum(x["bytesDown"] for x in closed("rough"))
        yield "rough: nobody gets more than was sent to him", (up <= self.sent["rough"], self.got["rough"] <= down), (True, True)
        yield "no target has a connection left", {n: e.open for n, e in self.echo.items() if e.open}, {}

    def end(self):
        for p in self.p.values():
            p.terminate()
        for n, p in self.p.items():
            row(f"{n} ends in order", p.wait(20), 0)
