// ow.packages, and actions in them.
import assert from 'node:assert/strict'
import { ow, PYTHON, refused, valueOf } from './connect.mjs'

const made = await ow.packages.create({
  name: 'tools',
  package: { publish: true, parameters: [{ key: 'name', value: 'package' }] },
  annotations: { description: 'some tools' }
})
assert.equal(made.publish, true)
assert.equal(valueOf(made.annotations, 'description'), 'some tools')
await refused(ow.packages.create('tools'), 409)
await ow.actions.create({ name: 'tools/hello', action: PYTHON, kind: 'python:3.11' })

const got = await ow.packages.get('tools')
assert.deepEqual(got.actions.map(action => action.name), ['hello'])
assert.deepEqual(await ow.actions.invoke({ name: 'tools/hello', blocking: true, result: true }), { greeting: 'Hello package' })
assert.deepEqual(
  await ow.actions.invoke({ name: '/guest/tools/hello', blocking: true, result: true, params: { name: 'you' } }),
  { greeting: 'Hello you' }
)

const updated = await ow.packages.update({ name: 'tools', package: { parameters: [{ key: 'name', value: 'changed' }] } })
assert.equal(updated.version, '0.0.2')
assert.equal(updated.publish, true)

// A binding has its own parameters over those of its package.
const bound = await ow.packages.create({
  name: 'bound',
  package: { binding: { namespace: '_', name: 'tools' }, parameters: [{ key: 'name', value: 'binding' }] }
})
assert.deepEqual(bound.binding, { namespace: 'guest', name: 'tools' })
assert.deepEqual(await ow.actions.invoke({ name: 'bound/hello', blocking: true, result: true }), { greeting: 'Hello binding' })

assert.deepEqual((await ow.packages.list()).map(one => one.name).sort(), ['bound', 'tools'])
assert.equal((await ow.packages.list({ limit: 1, skip: 1 })).length, 1)
assert.deepEqual(await ow.packages.list({ count: true }), { packages: 2 })
assert.throws(() => ow.packages.invoke({ name: 'tools' }))

await refused(ow.packages.delete('tools'), 409)
await ow.packages.delete('bound')
await ow.actions.delete('tools/hello')
await ow.packages.delete({ packageName: 'tools' })
await refused(ow.packages.get('tools'), 404)
