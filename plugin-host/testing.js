'use strict'
// For the tests of plugins, with node:test. `sluice plugin new` writes an example.

const { Rehearsal, RehearsalError } = require('./lib/rehearsal')

// Loads the plugin `name` of an instance in a host of its own, which ends with the test. ask(hook, item, told) resolves to
// what the engine would be answered; ask(hook, client) does so for hooks of mail in, dialogue(client) puts a whole session (lib/dialogue.js).
// Options: instance, name; config: texts of files, in place of the instance's; engine:
// answers what the plugin asks of the engine by way of the module `sluice`, gets { method, path, query, body } and
// returns [status, body]; message: the octets of the message.
async function tryPlugin(test, options) {
    const rehearsal = new Rehearsal(options)
    test.after(() => rehearsal.close())
    await rehearsal.start()
    return rehearsal
}

module.exports = { tryPlugin, Rehearsal, RehearsalError }
