# SPDX-License-Identifier: Apache-2.0
"""Writes small databases in MaxMind's format: mmdb({"10.0.0.0/8": {"country": {"iso_code": "DE"}}, ...}) gives the bytes."""
import ipaddress
import struct


def _head(kind, size):
    big = b"" if size < 29 else struct.pack(">B", size - 29)
    assert size < 285
    first = (kind if kind < 8 else 0) << 5 | min(size, 29)
    return bytes([first]) + (bytes([kind - 7]) if kind >= 8 else b"") + big


def _number(kind, n):
    raw = n.to_bytes(8, "big").lstrip(b"\0")
    return _head(kind, len(raw)) + raw


def _data(v):
    if isinstance(v, str):
        return _head(2, len(v.encode())) + v.encode()
    if isinstance(v, dict):
        return _head(7, len(v)) + b"".join(_data(k) + _data(x) for k, x in v.items())
    if isinstance(v, list):
        return _head(11, len(v)) + b"".join(_data(x) for x in v)
    kind, n = v
    return _number(kind, n)


def mmdb(networks, kind="Test-Country", built=1767225600):
    nodes, data, at = [[None, None]], b"", {}
    for text, record in networks.items():
        net = ipaddress.ip_network(text)
        bits = format(int(net.network_address), "0128b" if net.version == 6 else "032b")[:net.prefixlen]
        bits = bits if net.version == 6 else "0" * 96 + bits
        raw = _data(record)
        if raw not in at:
            at[raw] = len(data)
            data += raw
        node = 0
        for b in bits[:-1]:
            if nodes[node][int(b)] is None:
                nodes.append([None, None])
                nodes[node][int(b)] = len(nodes) - 1
            node = nodes[node][int(b)]
        nodes[node][int(bits[-1])] = ("data", at[raw])
    n = len(nodes)

    def record(v):
        return (n if v is None else n + 16 + v[1] if isinstance(v, tuple) else v).to_bytes(3, "big")

    meta = {"node_count": (6, n), "record_size": (5, 24), "ip_version": (5, 6), "database_type": kind, "languages": ["en"],
            "binary_format_major_version": (5, 2), "binary_format_minor_version": (5, 0), "build_epoch": (9, built), "description": {"en": kind}}
    return b"".join(record(l) + record(r) for l, r in nodes) + bytes(16) + data + b"\xab\xcd\xefMaxMind.com" + _data(meta)
