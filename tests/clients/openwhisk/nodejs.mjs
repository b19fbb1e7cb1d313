// Actions in the client's own language, of the kind that it asks for when it is told none.
import assert from 'node:assert/strict'
import { ow, valueOf } from './connect.mjs'

const made = await ow.actions.create({ name: 'hello', action: 'function main({ name }) { return { greeting: `Hello ${name}` } }' })
assert.equal(made.exec.kind, 'nodejs:20')
assert.equal(valueOf(made.annotations, 'exec'), 'nodejs:20')
assert.deepEqual(await ow.actions.invoke({ name: 'hello', blocking: true, result: true, params: { name: 'Owl' } }), { greeting: 'Hello Owl' })

const later = 'const main = async args => new Promise(resolve => setTimeout(() => resolve({ later: args.n }), 20))'
await ow.actions.create({ name: 'later', action: later, kind: 'nodejs:18' })
assert.deepEqual(await ow.actions.invoke({ name: 'later', blocking: true, result: true, params: { n: 1 } }), { later: 1 })

await ow.actions.create({ name: 'throws', action: 'function main() { throw new Error("not today") }' })
const failed = await ow.actions.invoke({ name: 'throws', blocking: true }).catch(error => error)
assert.equal(failed.statusCode, 502)
assert.match(JSON.stringify(failed.error.response.result), /error/)
