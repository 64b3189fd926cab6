'use strict';
// SPDX-License-Identifier: Apache-2.0
// The hub as the official device and service SDKs see it.
const { test } = require('node:test');
const L = require('./lib');

const hub = L.hubs[0];
async function newDevice(t, extra = {}) {
  const deviceId = L.uid('dev');
  const d = L.body(await hub.registry.create({ deviceId, ...extra }));
  t.after(() => hub.registry.delete(deviceId).catch(() => {}));
  return d;
}
const cs = (d) => `HostName=${hub.host};DeviceId=${d.deviceId};SharedAccessKey=${d.authentication.symmetricKey.primaryKey}`;

for (const p of ['mqtt', 'mqtt_ws']) {
  test(`twin by the device SDK, ${p}`, async (t) => {
    const d = await newDevice(t);
    const c = await L.openDevice(t, cs(d), p);
    const twin = await L.bounded(c.getTwin(), 8000, 'getTwin');
    L.assert.equal(twin.properties.desired.$version, 1);
    const seen = new Promise((r) => twin.on('properties.desired.interval', r));
    await L.bounded(new Promise((res, rej) => twin.properties.reported.update({ fw: '1.2', deep: { a: [1, 'x'] } }, (e) => (e ? rej(e) : res()))), 8000, 'reported');
    const t1 = L.body(await hub.registry.getTwin(d.deviceId));
    L.assert.equal(t1.properties.reported.fw, '1.2');
    L.assert.deepEqual(t1.properties.reported.deep, { a: [1, 'x'] });
    L.assert.equal(t1.properties.reported.$version, 2);
    await hub.registry.updateTwin(d.deviceId, { properties: { desired: { interval: 7 } } }, t1.etag);
    L.assert.equal(await L.bounded(seen, 8000, 'desired notification'), 7);
    await L.assert.rejects(hub.registry.updateTwin(d.deviceId, { properties: { desired: { interval: 8 } } }, t1.etag));
    // an invalid patch is refused with a body that this SDK recognises
    await L.assert.rejects(L.bounded(new Promise((res, rej) => twin.properties.reported.update({ 'a#b': 1 }, (e) => (e ? rej(e) : res()))), 8000, 'bad patch'));
  });
}

test('1000 messages in flight arrive once each and in order', async (t) => {
  const d = await newDevice(t);
  const c = await L.openDevice(t, cs(d), 'mqtt');
  const N = 1000;
  await L.bounded(Promise.all(Array.from({ length: N }, (_, i) => c.sendEvent(new L.device.Message(String(i))))), 20000, 'acknowledgements');
  const rows = await L.events(hub, d.deviceId, N);
  L.assert.deepEqual(rows.map((r) => Number(r.body)), Array.from({ length: N }, (_, i) => i));
  const seqs = rows.map((r) => r.sequenceNumber);
  for (let i = 1; i < seqs.length; i++) L.assert.ok(seqs[i] > seqs[i - 1]);
});

test('batch over HTTPS', async (t) => {
  const d = await newDevice(t);
  const c = await L.openDevice(t, cs(d), 'http');
  const list = [0, 1, 2].map((i) => { const m = new L.device.Message('b' + i); m.properties.add('i', String(i)); return m; });
  await L.bounded(c.sendEventBatch(list), 8000, 'batch');
  const rows = await L.events(hub, d.deviceId, 3);
  L.assert.deepEqual(rows.map((r) => [r.body, r.properties.i]), [['b0', '0'], ['b1', '1'], ['b2', '2']]);
});

test('regenerated keys end the link and the old key', async (t) => {
  const d = await newDevice(t);
  const c = await L.openDevice(t, cs(d), 'mqtt');
  const gone = new Promise((r) => c.once('disconnect', r));
  const fresh = { ...d, authentication: { type: 'sas', symmetricKey: { primaryKey: L.newKey(), secondaryKey: L.newKey() } } };
  const t0 = Date.now();
  const u = L.body(await hub.registry.update(fresh));
  await L.bounded(gone, 5000, 'disconnect');
  L.assert.ok(Date.now() - t0 < 2000, 'within two seconds, client overhead included');
  await L.assert.rejects(L.openDevice(t, cs(d), 'mqtt'));
  await L.openDevice(t, cs(u), 'mqtt');
});

test('deleting the device ends its link', async (t) => {
  const d = await newDevice(t);
  const c = await L.openDevice(t, cs(d), 'mqtt');
  const gone = new Promise((r) => c.once('disconnect', r));
  await hub.registry.delete(d.deviceId);
  await L.bounded(gone, 5000, 'disconnect');
});

test('service plane by hand: versions, tokens, ETags', async (t) => {
  const tok = L.serviceToken(hub.serviceConnectionString);
  const rq = (m, p, o = {}) => L.request(hub.host, m, p, { ...o, headers: { Authorization: tok, 'Content-Type': 'application/json', ...(o.headers || {}) } });
  const id = L.uid('hand');
  t.after(() => hub.registry.delete(id).catch(() => {}));
  L.assert.equal((await rq('GET', `/devices/${id}`)).status, 400, 'no api-version');
  L.assert.equal((await rq('GET', `/devices/${id}?api-version=1999-01-01`)).headers['iothub-errorcode'], 'InvalidProtocolVersion');
  const made = await rq('PUT', `/Devices/${id}?api-version=2021-04-12`, { body: JSON.stringify({ deviceId: id }), headers: { 'If-Match': '""' } });
  L.assert.equal(made.status, 200);
  L.assert.match(made.headers.etag, /^".+"$/);
  L.assert.equal((await rq('PUT', `/devices/${id}?api-version=2021-04-12`, { body: JSON.stringify({ deviceId: id }) })).status, 409);
  const gone = await rq('DELETE', `/devices/${id}?api-version=2021-04-12`);
  L.assert.equal(gone.status, 412, 'delete wants If-Match');
  L.assert.equal((await rq('DELETE', `/devices/${id}?api-version=2021-04-12`, { headers: { 'If-Match': '"*"' } })).status, 204);
  const unknown = await rq('GET', '/nowhere?api-version=2021-04-12');
  L.assert.equal(unknown.status, 404);
  L.assert.match(JSON.parse(unknown.text).Message, /^ErrorCode:/);
  const noAuth = await L.request(hub.host, 'GET', `/devices/${id}?api-version=2021-04-12`);
  L.assert.equal(noAuth.status, 401);
  L.assert.equal(noAuth.headers['iothub-errorcode'], 'IotHubUnauthorizedAccess');
});
