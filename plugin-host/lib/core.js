'use strict'
// Modules of Haraka's core that plugins ask for: ours, or those of the Haraka package when the instance has it.

const fs = require('node:fs')
const path = require('node:path')
const { createRequire } = require('node:module')
const config = require('haraka-config')
const constants = require('haraka-constants')
const netUtils = require('haraka-net-utils')
const { Api } = require('./api')
const { HMailItem } = require('./items')
const { Queue } = require('./queue')

// The ones that few plugins ask for are loaded when somebody does.

// Of the package as it is: they use sockets and configuration, and of the core nothing but the logger.
const BORROWED = ['address', 'line_socket', 'smtp_client', 'tls_socket', 'host_pool', 'rfc1869', 'endpoint']

function coreModules(host) {
    const { directory, logger, server } = host
    const folder = realFolder(path.join(directory, 'node_modules', 'Haraka'))
    const made = new Map()
    const once = (name, make) => () => {
        if (!made.has(name)) made.set(name, make())
        return made.get(name)
    }
    const queue = once('queue', () => new Queue(directory, new Api(directory), logger, host.makeAddress))
    const outbound = once('outbound', () => new (require('./outbound').Outbound)(host, queue(), host.injector))
    const makers = {
        logger: () => logger,
        server: () => server,
        config: () => config,
        constants: () => constants,
        net_utils: () => netUtils,
        transaction: () => require('./transaction'),
        outbound,
        'outbound/queue': () => {
            const { queue_dir, delivery_queue, temp_fail_queue, get_stats, list_queue, stat_queue, flush_queue, load_queue_files } = outbound()
            return { queue_dir, delivery_queue, temp_fail_queue, get_stats, list_queue, stat_queue, flush_queue, load_queue_files }
        },
        'outbound/hmail': () => HMailItem,
        'outbound/mx_lookup': () => ({ lookup_mx: (...args) => outbound().lookup_mx(...args) }),
        'outbound/todo': () => require('./outbound').TODOItem,
    }

    const has = (name) => Object.hasOwn(makers, name) || borrowed(name)
    const borrowed = (name) => BORROWED.includes(name) && fs.existsSync(path.join(folder, `${name}.js`))
    const borrow = (name) => {
        const required = createRequire(path.join(folder, 'package.json'))
        // The package's modules say what they have to say by our logger.
        const itsLogger = required.resolve('./logger.js')
        if (!required.cache[itsLogger]) required.cache[itsLogger] = { id: itsLogger, filename: itsLogger, loaded: true, exports: logger }
        return required(`./${name}.js`)
    }
    return {
        has,
        get: (name) => {
            if (Object.hasOwn(makers, name)) return makers[name]()
            if (borrowed(name)) return borrow(name)
            const hint = BORROWED.includes(name) ? ': it comes with the package `Haraka`, which is not in node_modules/' : ''
            throw new Error(`Haraka's core module \`${name}\` is not available here${hint}`)
        },
        // The module that a file of the Haraka package is, when we have it.
        nameOf: (file) => {
            const name = path.relative(folder, file).replace(/(\/index)?\.js$/, '')
            return has(name) ? name : undefined
        },
    }
}

// Modules know themselves by where they really are.
function realFolder(folder) {
    return fs.existsSync(folder) ? fs.realpathSync(folder) : folder
}

module.exports = { coreModules }
