// ow.triggers and ow.rules: from a fire to the action that it starts.
import assert from 'node:assert/strict'
import { ow, PYTHON, recordOf, refused, valueOf } from './connect.mjs'

await ow.actions.create({ name: 'hello', action: PYTHON, kind: 'python:3.11' })
const trigger = await ow.triggers.create({
  name: 'event',
  trigger: { parameters: [{ key: 'name', value: 'trigger' }] },
  annotations: { description: 'something happened' }
})
assert.equal(valueOf(trigger.annotations, 'description'), 'something happened')
await refused(ow.triggers.create({ name: 'event' }), 409)
assert.equal((await ow.triggers.update({ name: 'event', trigger: {} })).version, '0.0.2')

// Without a rule nothing happens.
assert.ok(!(await ow.triggers.invoke({ name: 'event' }))?.activationId)

const rule = await ow.rules.create({ name: 'greet', action: 'hello', trigger: 'event' })
assert.equal(rule.status, 'active')
assert.deepEqual(rule.trigger, { path: 'guest', name: 'event' })
assert.deepEqual(rule.action, { path: 'guest', name: 'hello' })
await refused(ow.rules.create({ name: 'lost', action: 'missing', trigger: 'event' }), 400)

async function fired (params) {
  const { activationId } = await ow.triggers.invoke({ name: 'event', params })
  return recordOf(activationId)
}

const fire = await fired({ name: 'fire' })
assert.deepEqual(fire.response.result, { name: 'fire' })
const [outcome] = fire.logs.map(line => JSON.parse(line))
assert.equal(outcome.success, true)
assert.equal(outcome.rule, 'guest/greet')
assert.deepEqual((await recordOf(outcome.activationId)).response.result, { greeting: 'Hello fire' })

await ow.rules.disable({ name: 'greet' })
assert.equal((await ow.rules.get('greet')).status, 'inactive')
assert.ok(!(await ow.triggers.invoke({ name: 'event' }))?.activationId)
await ow.rules.enable({ name: 'greet' })
assert.equal((await ow.rules.get({ ruleName: 'greet' })).status, 'active')
assert.equal(JSON.parse((await fired({})).logs[0]).success, true)
assert.equal((await ow.rules.update({ name: 'greet', action: '/_/hello', trigger: '/guest/event' })).version, '0.0.2')
assert.throws(() => ow.rules.invoke({ name: 'greet' }))

assert.ok('guest/greet' in (await ow.triggers.get('event')).rules)
assert.deepEqual((await ow.triggers.list()).map(one => one.name), ['event'])
assert.deepEqual((await ow.rules.list({ limit: 5 })).map(one => one.name), ['greet'])
assert.deepEqual(await ow.rules.list({ count: true }), { rules: 1 })
assert.deepEqual(await ow.triggers.list({ count: true }), { triggers: 1 })

await ow.rules.delete('greet')
await ow.triggers.delete({ triggerName: 'event' })
await refused(ow.rules.get('greet'), 404)
await refused(ow.triggers.get('event'), 404)
