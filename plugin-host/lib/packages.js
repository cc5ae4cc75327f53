'use strict'
// The npm packages that the host is made of.

const path = require('node:path')

const HOME = path.dirname(__dirname)

function isThere(name) {
    try {
        require.resolve(name)
        return true
    } catch (error) {
        return error.code !== 'MODULE_NOT_FOUND'
    }
}

// Without all of them the process ends with a sentence that says how to get them into the instance.
function insist(instance) {
    const missing = Object.keys(require('../package.json').dependencies).filter((name) => !isThere(name))
    if (missing.length === 0) return
    process.stderr.write(`${HOME} lacks ${missing.join(', ')}: npm install --prefix ${instance} --install-links ${HOME}\n`)
    process.exit(1)
}

module.exports = { insist }
