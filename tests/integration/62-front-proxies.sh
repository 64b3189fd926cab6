# SPDX-License-Identifier: Apache-2.0
# Requests that front and back might read differently, sent to the hub directly and through nginx and haproxy, which keep connections to
# it and share them among clients: nothing hidden in a body or behind a head is ever carried out, and the next client of the same
# connection gets its own answers (front_proxies.py). Both proxies stream bodies as they come.
# threat:N4 hub-https:H26
# time-limit: 120
. "$SRC/lib.sh"
PATH=$PATH:/usr/sbin
command -v nginx >/dev/null && command -v haproxy >/dev/null || skip "nginx and haproxy are not here"
sandbox_up --hubs 1
mkdir -p "$T/nginx"
cat >"$T/nginx.conf" <<END
daemon off;
pid $T/nginx/pid;
error_log $T/nginx/error.log info;
worker_processes 1;
$([ "$(id -u)" -ne 0 ] || echo "user root;")
events { worker_connections 64; }
http {
    access_log $T/nginx/access.log;
    client_body_temp_path $T/nginx/b; proxy_temp_path $T/nginx/p; fastcgi_temp_path $T/nginx/f; uwsgi_temp_path $T/nginx/u; scgi_temp_path $T/nginx/s;
    upstream hub { server $NET.2:443; keepalive 1; }
    server {
        listen $NET.50:18080;
        location / {
            proxy_pass https://hub;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host \$http_host;
            proxy_request_buffering off;
            proxy_ssl_verify off; # it knows names only, no addresses, and framing is what is looked at
        }
    }
}
END
cat >"$T/haproxy.cfg" <<END
global
    maxconn 64
    log stderr format raw local0 info
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 10s
    timeout server 10s
    http-reuse always
frontend f
    bind $NET.51:18080
    default_backend b
backend b
    server hub $NET.2:443 ssl verify none
END
nginx -e "$T/nginx/error.log" -c "$T/nginx.conf" >"$T/nginx.out" 2>&1 &
PIDS+=("$!")
haproxy -db -f "$T/haproxy.cfg" >"$T/haproxy.out" 2>&1 &
PIDS+=("$!")
open_at() { (exec 3<>"/dev/tcp/$1/18080") 2>/dev/null; }
check_run "nginx listens" wait_until 10 open_at "$NET.50"
check_run "haproxy listens" wait_until 10 open_at "$NET.51"
NET=$NET py front_proxies.py
finish
