'use strict'
// The plugin host of Sluice: `node index.js DIRECTORY`, with the engine's socket as descriptor 3.
// A second argument is the descriptor that takes notes about plugins that do not give way.

const net = require('node:net')

process.title = 'sluice-plugins'
// Before anything of Haraka's is loaded: its packages look for the configuration there.
process.env.HARAKA = process.argv[2] || process.cwd()
require('./lib/packages').insist(process.env.HARAKA)

const { Host } = require('./lib/host')
const { Wire } = require('./lib/wire')
const { textOf } = require('./lib/logger')

const wire = new Wire(new net.Socket({ fd: 3, readable: true, writable: true }))
const host = new Host(wire, process.argv[3] === undefined ? undefined : Number(process.argv[3]))

// What a plugin throws outside of its hooks concerns nobody but its author.
const contain = (kind) => (error) => host.logger.logcrit(`${kind} in a plugin: ${textOf(error)}`)
process.on('uncaughtException', contain('uncaught exception'))
process.on('unhandledRejection', contain('unhandled rejection'))
// The engine stops us by a message; what a terminal or a service manager sends to all processes is for the engine.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => {})
// Without the engine there is nothing to do.
wire.on('broken', (error) => {
    process.stderr.write(`sluice-plugins: ${error.message}\n`)
    process.exit(1)
})
wire.on('closed', () => process.exit(0))
