'use strict';
// SPDX-License-Identifier: Apache-2.0
// Module identities as the official SDKs see them: the service's registry, the device SDK's ModuleClient.
const { test } = require('node:test');
const L = require('./lib');

const hub = L.hubs[0];
async function newModule(t, extra = {}) {
  const deviceId = L.uid('mdev');
  await hub.registry.create({ deviceId });
  t.after(() => hub.registry.delete(deviceId).catch(() => {}));
  return L.body(await hub.registry.addModule({ deviceId, moduleId: 'mod=1', ...extra }));
}
const cs = (m) => `HostName=${hub.host};DeviceId=${m.deviceId};ModuleId=${m.moduleId};SharedAccessKey=${m.authentication.symmetricKey.primaryKey}`;

test('registry', async (t) => {
  const m = await newModule(t, { managedBy: 'me' });
  L.assert.equal(m.managedBy, 'me');
  const { deviceId } = m;
  await L.assert.rejects(hub.registry.addModule({ deviceId, moduleId: 'mod=1' }), (e) => e.response.statusCode === 409);
  await L.assert.rejects(hub.registry.addModule({ deviceId, moduleId: '$mine' }), (e) => e.response.statusCode === 400);
  const u = L.body(await hub.registry.updateModule({ ...m, managedBy: 'you' }));
  L.assert.equal(u.managedBy, 'you');
  L.assert.deepEqual(u.authentication, m.authentication);
  await L.assert.rejects(hub.registry.updateModule({ ...m, managedBy: 'late' }), { name: 'InvalidEtagError' });
  await hub.registry.addModule({ deviceId, moduleId: 'mod2' });
  L.assert.deepEqual(L.body(await hub.registry.getModulesOnDevice(deviceId)).map((x) => x.moduleId).sort(), ['mod2', 'mod=1']);
  const twin = L.body(await hub.registry.getModuleTwin(deviceId, 'mod2'));
  L.assert.deepEqual([twin.deviceId, twin.moduleId, twin.properties.desired.$version], [deviceId, 'mod2', 1]);
  const patched = L.body(await hub.registry.updateModuleTwin(deviceId, 'mod2', { tags: { a: 1 } }, twin.etag));
  L.assert.equal(patched.tags.a, 1);
  await hub.registry.removeModule(deviceId, 'mod2');
  await L.assert.rejects(hub.registry.getModule(deviceId, 'mod2'), (e) => e.response.statusCode === 404);
  await L.assert.rejects(hub.registry.removeModule(deviceId, '$edgeAgent'), (e) => e.response.statusCode === 401);
});

for (const p of ['mqtt', 'mqtt_ws']) {
  test(`module client, ${p}`, async (t) => {
    const m = await newModule(t);
    const c = await L.openDevice(t, cs(m), p);
    const twin = await L.bounded(c.getTwin(), 20000, 'getTwin');
    const seen = new Promise((r) => twin.on('properties.desired.interval', r));
    await L.bounded(new Promise((res, rej) => twin.properties.reported.update({ fw: '1' }, (e) => (e ? rej(e) : res()))), 20000, 'reported');
    const t1 = L.body(await hub.registry.getModuleTwin(m.deviceId, m.moduleId));
    L.assert.equal(t1.properties.reported.fw, '1');
    L.assert.equal(t1.connectionState, 'Connected');
    await hub.registry.updateModuleTwin(m.deviceId, m.moduleId, { properties: { desired: { interval: 7 } } }, t1.etag);
    L.assert.equal(await L.bounded(seen, 20000, 'desired notification'), 7);
    const msg = new L.device.Message('from a module');
    msg.properties.add('k', 'v');
    await L.bounded(c.sendOutputEvent('out1', msg), 20000, 'output event');
    await L.bounded(c.sendEvent(new L.device.Message('plain')), 20000, 'event');
    const rows = await L.events(hub, m.deviceId, 2);
    L.assert.deepEqual(rows.map((r) => [r.body, r.systemProperties['iothub-connection-module-id']]), [['from a module', 'mod=1'], ['plain', 'mod=1']]);
    L.assert.equal(rows[0].properties.k, 'v');
    const gone = new Promise((r) => c.once('disconnect', r));
    await hub.registry.removeModule(m.deviceId, m.moduleId);
    await L.bounded(gone, 20000, 'disconnect');
    await L.assert.rejects(L.openDevice(t, cs(m), p));
  });
}

// This SDK's ModuleClient has no X.509: 25-modules of the integration tests has.
test('modules and device beside one another', async (t) => {
  const m = await newModule(t);
  const dev = L.body(await hub.registry.get(m.deviceId));
  const m2 = L.body(await hub.registry.addModule({ deviceId: m.deviceId, moduleId: 'second' }));
  const d = await L.openDevice(t, `HostName=${hub.host};DeviceId=${m.deviceId};SharedAccessKey=${dev.authentication.symmetricKey.primaryKey}`, 'mqtt');
  const c = await L.openDevice(t, cs(m), 'mqtt');
  const c2 = await L.openDevice(t, cs(m2), 'mqtt_ws');
  for (const [one, text] of [[d, 'd'], [c, 'm'], [c2, 'm2']]) await L.bounded(one.sendEvent(new L.device.Message(text)), 20000, text);
  const rows = await L.events(hub, m.deviceId, 3);
  L.assert.deepEqual(rows.map((r) => [r.body, r.systemProperties['iothub-connection-module-id']]), [['d', undefined], ['m', 'mod=1'], ['m2', 'second']]);
  const gone = [d, c, c2].map((one) => new Promise((r) => one.once('disconnect', r)));
  await hub.registry.update({ ...dev, status: 'disabled' });
  await L.bounded(Promise.all(gone), 20000, 'disconnect');
});
