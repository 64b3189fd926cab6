# SPDX-License-Identifier: Apache-2.0
"""Device streams for the benchmark: one device that accepts every request, and the service's POST."""

import os
import sys
import threading
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
import kit  # noqa: E402


class Streams:
    def __init__(self, env_path, did="stream-bench"):
        self.env = kit.Env(env_path)
        self.port, self.mqtts = self.env.j["httpsPort"], self.env.j["mqttsPort"]
        self.did, key = did, kit.new_key()
        self.ask("PUT", f"/devices/{did}{kit.HUB_V}", kit.json.dumps(
            {"deviceId": did, "status": "enabled", "authentication": {"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}}}))
        self.link = kit.Mqtt(kit.tls(self.env.hub, self.mqtts, self.env.ca))
        if self.link.connect(did, kit.hub_user(self.env.hub, did), kit.sas(f"{self.env.hub}/devices/{did}", key)) != 0 or \
                self.link.subscribe("$iothub/streams/POST/#") != [1]:
            raise RuntimeError("the bench device was not let in")

    def ask(self, method, path, body=None):
        c = kit.Http(self.env.hub, self.env.ca, port=self.port)
        h = {"Authorization": kit.cs_token(self.env.hub_cs[0]), "Content-Length": "0"}
        r = c.ask(method, path, h if body is None else dict(h, **{"Content-Length": str(len(body))}), body)
        c.close()
        if r.status not in (200, 204):
            raise RuntimeError(r)
        return r

    def new(self):
        """((path, authorization header) of the service's end, of the device's) of an accepted stream."""
        got = {}

        def post():
            got["r"] = self.ask("POST", f"/twins/{self.did}/streams/bench{kit.HUB_V}")

        t = threading.Thread(target=post)
        t.start()
        topic, _ = self.link.message(10)
        q = dict(p.split("=") for p in topic.split("/")[4].lstrip("?").split("&"))
        self.link.publish(f"$iothub/streams/res/200/?$rid={q['$rid']}", b"", 0)
        t.join(10)
        h = got["r"].headers
        ends = ((h["iothub-streaming-url"], h["iothub-streaming-auth-token"]), (urllib.parse.unquote(q["$url"]), q["$auth"]))
        return [(urllib.parse.urlsplit(u).path, "Authorization: Bearer " + t) for u, t in ends]

    def open(self, ends):
        """Both WebSockets of an accepted stream, held open."""
        socks = []
        for path, auth in ends:
            s = kit.tls(self.env.hub, self.port, self.env.ca)
            s.sendall((f"GET {path} HTTP/1.1\r\nHost: {self.env.hub}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{auth}\r\n\r\n").encode())
            if b" 101 " not in s.recv(4096):
                raise RuntimeError("upgrade refused")
            socks.append(s)
        return socks
