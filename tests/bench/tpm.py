# SPDX-License-Identifier: Apache-2.0
"""Row 21: TPM challenges over one kept connection, and what their key work costs in OpenSSL alone."""
import base64
import http.client
import json
import os
import ssl
import struct
import subprocess

from bench import cpu_s, say, token

POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
API = "api-version=2021-06-01"


def public(attributes, policy):
    """A TPM2B_PUBLIC of RSA 2048. Any odd number of so many bits costs what a real modulus does; nobody opens these blobs."""
    m = bytearray(os.urandom(256))
    m[0] |= 0x80
    m[-1] |= 1
    area = struct.pack(">HHIH", 1, 0xB, attributes, len(policy)) + policy
    area += struct.pack(">HHHHHIH", 6, 128, 0x43, 0x10, 2048, 0, 256) + bytes(m)
    return base64.b64encode(struct.pack(">H", len(area)) + area).decode()


def connect(bed):
    ctx = ssl.create_default_context(cafile=os.path.join(bed.sandbox, bed.env["caFile"]))
    return http.client.HTTPSConnection(bed.env["dpsHost"], int(bed.env["httpsPort"]), context=ctx)


def ask(c, method, path, body, headers):
    c.request(method, path, json.dumps(body), {"Content-Type": "application/json", **headers})
    r = c.getresponse()
    return r.status, r.read()


def enroll(bed, n):
    """n enrollments of TPMs; [(registration id, body of its first register)]"""
    c, out = connect(bed), []
    auth = {"Authorization": token(bed.env["dpsServiceConnectionString"])}
    for first in range(0, n, 10):
        part = []
        for i in range(first, min(first + 10, n)):
            ek, srk = public(0x000300B2, POLICY), public(0x00030472, b"")
            part.append({"registrationId": "tpm%05d" % i, "attestation": {"type": "tpm", "tpm": {"endorsementKey": ek}}})
            out.append(("tpm%05d" % i, {"tpm": {"endorsementKey": ek, "storageRootKey": srk}}))
        status, answer = ask(c, "POST", "/enrollments?api-version=2021-10-01", {"mode": "create", "enrollments": part}, auth)
        if status != 200:
            say(f"  enrollments of TPMs: {status} {answer[:200]}")
            return None
    c.close()
    return out


def challenges(bed, devices):
    """Server CPU microseconds of one challenge; every device asks once."""
    c, ok = connect(bed), 0
    ask(c, "GET", "/", None, {})
    before = cpu_s(bed.dps_pid)
    for rid, body in devices:
        status, answer = ask(c, "PUT", f"/{bed.env['idScope']}/registrations/{rid}/register?{API}", body, {})
        ok += status == 401 and b"authenticationKey" in answer
    spent = cpu_s(bed.dps_pid) - before
    c.close()
    return spent * 1e6 / ok if ok == len(devices) else None


def two_public_operations():
    """CPU microseconds of two RSA 2048 public operations by `openssl speed`."""
    p = subprocess.run(["openssl", "speed", "-mr", "-seconds", "1", "rsa2048"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    for line in p.stdout.splitlines():
        f = line.split(":")
        if f[0] == "+F2" and f[2] == "2048":
            return 2e6 / float(f[4])
    return None
