// ow.activations and ow.namespaces.
import assert from 'node:assert/strict'
import openwhisk from 'openwhisk'
import { ow, recordOf, refused, valueOf } from './connect.mjs'

const began = Date.now()
const code = 'import sys\n\ndef main(args):\n    print("out")\n    print("err", file=sys.stderr)\n    return {"n": args["n"]}\n'
await ow.actions.create({ name: 'counts', action: code, kind: 'python:3.11' })
const ids = []
for (let n = 0; n < 3; n++) {
  ids.push((await ow.actions.invoke({ name: 'counts', blocking: true, params: { n } })).activationId)
}

const record = await recordOf(ids[1])
assert.equal(record.name, 'counts')
assert.deepEqual(record.response.result, { n: 1 })
assert.equal(valueOf(record.annotations, 'kind'), 'python:3.11')
assert.ok(record.start >= began && record.end >= record.start)
for (const options of [ids[1], { name: ids[1] }, { activation: ids[1] }, { activationId: ids[1] }]) {
  assert.equal((await ow.activations.get(options)).activationId, ids[1])
}
const { logs } = await ow.activations.logs(ids[1])
assert.deepEqual(logs.map(line => line.replace(/^\S+ +/, '')).sort(), ['stderr: err', 'stdout: out'])
assert.deepEqual((await ow.activations.result(ids[1])).result, { n: 1 })

const listed = await ow.activations.list()
assert.deepEqual(listed.map(one => one.activationId), [...ids].reverse())
assert.equal(listed[0].response, undefined)
assert.equal(listed[0].statusCode, 0)
assert.deepEqual((await ow.activations.list({ docs: true, limit: 1 }))[0].response.result, { n: 2 })
assert.equal((await ow.activations.list({ skip: 1, limit: 1 }))[0].activationId, ids[1])
assert.equal((await ow.activations.list({ name: 'counts', since: began })).length, 3)
assert.equal((await ow.activations.list({ name: 'other' })).length, 0)
assert.equal((await ow.activations.list({ upto: began - 1 })).length, 0)
assert.deepEqual(await ow.activations.list({ count: true }), { activations: 3 })
await refused(ow.activations.get('0'.repeat(32)), 404)
await refused(ow.activations.get('nonsense'), 400)

assert.deepEqual(await ow.namespaces.list(), ['guest'])
const everything = await ow.namespaces.get()
assert.deepEqual(Object.keys(everything).sort(), ['actions', 'packages', 'rules', 'triggers'])
assert.deepEqual(everything.actions.map(action => action.name), ['counts'])

// Another's namespace, a key that is none, and retries of the client's own.
await refused(ow.actions.list({ namespace: 'whisk.system' }), 403)
const stranger = openwhisk({ apihost: process.env.OW_APIHOST, api_key: 'no:body', retry: { retries: 2, minTimeout: 5 } })
await refused(stranger.actions.list(), 401)
