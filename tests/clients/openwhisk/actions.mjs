// ow.actions: create, update, get, list, invoke, delete, with every option.
import assert from 'node:assert/strict'
import { ow, PYTHON, recordOf, refused, valueOf } from './connect.mjs'

const kind = 'python:3.11'

const created = await ow.actions.create({
  name: 'hello',
  action: PYTHON,
  kind,
  params: { name: 'Owl', list: [1, { two: 2 }] },
  annotations: { description: 'greets', 'web-export': true },
  limits: { memory: 128, timeout: 10000, logs: 1 },
  version: '1.2.3'
})
assert.equal(created.name, 'hello')
assert.equal(created.namespace, 'guest')
assert.equal(created.version, '1.2.3')
assert.deepEqual(valueOf(created.parameters, 'list'), [1, { two: 2 }])
assert.equal(valueOf(created.annotations, 'description'), 'greets')
assert.equal(valueOf(created.annotations, 'exec'), kind)
assert.deepEqual([created.limits.memory, created.limits.timeout, created.limits.logs], [128, 10000, 1])
await refused(ow.actions.create({ name: 'hello', action: PYTHON, kind }), 409)

// A blocking call gives the record, with `result` the result alone, else only the id.
const record = await ow.actions.invoke({ name: 'hello', blocking: true })
assert.deepEqual(record.response.result, { greeting: 'Hello Owl' })
assert.equal(record.response.success, true)
assert.match(record.activationId, /^[0-9a-f]{32}$/)
const result = await ow.actions.invoke({ name: 'hello', blocking: true, result: true, params: { name: 'you' } })
assert.deepEqual(result, { greeting: 'Hello you' })
const accepted = await ow.actions.invoke({ name: 'hello', params: { name: 'later' } })
assert.deepEqual(Object.keys(accepted), ['activationId'])
assert.deepEqual((await recordOf(accepted.activationId)).response.result, { greeting: 'Hello later' })

// Names in every form that the client knows; several at once.
for (const name of ['hello', '/_/hello', '/guest/hello']) {
  assert.equal((await ow.actions.invoke({ name, blocking: true })).response.status, 'success')
}
assert.equal((await ow.actions.invoke(['hello', { name: 'hello' }])).length, 2)

// get, with the code and without.
assert.equal((await ow.actions.get('hello')).exec.code, PYTHON)
const bare = await ow.actions.get({ name: 'hello', code: false })
assert.equal(bare.exec.code, undefined)
assert.equal(bare.exec.kind, kind)

// An update bumps the version; what it does not name stays.
const updated = await ow.actions.update({ name: 'hello', limits: { memory: 256 } })
assert.equal(updated.version, '1.2.4')
assert.equal(updated.limits.memory, 256)
assert.equal(updated.exec.code, PYTHON)
assert.equal(valueOf(updated.parameters, 'name'), 'Owl')
const recoded = await ow.actions.update({ name: 'hello', kind, action: 'def main(args):\n    return {"new": True}\n' })
assert.equal(recoded.version, '1.2.5')
assert.deepEqual(await ow.actions.invoke({ name: 'hello', blocking: true, result: true }), { new: true })

// The whole definition as an object; code as a Buffer is sent as base64.
await ow.actions.create({ name: 'object', action: { exec: { kind, code: PYTHON, main: 'main' }, limits: { memory: 128 } } })
assert.equal((await ow.actions.get('object')).limits.memory, 128)
const zip = Buffer.from(process.env.ZIP, 'base64')
await ow.actions.create({ name: 'zipped', action: zip, kind })
const zipped = await ow.actions.get('zipped')
assert.equal(zipped.exec.binary, true)
assert.deepEqual(await ow.actions.invoke({ name: 'zipped', blocking: true, result: true }), { zipped: true })

// Sequences.
const chain = await ow.actions.create({ name: 'chain', sequence: ['/_/zipped', '/guest/object'] })
assert.deepEqual(chain.exec.components, ['/guest/zipped', '/guest/object'])
const chained = await ow.actions.invoke({ name: 'chain', blocking: true })
assert.deepEqual(chained.response.result, { greeting: 'Hello stranger' })
assert.equal(chained.logs.length, 2)
await refused(ow.actions.create({ name: 'broken', sequence: ['/_/missing'] }), 400)

// Failures come as errors that hold the record.
await ow.actions.create({ name: 'fails', kind, action: 'def main(args):\n    return {"error": "not today"}\n' })
const failed = await ow.actions.invoke({ name: 'fails', blocking: true }).catch(error => error)
assert.equal(failed.statusCode, 502)
assert.equal(failed.error.response.status, 'application error')
assert.match(failed.message, /not today/)
await refused(ow.actions.invoke({ name: 'missing', blocking: true }), 404)
await refused(ow.actions.create({ name: 'huge', action: PYTHON, kind, limits: { memory: 100000 } }), 400)
await refused(ow.actions.create({ name: 'cobol', action: PYTHON, kind: 'cobol:85' }), 400)

// Lists: newest first, pages, numbers.
const names = (await ow.actions.list()).map(action => action.name)
assert.deepEqual(names.sort(), ['chain', 'fails', 'hello', 'object', 'zipped'])
assert.equal((await ow.actions.list({ limit: 2 })).length, 2)
assert.equal((await ow.actions.list({ limit: 2, skip: 4 })).length, 1)
assert.deepEqual(await ow.actions.list({ count: true }), { actions: 5 })
await refused(ow.actions.list({ limit: 1000 }), 400)

// A web action is there without a key.
const web = await fetch(`${process.env.OW_APIHOST}/api/v1/web/guest/default/hello.json?x=1`)
assert.deepEqual([web.status, await web.json()], [200, { new: true }])

await ow.actions.delete('chain')
await ow.actions.delete(['hello', { name: 'object' }, { actionName: 'zipped' }, 'fails'])
assert.deepEqual(await ow.actions.list(), [])
await refused(ow.actions.delete('hello'), 404)
