# SPDX-License-Identifier: Apache-2.0
"""The site of 30-stream-browser.sh. usage: browser_site.py PORT BLOB RESULT"""
import base64
import hashlib
import http.server
import json
import os
import struct
import sys
import zlib

port, blob, result = int(sys.argv[1]), sys.argv[2], sys.argv[3]
PARTS = 100
PAGE = """<!doctype html><title>site</title><body><script>
const began = performance.now(); window.ran = 0; const errors = [];
addEventListener('error', e => errors.push(String((e.target && e.target.src) || e.message)), true);
</script>%s<script>
async function sha(b) {
  return [...new Uint8Array(await crypto.subtle.digest('SHA-256', b))].map(x => x.toString(16).padStart(2, '0')).join('');
}
function echo() {
  return new Promise((done, fail) => {
    const ws = new WebSocket('ws://' + location.host + '/ws'); let n = 0;
    ws.onopen = () => { for (let i = 0; i < 200; i++) ws.send('message ' + i + '.'.repeat(i * 10)); };
    ws.onmessage = e => { if (e.data !== 'message ' + n + '.'.repeat(n * 10)) fail('echo ' + n); if (++n === 200) { ws.close(); done(n); } };
    ws.onerror = () => fail('WebSocket');
  });
}
addEventListener('load', async () => {
  const out = { scripts: window.ran, images: [...document.images].filter(i => i.naturalWidth === 3).length, errors };
  try {
    const [b, n] = await Promise.all([fetch('/blob').then(r => r.arrayBuffer()), echo()]);
    out.sha256 = await sha(b); out.echoed = n;
    out.upload = (await (await fetch('/sum', { method: 'POST', body: b })).text()) === out.sha256;
  } catch (e) { errors.push(String(e)); }
  out.ms = Math.round(performance.now() - began);
  await fetch('/result', { method: 'POST', body: JSON.stringify(out) });
});
</script>""" % "".join(f'<script src="/part/{i}.js"></script><img src="/part/{i}.png">' for i in range(PARTS))


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + os.urandom(3 * width) for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + \
        chunk(b"IEND", b"")


class Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def say(self, kind, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/":
            self.say("text/html", PAGE.encode())
        elif self.path == "/ws":
            self.websocket()
        elif self.path == "/blob":
            with open(blob, "rb") as f:
                self.say("application/octet-stream", f.read())
        elif self.path.endswith(".js"):
            self.say("text/javascript", b"window.ran++; /*" + b"x" * 20000 + b"*/")
        elif self.path.endswith(".png"):
            self.say("image/png", png(3, 2000))
        else:
            self.say("image/x-icon", b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/sum":
            self.say("text/plain", hashlib.sha256(body).hexdigest().encode())
            return
        json.loads(body)
        with open(result + ".new", "wb") as f:
            f.write(body)
        os.rename(result + ".new", result)
        self.say("text/plain", b"")

    def websocket(self):
        """RFC 6455, as far as a browser's text messages go: what comes goes back."""
        accept = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
                         base64.b64encode(accept) + b"\r\n\r\n")
        self.close_connection = True
        while True:
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                return
            n = head[1] & 127
            if n == 126:
                n = struct.unpack(">H", self.rfile.read(2))[0]
            key = self.rfile.read(4)
            data = bytes(b ^ key[i % 4] for i, b in enumerate(self.rfile.read(n)))
            size = bytes([n]) if n < 126 else b"\x7e" + struct.pack(">H", n)
            self.wfile.write(bytes([head[0]]) + size + data)


http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer(("127.0.0.1", port), Site).serve_forever()
