'use strict'
// The action's log streams: synchronous, so that what is printed is out before the answer is, and tagged where wanted.
//
// Node's own streams are never opened: they would set the pipes, which other processes share, to non-blocking.

const fs = require('fs')
const { Writable } = require('stream')

const SENTINEL = 'XXX_THE_END_OF_A_WHISK_ACTIVATION_XXX\n'
const MAX_LINE = 1 << 20 // bytes of a line without an end that are held back; more of them are a line of their own
const NEWLINE = 10
const EMPTY = Buffer.alloc(0)

const ID = /^[0-9a-f]{32}$/

/** `descriptors` are copies of 1 and 2 that the action does not know of. */
class Logs {
  constructor (descriptors, tagged) {
    this.descriptors = descriptors
    this.nobody = activationOf(undefined)
    this.live = new Set([this.nobody])
    this.storage = null
    if (tagged) {
      const { AsyncLocalStorage } = require('async_hooks')
      this.storage = new AsyncLocalStorage()
      process.on('exit', () => { for (const activation of this.live) this.endLines(activation) })
      process.on('uncaughtExceptionMonitor', (error) => {
        // Node itself would print it without a tag.
        if (process.listenerCount('uncaughtException') > 0) return
        process.stderr.write(`${require('util').inspect(error)}\n`)
        process.exit(1)
      })
    }
    for (const [index, name] of ['stdout', 'stderr'].entries()) {
      const value = new LogStream(this, index)
      Object.defineProperty(process, name, { value, configurable: true, enumerable: true, writable: true })
    }
  }

  /** Calls `work` as the activation of this id: its lines, and those of all it starts, are tagged. */
  within (id, work) {
    if (!this.storage) return work()
    const activation = activationOf(id)
    this.live.add(activation)
    return this.storage.run(activation, work)
  }

  /** The current activation ends: so do its begun lines, and the sentinel, if any, follows. */
  end (withSentinel) {
    if (!this.storage) return
    const activation = this.storage.getStore()
    this.endLines(activation)
    activation.ended = true
    this.live.delete(activation)
    if (withSentinel) for (const descriptor of this.descriptors) writeAll(descriptor, activation.tag + SENTINEL)
  }

  write (index, data) {
    if (!this.storage) {
      writeAll(this.descriptors[index], data)
      return
    }
    let activation = this.storage.getStore()
    if (!activation || activation.ended) activation = this.nobody
    const begun = activation.begun[index]
    let start = 0
    for (let end; (end = data.indexOf(NEWLINE, start)) >= 0; start = end + 1) {
      this.writeLine(activation, index, begun.end(data.subarray(start, end)))
    }
    begun.add(data.subarray(start))
    if (begun.length >= MAX_LINE) this.writeLine(activation, index, begun.end(EMPTY))
  }

  writeLine (activation, index, line) {
    writeAll(this.descriptors[index], Buffer.concat([Buffer.from(activation.tag), line, Buffer.from('\n')]))
  }

  endLines (activation) {
    for (const [index, begun] of activation.begun.entries()) {
      if (begun.length) this.writeLine(activation, index, begun.end(EMPTY))
    }
  }
}

/** A line that has begun. Its pieces are copied, since a caller may use its buffer again. */
class Line {
  constructor () {
    this.room = EMPTY
    this.length = 0
  }

  add (bytes) {
    const length = this.length + bytes.length
    if (length > this.room.length) {
      const larger = Buffer.allocUnsafe(2 * length) // twice as much: a line may come in very many pieces
      this.room.copy(larger, 0, 0, this.length)
      this.room = larger
    }
    bytes.copy(this.room, this.length)
    this.length = length
  }

  /** The whole of it, `bytes` being the last; the next one begins. */
  end (bytes) {
    if (!this.length) return bytes
    this.add(bytes)
    const whole = this.room.subarray(0, this.length)
    this.room = EMPTY
    this.length = 0
    return whole
  }
}

class LogStream extends Writable {
  constructor (logs, index) {
    super({ decodeStrings: true })
    this.logs = logs
    this.index = index
    this.fd = index + 1
    this._type = 'pipe'
  }

  _write (chunk, _, done) {
    this.logs.write(this.index, chunk)
    done()
  }

  _destroy (error, done) {
    // Like Node's own, it cannot be closed.
    done(error)
  }
}

function activationOf (id) {
  const tag = typeof id === 'string' && ID.test(id) ? `\x01${id} ` : ''
  return { tag, begun: [new Line(), new Line()], ended: false }
}

function writeAll (descriptor, data) {
  let left = typeof data === 'string' ? Buffer.from(data) : data
  while (left.length) {
    try {
      left = left.subarray(fs.writeSync(descriptor, left))
    } catch (error) {
      if (error.code !== 'EAGAIN') return // nobody reads this container's log any more: no reason to end the action
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
    }
  }
}

module.exports = { Logs }
