'use strict'
// How what an action throws is shown in its log and in its answer.

const util = require('util')

/** Text for the log, without the frames of this runtime. */
function shown (error) {
  return withoutOurFrames(typeof error === 'string' ? error : util.inspect(error))
}

/** One line for the answer. */
function named (error) {
  return error instanceof Error || typeof error === 'string' ? String(error) : util.inspect(error)
}

/** What a rejected promise leaves in the answer: an Error as an object, anything else as it is, nothing as {}. */
function answered (error) {
  if (!error) return {}
  if (!(error instanceof Error)) return error
  const { name, message, stack } = error
  return { name, message, stack: withoutOurFrames(String(stack)), ...error }
}

/** What called our frames is not the action's either. */
function withoutOurFrames (text) {
  let ours = false
  return text.split('\n').filter((line) => {
    ours = /^ +at /.test(line) && (ours || line.includes(__dirname))
    return !ours
  }).join('\n')
}

module.exports = { shown, named, answered, withoutOurFrames }
