'use strict'
// From the code of an action to the function that is called for each run.

const fs = require('fs')
const path = require('path')
const vm = require('vm')
const { createRequire } = require('module')
const { pathToFileURL } = require('url')

const NO_ENTRY = 'Zipped actions must contain either package.json or index.js at the root.'
const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u
const FOUND = Symbol.for('action_runtime.main')
// What V8 says of code that would be well-formed in a module.
const OF_MODULES = /Cannot use import statement outside a module|Unexpected token 'export'|Cannot use 'import.meta' outside a module|await is only valid in async functions and the top level bodies of modules/

/** The disk does not take the action: not its author's doing. */
class DiskError extends Error {}

/**
 * Load the action: the source text, or, where there is none, the unpacked zip in `folder`.
 * `main` names a function; in a zip what comes before its first dot, if it has one, is the file.
 * Throws what its code throws, or a string that says why it is no action.
 */
async function load (folder, main, source) {
  if (source !== null) onDisk(() => fs.mkdirSync(folder, { recursive: true }))
  process.chdir(folder)
  const here = process.cwd()
  return source === null ? loadPackage(here, main) : loadSource(here, main, source)
}

async function loadSource (folder, main, source) {
  // As OpenWhisk does it: the function may be any name of the code's scope, or else is exported.
  const [first, ...rest] = main.split('.')
  const capture = isVariable(first)
    ? `\n;globalThis[Symbol.for('${FOUND.description}')] = typeof ${first} === 'undefined' ? undefined : ${first};\n`
    : '\n'
  const text = source.replace(/^#!.*/, '')
  const isModule = needsModule(text, folder)
  // Their extensions say what they are, whatever a package.json further up says.
  const file = path.join(folder, isModule ? 'index.mjs' : 'index.cjs')
  onDisk(() => fs.writeFileSync(file, isModule ? text + capture : `(function () {${text}${capture}}).call(globalThis)\n`))
  const exported = isModule ? await import(pathToFileURL(file)) : createRequire(file)(file)
  const named = globalThis[FOUND]
  delete globalThis[FOUND]
  const found = member(named, rest)
  return typeof found === 'function' ? found : exportedFunction(exported, main)
}

function needsModule (text, folder) {
  try {
    vm.compileFunction(text, [], { filename: path.join(folder, 'index.cjs') })
    return false
  } catch (error) {
    if (OF_MODULES.test(error.message)) return true
    throw error
  }
}

async function loadPackage (folder, main) {
  const dot = main.indexOf('.')
  const name = dot < 0 ? main : main.slice(dot + 1)
  const required = dot < 0 ? folder : path.join(folder, main.slice(0, dot))
  if (dot < 0 && !['package.json', 'index.js'].some((file) => fs.existsSync(path.join(folder, file)))) throw NO_ENTRY
  const require = createRequire(path.join(folder, 'index.js'))
  const file = resolve(require, required)
  return exportedFunction(isModule(file, folder) ? await import(pathToFileURL(file)) : require(file), name)
}

function resolve (require, required) {
  try {
    return require.resolve(required)
  } catch (error) {
    // It is not guessed at by require, but a file of that name is meant.
    if (error.code === 'MODULE_NOT_FOUND' && fs.existsSync(`${required}.mjs`)) return `${required}.mjs`
    throw error
  }
}

function isModule (file, folder) {
  const extension = path.extname(file)
  if (extension !== '.js') return extension === '.mjs'
  for (let place = path.dirname(file); place.startsWith(folder); place = path.dirname(place)) {
    const description = path.join(place, 'package.json')
    if (fs.existsSync(description)) return JSON.parse(fs.readFileSync(description, 'utf8')).type === 'module'
  }
  return false
}

function exportedFunction (exported, main) {
  const names = main.split('.')
  for (const owner of [exported, exported?.default]) {
    const found = member(owner, names)
    if (typeof found === 'function') return found
  }
  if (main === 'main' && typeof exported?.default === 'function') return exported.default
  throw notAFunction(main)
}

function member (owner, names) {
  return names.reduce((value, name) => value?.[name], owner)
}

function isVariable (name) {
  try {
    Function(`'use strict'; typeof ${IDENTIFIER.exec(name)[0]}`) // eslint-disable-line no-new-func
    return true
  } catch {
    return false // no name at all, or a reserved one
  }
}

function onDisk (write) {
  try {
    write()
  } catch (error) {
    throw new DiskError(`The action cannot be written to the container's disk: ${error.message}.`)
  }
}

function notAFunction (main) {
  return `Action entrypoint '${main}' is not a function.`
}

module.exports = { load, DiskError }
