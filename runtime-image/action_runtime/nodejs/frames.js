'use strict'
// Messages between the proxy and this executor, as action_runtime/executor/frames.py has them.

const HEAD_BYTES = 13

const Kind = Object.freeze({ SETUP: 1, CODE: 2, RUN: 3, READY: 4, REFUSED: 5, RESULT: 6, UNFIT: 7, STANDBY: 8 })

/** The bytes of one frame. */
function encodeFrame (kind, number, payload = '') {
  const body = Buffer.from(payload)
  const head = Buffer.allocUnsafe(HEAD_BYTES)
  head.writeUInt8(kind, 0)
  head.writeUInt32BE(number, 1)
  head.writeBigUInt64BE(BigInt(body.length), 5)
  return Buffer.concat([head, body])
}

/** Calls `onFrame(kind, number, payload)` for every frame that has arrived whole. */
class FrameReader {
  constructor (onFrame) {
    this.onFrame = onFrame
    this.chunks = []
    this.have = 0
    this.need = HEAD_BYTES
  }

  push (chunk) {
    this.chunks.push(chunk)
    this.have += chunk.length
    while (this.have >= this.need) {
      const bytes = this.chunks.length === 1 ? this.chunks[0] : Buffer.concat(this.chunks)
      const end = HEAD_BYTES + Number(bytes.readBigUInt64BE(5))
      this.chunks = [bytes]
      this.need = end
      if (this.have < end) return
      this.chunks = end < bytes.length ? [bytes.subarray(end)] : [] // an empty part would keep all of it in memory
      this.have -= end
      this.need = HEAD_BYTES
      this.onFrame(bytes.readUInt8(0), bytes.readUInt32BE(1), bytes.subarray(HEAD_BYTES, end))
    }
  }
}

module.exports = { Kind, encodeFrame, FrameReader }
