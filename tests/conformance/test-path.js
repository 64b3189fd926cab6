'use strict';
// SPDX-License-Identifier: Apache-2.0
// The zero-touch path: enrollment, registration, connection, telemetry read back from the hub's durable log.
const { test } = require('node:test');
const L = require('./lib');

for (const p of ['mqtt', 'mqtt_ws', 'http']) {
  test(`symmetric key group, ${p}`, async (t) => {
    const group = L.uid('g');
    const key = L.newKey(64);
    await L.dpsService().createOrUpdateEnrollmentGroup({
      enrollmentGroupId: group, attestation: { type: 'symmetricKey', symmetricKey: { primaryKey: key, secondaryKey: L.newKey(64) } },
    });
    const rid = L.uid('unit');
    const dk = L.derive(key, rid);
    const st = await L.register(p, new L.SymmetricKeySecurityClient(rid, dk));
    L.assert.equal(st.status, 'assigned');
    L.assert.equal(st.deviceId, rid);
    const hub = L.hubOf(st.assignedHub);
    L.assert.ok(hub, 'assigned to a linked hub');
    const c = await L.openDevice(t, `HostName=${st.assignedHub};DeviceId=${rid};SharedAccessKey=${dk}`, p);
    const m = new L.device.Message(JSON.stringify({ p, n: 1 }));
    const name = p === 'http' ? 'a.b' : 'a b'; // a header name cannot hold a blank
    m.properties.add(name, 'x/y+z=&%');
    m.messageId = 'mid-1';
    m.contentType = 'application/json';
    m.contentEncoding = 'utf-8';
    await c.sendEvent(m);
    const [e] = await L.events(hub, rid, 1);
    L.assert.equal(e.deviceId, rid);
    L.assert.deepEqual(JSON.parse(e.body), { p, n: 1 });
    L.assert.equal(e.properties[name], 'x/y+z=&%');
    L.assert.equal(e.systemProperties['message-id'], 'mid-1');
    L.assert.equal(e.systemProperties['content-type'], 'application/json');
    L.assert.equal(e.systemProperties['iothub-connection-device-id'], rid);
  });

  test(`X.509 group through an intermediate, ${p}`, async (t) => {
    const group = L.uid('xg');
    await L.dpsService().createOrUpdateEnrollmentGroup({
      enrollmentGroupId: group,
      attestation: { type: 'x509', x509: { signingCertificates: { primary: { certificate: L.fs.readFileSync(L.path.join(L.pki, 'int.pem'), 'utf8') } } } },
    });
    t.after(() => L.dpsService().deleteEnrollmentGroup(group));
    const rid = L.uid('xunit');
    const pair = L.leaf(rid);
    const st = await L.register(p, new L.X509Security(rid, { cert: pair.chain, key: pair.key }));
    L.assert.equal(st.status, 'assigned');
    const c = await L.openDevice(t, `HostName=${st.assignedHub};DeviceId=${rid};x509=true`, p, { cert: pair.chain, key: pair.key });
    await c.sendEvent(new L.device.Message('hello'));
    const [e] = await L.events(L.hubOf(st.assignedHub), rid, 1);
    L.assert.equal(e.body, 'hello');
    // a chain that only looks like ours
    const fake = L.uid('xfake');
    const rogue = L.leaf(fake, 'rogue');
    await L.assert.rejects(L.register(p, new L.X509Security(fake, { cert: rogue.chain, key: rogue.key })));
    // the intermediate missing
    const bare = L.uid('xbare');
    const noInt = L.leaf(bare);
    await L.assert.rejects(L.register(p, new L.X509Security(bare, { cert: noInt.cert, key: noInt.key })));
  });
}

test('hashed assignment uses both hubs, static the one named', async () => {
  const key = L.newKey(64);
  const group = L.uid('gh');
  const svc = L.dpsService();
  await svc.createOrUpdateEnrollmentGroup({
    enrollmentGroupId: group, allocationPolicy: 'hashed', attestation: { type: 'symmetricKey', symmetricKey: { primaryKey: key, secondaryKey: L.newKey(64) } },
  });
  const rids = Array.from({ length: 16 }, () => L.uid('h'));
  const got = await Promise.all(rids.map((r) => L.register('mqtt', new L.SymmetricKeySecurityClient(r, L.derive(key, r)))));
  L.assert.equal(new Set(got.map((s) => s.assignedHub)).size, 2, 'both hubs are used');
  const group2 = L.uid('gs');
  await svc.createOrUpdateEnrollmentGroup({
    enrollmentGroupId: group2, allocationPolicy: 'static', iotHubs: [L.env.hubs[1].host],
    attestation: { type: 'symmetricKey', symmetricKey: { primaryKey: key, secondaryKey: L.newKey(64) } },
  }).catch((e) => { throw new Error(e.responseBody || e.message); });
  await svc.deleteEnrollmentGroup(group);
  const r = L.uid('s');
  const st = await L.register('http', new L.SymmetricKeySecurityClient(r, L.derive(key, r)));
  L.assert.equal(st.assignedHub, L.env.hubs[1].host);
  await svc.deleteEnrollmentGroup(group2);
});
