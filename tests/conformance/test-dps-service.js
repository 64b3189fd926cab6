'use strict';
// SPDX-License-Identifier: Apache-2.0
// Enrollment administration through the official service SDK: every kind of attestation, update, query, bulk, records.
const { test } = require('node:test');
const L = require('./lib');

const svc = L.dpsService();
const read = async (p) => L.body(await p);
const refused = (p, status, what) => L.assert.rejects(p, (e) => {
  L.assert.equal(e.response && e.response.statusCode, status, what);
  return true;
}, what);
// Without a callback the SDK's bulk call never settles.
const bulk = (op) => L.bounded(new Promise((res, rej) => svc.runBulkEnrollmentOperation(op, (e, r) => (e ? rej(e) : res(r)))), 10000, 'bulk');
const pem = (name) => L.fs.readFileSync(L.path.join(L.pki, name), 'utf8');
const thumb = (text) => new L.crypto.X509Certificate(text).fingerprint256.replace(/:/g, '');
const keys = () => ({ primaryKey: L.newKey(64), secondaryKey: L.newKey(64) });

async function all(q) {
  const rows = [];
  for (let n = 0; q.hasMoreResults && n < 200; n++) {
    const page = await read(q.next(q.continuationToken));
    rows.push(page);
  }
  return rows;
}

// TPM2B_PUBLIC of an RSA endorsement key: the default template of the TCG's EK credential profile, a modulus of our own.
function endorsementKey() {
  const n = Buffer.from(L.crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' }).n, 'base64url');
  const area = Buffer.concat([
    Buffer.from('0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa', 'hex'),
    Buffer.from('00060080004300100800000000000100', 'hex'), n,
  ]);
  const size = Buffer.alloc(2);
  size.writeUInt16BE(area.length);
  return Buffer.concat([size, area]).toString('base64');
}

// What each kind of attestation is written as, and what a reader must find.
const leafA = L.leaf('svc-x509');
const leafB = L.leaf('svc-x509');
const pair = keys();
const ek = endorsementKey();
const individuals = {
  symmetricKey: [{ type: 'symmetricKey', symmetricKey: pair }, (a, secret) => L.assert.deepEqual(a.symmetricKey && { ...a.symmetricKey }, secret ? pair : undefined)],
  'x509 client certificates': [
    { type: 'x509', x509: { clientCertificates: { primary: { certificate: leafA.cert }, secondary: { certificate: leafB.cert } } } },
    (a) => L.assert.deepEqual([a.x509.clientCertificates.primary.info.sha256Thumbprint, a.x509.clientCertificates.secondary.info.sha256Thumbprint],
      [thumb(leafA.cert), thumb(leafB.cert)])],
  tpm: [{ type: 'tpm', tpm: { endorsementKey: ek } }, (a) => L.assert.equal(a.tpm.endorsementKey, ek)],
  'x509 CA reference': [{ type: 'x509', x509: { caReferences: { primary: 'conf-root' } } }, (a) => L.assert.equal(a.x509.caReferences.primary, 'conf-root')],
};
const groups = {
  symmetricKey: individuals.symmetricKey,
  'x509 signing certificates': [
    { type: 'x509', x509: { signingCertificates: { primary: { certificate: pem('int.pem') }, secondary: { certificate: pem('root.pem') } } } },
    (a) => L.assert.deepEqual([a.x509.signingCertificates.primary.info.sha256Thumbprint, a.x509.signingCertificates.secondary.info.subjectName],
      [thumb(pem('int.pem')), 'CN=Conformance root'])],
  'x509 CA reference': individuals['x509 CA reference'],
};

for (const [name, [attestation, check]] of Object.entries(individuals)) {
  test(`individual enrollment, ${name}`, async () => {
    const id = L.uid('svc');
    const made = await read(svc.createOrUpdateIndividualEnrollment({
      registrationId: id, deviceId: `${id}-device`, attestation, provisioningStatus: 'enabled', capabilities: { iotEdge: true },
      initialTwin: { tags: { room: 'B2' }, properties: { desired: { rate: 5 } } }, reprovisionPolicy: { updateHubAssignment: true, migrateDeviceData: false },
      allocationPolicy: 'hashed', iotHubs: [L.env.hubs[0].host],
    }));
    const got = await read(svc.getIndividualEnrollment(id));
    check(got.attestation, false);
    check((await read(svc.getIndividualEnrollmentAttestationMechanism(id))), true);
    L.assert.deepEqual([got.etag, got.deviceId, got.capabilities.iotEdge, got.initialTwin.tags.room, got.initialTwin.properties.desired.rate],
      [made.etag, `${id}-device`, true, 'B2', 5]);
    L.assert.deepEqual([got.reprovisionPolicy.migrateDeviceData, got.allocationPolicy, got.iotHubs], [false, 'hashed', [L.env.hubs[0].host]]);
    const off = await read(svc.createOrUpdateIndividualEnrollment({ ...got, provisioningStatus: 'disabled' }));
    L.assert.equal(off.provisioningStatus, 'disabled');
    check((await read(svc.getIndividualEnrollmentAttestationMechanism(id))), true); // what was only described is kept
    await refused(svc.createOrUpdateIndividualEnrollment(got), 412, 'a stale etag');
    await refused(svc.deleteIndividualEnrollment(got), 412, 'deletion by a stale etag');
    await svc.deleteIndividualEnrollment(off);
    await refused(svc.getIndividualEnrollment(id), 404, 'deleted');
  });
}

for (const [name, [attestation, check]] of Object.entries(groups)) {
  test(`enrollment group, ${name}`, async () => {
    const id = L.uid('svcg');
    await svc.createOrUpdateEnrollmentGroup({ enrollmentGroupId: id, attestation });
    const got = await read(svc.getEnrollmentGroup(id));
    check(got.attestation, false);
    check((await read(svc.getEnrollmentGroupAttestationMechanism(id))), true);
    const off = await read(svc.createOrUpdateEnrollmentGroup({ ...got, provisioningStatus: 'disabled' }));
    check((await read(svc.getEnrollmentGroupAttestationMechanism(id))), true);
    await refused(svc.createOrUpdateEnrollmentGroup({ ...got }), 412, 'a stale etag');
    await svc.deleteEnrollmentGroup(id, off.etag);
    await refused(svc.getEnrollmentGroup(id), 404, 'deleted');
  });
}

test('queries in pages, and with WHERE', async () => {
  const tag = L.uid('svcq');
  const ids = [0, 1, 2, 3, 4].map((i) => `${tag}-${i}`);
  L.assert.equal((await bulk({
    mode: 'create', enrollments: ids.map((registrationId, i) => ({ registrationId, attestation: { type: 'symmetricKey' }, provisioningStatus: i < 2 ? 'disabled' : 'enabled' })),
  })).isSuccessful, true);
  const pages = await all(svc.createIndividualEnrollmentQuery({ query: `SELECT * FROM enrollments WHERE STARTS_WITH(registrationId, '${tag}')` }, 2));
  L.assert.deepEqual(pages.map((p) => p.length), [2, 2, 1]);
  L.assert.deepEqual(pages.flat().map((e) => e.registrationId), ids);
  const off = await all(svc.createIndividualEnrollmentQuery({ query: `SELECT * WHERE STARTS_WITH(registrationId, '${tag}') AND provisioningStatus = 'disabled'` }, 10));
  L.assert.deepEqual(off.flat().map((e) => e.registrationId), ids.slice(0, 2));
  L.assert.deepEqual((await bulk({ mode: 'delete', enrollments: ids.map((registrationId) => ({ registrationId, attestation: { type: 'symmetricKey' } })) })).errors, []);
  await refused(svc.createIndividualEnrollmentQuery({ query: 'SELECT registrationId FROM enrollments' }, 2).next(), 400, 'a projection');
});

test('bulk operations say which entry was refused', async () => {
  const list = [0, 1, 2].map(() => ({ registrationId: L.uid('svcb'), attestation: { type: 'symmetricKey' } }));
  L.assert.deepEqual(await bulk({ mode: 'create', enrollments: list.slice(0, 2) }), { errors: [], isSuccessful: true });
  const r = await bulk({ mode: 'create', enrollments: list });
  L.assert.equal(r.isSuccessful, false);
  L.assert.deepEqual(r.errors.map((e) => [e.registrationId, e.errorCode]), list.slice(0, 2).map((e) => [e.registrationId, 409201]));
  const now = await Promise.all(list.map(async (e) => ({ ...(await read(svc.getIndividualEnrollment(e.registrationId))), provisioningStatus: 'disabled' })));
  L.assert.equal((await bulk({ mode: 'updateIfMatchETag', enrollments: now })).isSuccessful, true);
  const stale = await bulk({ mode: 'updateIfMatchETag', enrollments: now });
  L.assert.deepEqual(stale.errors.map((e) => e.errorCode), [412001, 412001, 412001]);
  L.assert.equal((await bulk({ mode: 'delete', enrollments: list })).isSuccessful, true);
});

test('registration records of a group', async () => {
  const group = L.uid('svcr');
  const { primaryKey, secondaryKey } = keys();
  await svc.createOrUpdateEnrollmentGroup({ enrollmentGroupId: group, attestation: { type: 'symmetricKey', symmetricKey: { primaryKey, secondaryKey } } });
  const rids = [0, 1, 2].map((i) => `${group}-${i}`);
  const states = await Promise.all(rids.map((r) => L.register('mqtt', new L.SymmetricKeySecurityClient(r, L.derive(primaryKey, r)))));
  L.assert.deepEqual(states.map((s) => s.status), ['assigned', 'assigned', 'assigned']);
  const pages = await all(svc.createEnrollmentGroupDeviceRegistrationStateQuery({ query: '*' }, group, 2));
  L.assert.deepEqual(pages.flat().map((s) => [s.registrationId, s.status, s.substatus]), rids.map((r) => [r, 'assigned', 'initialAssignment']));
  const one = await read(svc.getDeviceRegistrationState(rids[0]));
  L.assert.deepEqual([one.deviceId, one.assignedHub], [rids[0], states[0].assignedHub]);
  await svc.deleteDeviceRegistrationState(one);
  await refused(svc.getDeviceRegistrationState(rids[0]), 404, 'deleted');
  const again = await L.register('http', new L.SymmetricKeySecurityClient(rids[0], L.derive(secondaryKey, rids[0])));
  L.assert.deepEqual([again.status, again.substatus], ['assigned', 'initialAssignment']);
  await svc.deleteEnrollmentGroup(group);
});
