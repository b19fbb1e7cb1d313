'use strict'
// An executor's life: stand by, take the action's code, load it, answer runs until the proxy is gone.
//
// Descriptor 3 is the channel to the proxy, 4 and 5 are copies of 1 and 2.

const net = require('net')

const { Kind, encodeFrame, FrameReader } = require('./frames')
const { Logs } = require('./streams')
const { load, DiskError } = require('./action')
const { shown, named, answered, withoutOurFrames } = require('./errors')

const OLDEST = 18
const NOT_AN_OBJECT = 'The action did not return a dictionary or array.'

const channel = new net.Socket({ fd: 3, readable: true, writable: true })
const logs = new Logs([4, 5], process.env.OWL_LOG_TAGS === 'true')
const nextTurn = setImmediate
let order
let action

function send (kind, number, value = '') {
  channel.write(encodeFrame(kind, number, value))
}

async function init (source) {
  try {
    setEnvironment(order.env)
    action = await load(order.folder, order.main, source)
  } catch (error) {
    console.error('Error during initialization: %s', shown(error))
    const refusal = error instanceof DiskError
      ? { status: 507, error: error.message }
      : { status: 502, error: `Initialization has failed due to: ${withoutOurFrames(String(error?.stack ?? error))}` }
    logs.end(false)
    send(Kind.REFUSED, 0, json(refusal))
    return
  }
  logs.end(false)
  send(Kind.READY, 0)
}

function setEnvironment (variables) {
  for (const [name, value] of Object.entries(variables)) {
    if (!name || /[=\0]/.test(name) || value.includes('\0')) throw `The environment variable '${name}' cannot be set.` // eslint-disable-line no-throw-literal
    process.env[name] = value
  }
}

async function run (number, request) {
  let kind, answer
  try {
    [kind, answer] = encode(await call(request.value ?? {}))
  } catch (error) {
    console.error(shown(error))
    kind = Kind.UNFIT
    answer = json({ error: `An error has occurred: ${named(error)}` })
  }
  await new Promise(nextTurn) // what is about to be printed, by loggers that defer it, is still its log
  logs.end(true)
  send(kind, number, answer)
}

async function call (params) {
  // What main throws is the developer's error; the promise it rejects is the action's answer.
  const result = action(params)
  try {
    return (await result) ?? {}
  } catch (error) {
    return { error: answered(error) }
  }
}

function encode (result) {
  const text = typeof result === 'object' ? JSON.stringify(result) : undefined
  if (text?.[0] === '{' || text?.[0] === '[') return [Kind.RESULT, `${text}\n`]
  console.error('Result must be of type object but has type "%s":', typeof result, result)
  return [Kind.UNFIT, json({ error: NOT_AN_OBJECT })]
}

function json (value) {
  return `${JSON.stringify(value)}\n`
}

function contextToEnvironment (request) {
  for (const [name, value] of Object.entries(request)) {
    // The process has one environment: of concurrent runs, the last one's is seen.
    if (name !== 'value') process.env[`__OW_${name.toUpperCase()}`] = typeof value === 'string' ? value : JSON.stringify(value)
  }
}

const reader = new FrameReader((kind, number, payload) => {
  if (kind === Kind.SETUP) {
    order = JSON.parse(payload)
  } else if (kind === Kind.CODE) {
    logs.within(order.env.__OW_ACTIVATION_ID, () => init(order.binary ? null : payload.toString()))
  } else if (kind === Kind.RUN) {
    const request = JSON.parse(payload)
    contextToEnvironment(request)
    logs.within(request.activation_id, () => run(number, request))
  }
})

process.title = 'owl-executor'
channel.on('data', (chunk) => reader.push(chunk))
channel.on('error', () => {}) // the proxy is gone: the end of the channel follows
channel.on('close', () => process.exit(0))
if (Number(process.versions.node.split('.')[0]) < OLDEST) {
  send(Kind.UNFIT, 0, `Node.js ${process.versions.node} is too old: ${OLDEST} or newer is needed`)
} else {
  send(Kind.STANDBY, 0)
}
