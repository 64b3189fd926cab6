# SPDX-License-Identifier: Apache-2.0
"""Device streams for the benchmark: one device that accepts every request, and the service's POST."""

import os
import subprocess
import sys
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import kit  # noqa: E402


class Streams:
    def __init__(self, env_path):
        self.env = kit.Env(env_path)
        self.port, self.mqtts = self.env.j["httpsPort"], self.env.j["mqttsPort"]
        self.http = kit.Http(self.env.hub, self.env.ca, port=self.port, timeout=30)
        did = self.did = "stream-" + os.urandom(4).hex()
        key = kit.new_key()
        self.ask("PUT", f"/devices/{did}{kit.HUB_V}", kit.json.dumps(
            {"deviceId": did, "status": "enabled", "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}}))
        self.link = kit.Mqtt(kit.tls(self.env.hub, self.mqtts, self.env.ca))
        password = kit.sas(f"{self.env.hub}/devices/{did}", key, ttl=7200)
        if self.link.connect(did, kit.hub_user(self.env.hub, did), password, keepalive=0) != 0 or \
                self.link.subscribe("$iothub/streams/POST/#") != [1]:
            raise RuntimeError("the bench device was not let in")

    def send(self, method, path, body=""):
        self.http.send(f"{method} {path} HTTP/1.1\r\nHost: {self.env.hub}\r\nAuthorization: {kit.cs_token(self.env.hub_cs[0])}\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def answer(self):
        r = self.http.answer()
        if r.status not in (200, 204):
            raise RuntimeError(r)
        return r

    def ask(self, method, path, body=""):
        self.send(method, path, body)
        return self.answer()

    def new(self):
        """((path, authorization header) of the service's end, of the device's) of an accepted stream."""
        self.send("POST", f"/twins/{self.did}/streams/bench{kit.HUB_V}")
        topic, _ = self.link.message(30)
        q = dict(p.split("=") for p in topic.split("/")[4].lstrip("?").split("&"))
        self.link.publish(f"$iothub/streams/res/200/?$rid={q['$rid']}", b"", 0)
        h = self.answer().headers
        ends = ((h["iothub-streaming-url"], h["iothub-streaming-auth-token"]), (urllib.parse.unquote(q["$url"]), q["$auth"]))
        return [(urllib.parse.urlsplit(u).path, "Authorization: Bearer " + t) for u, t in ends]

    def line(self):
        """The same as streamload wants it."""
        return "\t".join(x for end in self.new() for x in end) + "\n"

    def hold(self, program, pid, n, settle, seconds=0):
        """What streamload tells of n streams, opened one after the other and held."""
        p = subprocess.Popen([program, "hold", "--host", self.env.hub, "--port", str(self.port), "--pid", str(pid), "-n", str(n), "--settle",
                              str(settle), "--seconds", str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        for _ in range(n):
            p.stdin.write(self.line())
            if p.stdout.readline() != "open\n":
                raise RuntimeError("streamload could not open a stream")
        p.stdin.close()
        out = kit.json.loads(p.stdout.readline())
        p.wait()
        return out
