function main ({ greeting }) {
  return { greeting: greeting.toUpperCase() }
}

module.exports = { main }
