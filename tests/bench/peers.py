# SPDX-License-Identifier: Apache-2.0
"""The peers that Berth is compared with: their configuration, as lean as they can be made without giving up what is measured."""

import os
import shutil
import subprocess

from bench import PORT, say

P_MOSQ, P_MOSQW, P_MOSQM, P_NGX, P_NGXM, P_HA, P_SINK = range(PORT, PORT + 7)


class Peers:
    def __init__(self, bed, pki):
        self.bed, self.pki = bed, pki
        self.pids = {}
        self.have = {p: shutil.which(p) is not None for p in ("mosquitto", "nginx", "haproxy")}
        for p, found in self.have.items():
            if not found:
                say(f"bench: {p} is not installed: its rows are left out")

    def version(self, program):
        flag = {"mosquitto": "-h", "nginx": "-v", "haproxy": "-v"}[program]
        p = subprocess.run([program, flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return p.stdout.splitlines()[0].split("https://")[0].strip(" -") if p.stdout else program

    def write(self, name, text):
        with open(self.bed.path(name), "w") as f:
            f.write(text)
        return self.bed.path(name)

    def mosq_conf(self, name, port, rest, ca=False):
        # no cafile where no client certificate is wanted: with one, OpenSSL builds the server's own chain anew in every handshake
        # (100 us), which mosquitto does not switch off; without set_tcp_nodelay every TLS 1.3 connect takes 40 ms longer
        return self.write(name, f"""user root
log_type error
log_dest stderr
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
persistence false
listener {port} 127.0.0.1
certfile {self.pki}/server.pem
keyfile {self.pki}/server.key
{f"cafile {self.pki}/ca.pem" if ca else ""}
{rest}
""")

    def nginx_conf(self):
        t, pki, n = self.bed.dir, self.pki, self.bed.nofile
        return self.write("nginx.conf", f"""daemon off; worker_processes 1; pid {t}/nginx.pid; user root; error_log {t}/nginx.err crit;
worker_rlimit_nofile {n};
events {{ worker_connections {n - 100}; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path {t}/n1; proxy_temp_path {t}/n2; fastcgi_temp_path {t}/n3; uwsgi_temp_path {t}/n4; scgi_temp_path {t}/n5;
  ssl_certificate {pki}/server.pem; ssl_certificate_key {pki}/server.key;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache off; ssl_session_tickets off;
  server {{ listen 127.0.0.1:{P_NGX} ssl; location / {{ return 200 "ok\\n"; }} }}
  server {{ listen 127.0.0.1:{P_NGXM} ssl; ssl_client_certificate {pki}/ca.pem; ssl_verify_client on; location / {{ return 200 "ok\\n"; }} }}
}}
""")

    def haproxy(self):
        if not self.have["haproxy"]:
            return None
        both = self.bed.path("both.pem")
        with open(os.open(both, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            for part in ("server.pem", "server.key"):
                with open(f"{self.pki}/{part}") as f:
                    out.write(f.read())
        conf = self.write("haproxy.cfg", f"""global
  maxconn 2000
  nbthread 1
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{P_HA} ssl crt {both}
  default_backend b
backend b
  server s 127.0.0.1:{P_SINK} ssl verify none
""")
        return self.bed.start("haproxy", P_HA, "haproxy", "-db", "-f", conf)

    def pid(self, name):
        """Starts the peer when it does not run yet; None when it cannot be had."""
        if name not in self.pids:
            self.pids[name] = getattr(self, name)()
        return self.pids[name]

    def again(self, name):
        """A fresh process: for memory."""
        self.bed.stop(name)
        self.pids.pop(name, None)
        return self.pid(name)

    def end(self, name):
        self.bed.stop(name)
        self.pids.pop(name, None)

    def mosq(self):
        if self.have["mosquitto"]:
            return self.bed.start("mosq", P_MOSQ, "mosquitto", "-c", self.mosq_conf("mosq.conf", P_MOSQ, "allow_anonymous true"))

    def mosqw(self):
        if not self.have["mosquitto"]:
            return None
        pw = self.bed.path("mosq.pw")
        subprocess.run(["mosquitto_passwd", "-c", "-b", pw, "bench", "bench"], check=True)
        conf = self.mosq_conf("mosqw.conf", P_MOSQW, f"allow_anonymous false\npassword_file {pw}")
        return self.bed.start("mosqw", P_MOSQW, "mosquitto", "-c", conf)

    def mosqm(self):
        if self.have["mosquitto"]:
            conf = self.mosq_conf("mosqm.conf", P_MOSQM, "require_certificate true\nuse_identity_as_username true\nallow_anonymous false", True)
            return self.bed.start("mosqm", P_MOSQM, "mosquitto", "-c", conf)

    def nginx(self):
        if self.have["nginx"]:
            return self.bed.start("nginx", P_NGX, "nginx", "-p", self.bed.dir, "-c", self.nginx_conf(), "-e", self.bed.path("nginx.err"))
