// The client of the npm package `openwhisk`, connected as its users do it.
import assert from 'node:assert/strict'
import openwhisk from 'openwhisk'

export const ow = openwhisk({ apihost: process.env.OW_APIHOST, api_key: process.env.OW_AUTH })

export const PYTHON = 'def main(args):\n    return {"greeting": "Hello " + args.get("name", "stranger")}\n'

/** The value of `key` in parameters or annotations. */
export function valueOf (pairs, key) {
  return pairs.find(pair => pair.key === key)?.value
}

/** Assert that the API refuses, with this status and with a reason in words. */
export async function refused (promise, statusCode) {
  const error = await promise.then(() => assert.fail(`not refused, ${statusCode} was expected`), error => error)
  assert.equal(error.name, 'OpenWhiskError', error.stack)
  assert.equal(error.statusCode, statusCode, error.message)
  assert.match(error.error.error, /\w+/)
  return error
}

/** The record of an activation, once it is there. */
export async function recordOf (activationId) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ow.activations.get(activationId)
    } catch (error) {
      if (error.statusCode !== 404 || attempt === 100) throw error
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}
