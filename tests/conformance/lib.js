'use strict';
// SPDX-License-Identifier: Apache-2.0
// What the conformance tests share: the environment, SDK clients, certificates, and the hub's event stream over HTTPS.
const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const https = require('node:https');
const path = require('node:path');
const { execFileSync } = require('node:child_process');

const env = JSON.parse(fs.readFileSync(process.env.BERTH_ENV, 'utf8'));
const caPem = fs.readFileSync(process.env.NODE_EXTRA_CA_CERTS, 'utf8');
const pki = process.env.BERTH_PKI;
const common = require('azure-iot-common');
const device = require('azure-iot-device');
const iothub = require('azure-iothub');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { ProvisioningServiceClient } = require('azure-iot-provisioning-service');
const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
const { X509Security } = require('azure-iot-security-x509');

const hubTransports = {
  mqtt: require('azure-iot-device-mqtt').Mqtt,
  mqtt_ws: require('azure-iot-device-mqtt').MqttWs,
  http: require('azure-iot-device-http').Http,
};
const dpsTransports = {
  mqtt: require('azure-iot-provisioning-device-mqtt').Mqtt,
  mqtt_ws: require('azure-iot-provisioning-device-mqtt').MqttWs,
  http: require('azure-iot-provisioning-device-http').Http,
};

let n = 0;
const uid = (p) => `${p}-${process.pid}-${crypto.randomBytes(4).toString('hex')}${n++}`;
const newKey = (bytes = 32) => crypto.randomBytes(bytes).toString('base64');
const derive = (groupKey, rid) => crypto.createHmac('sha256', Buffer.from(groupKey, 'base64')).update(rid).digest('base64');
const hubs = env.hubs.map((h) => ({ ...h, registry: iothub.Registry.fromConnectionString(h.serviceConnectionString) }));
const hubOf = (host) => hubs.find((h) => h.host === host);
const dpsService = () => ProvisioningServiceClient.fromConnectionString(env.dpsServiceConnectionString);
const body = (r) => (r && r.responseBody !== undefined ? r.responseBody : r);

function bounded(promise, ms, what) {
  let timer;
  return Promise.race([promise, new Promise((_, rej) => { timer = setTimeout(() => rej(new Error(`not within ${ms} ms: ${what}`)), ms); })])
    .finally(() => clearTimeout(timer));
}

function serviceToken(cs, ttl = 600) {
  const parts = Object.fromEntries(cs.split(';').map((x) => [x.slice(0, x.indexOf('=')), x.slice(x.indexOf('=') + 1)]));
  return common.SharedAccessSignature.create(parts.HostName, parts.SharedAccessKeyName, parts.SharedAccessKey,
    Math.floor(Date.now() / 1000) + ttl).toString();
}

// One HTTPS request by hand.
function request(host, method, urlPath, { headers = {}, body: b, cert, key } = {}) {
  return bounded(new Promise((resolve, reject) => {
    const rq = https.request({ host, port: 443, method, path: urlPath, headers, ca: caPem, cert, key, agent: false }, (rs) => {
      const chunks = [];
      rs.on('data', (c) => chunks.push(c));
      rs.on('end', () => resolve({ status: rs.statusCode, headers: rs.headers, text: Buffer.concat(chunks).toString() }));
      rs.on('error', reject);
    });
    rq.on('error', reject);
    rq.end(b);
  }), 15000, `${method} ${urlPath}`);
}

// Reads the hub's durable log from the beginning for one device until `count` messages are there.
async function events(hub, deviceId, count) {
  return bounded(new Promise((resolve, reject) => {
    const rows = [];
    const rq = https.request({
      host: hub.host, port: 443, ca: caPem, agent: false,
      path: `/messages/events?api-version=2026-11-01-berth&from=earliest&follow=true&max=${count}&device=${encodeURIComponent(deviceId)}`,
      headers: { Authorization: serviceToken(hub.serviceConnectionString) },
    }, (rs) => {
      if (rs.statusCode !== 200) { reject(new Error('monitor answered ' + rs.statusCode)); rs.resume(); return; }
      let rest = '';
      rs.on('data', (c) => {
        rest += c;
        const lines = rest.split('\n');
        rest = lines.pop();
        for (const l of lines) if (l.trim()) rows.push(JSON.parse(l));
        if (rows.length >= count) { rq.destroy(); resolve(rows); }
      });
      rs.on('end', () => (rows.length >= count ? resolve(rows) : reject(new Error(`only ${rows.length} of ${count} messages`))));
    });
    rq.on('error', (e) => { if (rows.length < count) reject(e); });
    rq.end();
  }), 12000, `${count} messages of ${deviceId}`);
}

// A device's client, or a module's when the connection string names one.
function deviceClient(t, connectionString, transport, x509) {
  const c = (/;ModuleId=/.test(connectionString) ? device.ModuleClient : device.Client).fromConnectionString(connectionString, hubTransports[transport]);
  c.setRetryPolicy(new common.NoRetry());
  c.on('error', () => {});
  t.after(() => c.close().catch(() => {}));
  const o = { ca: caPem, ...(x509 || {}) };
  if (transport === 'http') o.http = { receivePolicy: { interval: 1 } };
  return c.setOptions(o).then(() => c);
}
async function openDevice(t, cs, transport, x509) {
  const c = await deviceClient(t, cs, transport, x509);
  await bounded(c.open(), 9000, 'open over ' + transport);
  return c;
}

function register(transport, security, { payload, idScope = env.idScope } = {}) {
  const tr = new dpsTransports[transport]();
  tr.on('error', () => {});
  if (tr.setTransportOptions) tr.setTransportOptions({ pollingInterval: 500 });
  const c = ProvisioningDeviceClient.create(env.dpsHost, idScope, tr, security);
  if (payload) c.setProvisioningPayload(payload);
  return bounded(new Promise((res, rej) => c.register((e, r) => (e ? rej(e) : res(r)))), 15000, 'register over ' + transport);
}

// A leaf signed by `issuer` (int, root, rogue); {cert, key, chain}.
function leaf(cn, issuer = 'int') {
  const tmp = fs.mkdtempSync(path.join(pki, 'leaf-'));
  const f = (x) => path.join(tmp, x);
  const ssl = (...a) => execFileSync('openssl', a, { stdio: 'pipe', timeout: 10000 });
  ssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-out', f('k'));
  ssl('req', '-new', '-sha256', '-key', f('k'), '-subj', `/CN=${cn}`, '-out', f('csr'));
  fs.writeFileSync(f('ext'), 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n');
  ssl('x509', '-req', '-sha256', '-days', '10', '-in', f('csr'), '-CA', path.join(pki, issuer + '.pem'), '-CAkey', path.join(pki, issuer + '.key'),
    '-set_serial', '0x1' + crypto.randomBytes(15).toString('hex'), '-extfile', f('ext'), '-out', f('c'));
  const cert = fs.readFileSync(f('c'), 'utf8');
  const out = { cert, key: fs.readFileSync(f('k'), 'utf8'), chain: issuer === 'int' ? cert + fs.readFileSync(path.join(pki, 'int.pem'), 'utf8') : cert };
  fs.rmSync(tmp, { recursive: true });
  return out;
}

module.exports = {
  assert, body, bounded, caPem, common, crypto, derive, device, deviceClient, dpsService, env, events, fs, hubOf, hubs, iothub, leaf, newKey, openDevice,
  path, pki, register, request, serviceToken, uid, SymmetricKeySecurityClient, X509Security,
};
