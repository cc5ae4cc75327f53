'use strict'
// Haraka's logger: loginfo(text…), plugin.loginfo(text…), connection.loginfo(plugin, text…). Lines go to the engine,
// which has the level, the format and the file.

const util = require('node:util')

const TEXT_CHARS_MAX = 64 * 1024
const LEVELS = ['emerg', 'alert', 'crit', 'error', 'warn', 'notice', 'info', 'debug', 'protocol', 'data']

class Logger {
    // `write` takes { level, session, origin, text }.
    constructor(write, level = 6) {
        this.write = write
        this.level = level
        LEVELS.forEach((name, number) => {
            this[`LOG${name.toUpperCase()}`] = number
            this[`log${name}`] = (...args) => this.log(number, args)
            this[name] = this[`log${name}`] // as Haraka's own modules call it
        })
    }

    log(level, args, from = {}) {
        if (level > this.level) return true
        const line = { level, session: from.session || '', origin: from.origin || 'core' }
        const texts = []
        for (const arg of args) {
            if (typeof arg === 'object' && arg !== null) {
                // Plugins name themselves, and connections and items say what the line is about.
                if (arg.is_plugin) { line.origin = arg.name; continue }
                if (arg.is_hmail || arg.is_connection) { line.session = arg.uuid; continue }
                // As modules of Haraka's core do.
                if (Object.hasOwn(arg, 'name') && typeof arg.stack !== 'string') { line.origin = String(arg.name); continue }
            }
            texts.push(textOf(arg))
        }
        line.text = texts.join(' ').slice(0, TEXT_CHARS_MAX)
        this.write(line)
        return true
    }

    add_log_methods(object) {
        this.addTo(object.prototype || object, () => ({ origin: 'core' }))
    }

    // Gives `object` its own loginfo, logwarn…
    addTo(object, from) {
        addLogMethods(object, () => this, from)
    }
}

// The same for a prototype: `loggerOf` and `from` take the object.
function addLogMethods(object, loggerOf, from) {
    LEVELS.forEach((name, number) => {
        Object.defineProperty(object, `log${name}`, {
            configurable: true, enumerable: false, writable: true,
            value(...args) { return loggerOf(this).log(number, args, from(this)) },
        })
    })
}

// Errors of plugins come from another realm, so `instanceof` does not know them.
function textOf(value) {
    if (typeof value === 'string') return value
    if (value && typeof value === 'object' && typeof value.stack === 'string') return value.stack
    return util.inspect(value, { depth: 2, breakLength: Infinity })
}

module.exports = { Logger, LEVELS, addLogMethods, textOf }
