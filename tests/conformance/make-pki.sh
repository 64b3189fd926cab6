#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A device PKI made with openssl only: OUT/{root,int,rogue}.{pem,key}; leaves are made by the tests.
set -eu
mkdir -p "$1"
cd "$1"
umask 077
[ ! -s int.pem ] || exit 0
ca() { # name, subject
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$1.key" 2>/dev/null
    openssl req -new -x509 -sha256 -days 30 -key "$1.key" -subj "/CN=$2" -addext 'basicConstraints=critical,CA:TRUE' \
        -addext 'keyUsage=critical,keyCertSign,cRLSign' -out "$1.pem"
}
ca root 'Conformance root'
ca rogue 'Conformance root'
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out int.key 2>/dev/null
openssl req -new -sha256 -key int.key -subj '/CN=Conformance intermediate' -out int.csr
printf 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' >int.ext
openssl x509 -req -sha256 -days 30 -in int.csr -CA root.pem -CAkey root.key -set_serial "0x1$(openssl rand -hex 15)" \
    -extfile int.ext -out int.pem 2>/dev/null
