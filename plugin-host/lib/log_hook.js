'use strict'
// Shows log lines to plugins that have a `log` hook. Lines of the engine are written already; those of plugins are written
// when no plugin took them.

const constants = require('haraka-constants')
const { LEVELS } = require('./logger')

const PATIENCE_MS = 5_000   // with one plugin about one line
const WAITING_MAX = 1_000   // lines; above, plugins do not see them

class LogHook {
    // `listeners` gives those of the hook, `write` takes a line to the engine.
    constructor(logger, listeners, write) {
        Object.assign(this, { logger, listeners, write })
        this.waiting = []
        this.asking = false // somebody is asked about a line
        this.inside = false // and speaks while asked
    }

    // A line of the host or of a plugin's.
    offer(line) {
        const listeners = this.listeners()
        // What those say who listen, or while they do, is not shown to them: it would never end.
        const own = this.inside || listeners.some(({ plugin }) => plugin.name === line.origin)
        if (listeners.length === 0 || own) return this.write(line)
        const data = `[${LEVELS[line.level].toUpperCase()}] [${line.session || '-'}] [${line.origin}] ${line.text}`
        this.ask(listeners, itemOf(line, data), () => this.write(line))
    }

    // A line that the engine has written.
    hear(line) {
        const listeners = this.listeners()
        if (listeners.length > 0) this.ask(listeners, itemOf(line, line.text), () => {})
    }

    ask(listeners, item, otherwise) {
        if (this.waiting.length >= WAITING_MAX) return otherwise()
        this.waiting.push({ listeners, item, otherwise })
        this.work()
    }

    // One line after the other; a plugin that answers at once costs no turn of the event loop.
    work() {
        while (!this.asking && this.waiting.length > 0) {
            const { listeners, item, otherwise } = this.waiting.shift()
            this.asking = true
            let atOnce = true
            this.step(listeners, 0, item, (taken) => {
                if (!taken) otherwise()
                this.asking = false
                if (!atOnce) this.work()
            })
            atOnce = false
        }
    }

    step(listeners, at, item, done) {
        if (at === listeners.length) return done(false)
        const { plugin, method, meter } = listeners[at]
        if (meter.standing.rests()) return this.step(listeners, at + 1, item, done)
        const call = meter.begin()
        const began = this.witness && performance.now()
        let inside = true
        // Those who are asked next are asked from within: what they take is not this plugin's.
        const leave = () => {
            if (inside) call.left()
            inside = false
        }
        let answered = false
        const next = (code, how) => {
            if (answered) return
            answered = true
            clearTimeout(timer)
            leave()
            call.ended(how)
            if (this.witness) this.witness('log', listeners[at], { code: code || constants.cont }, performance.now() - began)
            if ((code || constants.cont) === constants.cont) this.step(listeners, at + 1, item, done)
            else done(true)
        }
        const timer = setTimeout(() => next(constants.cont, 'timeouts'), PATIENCE_MS)
        timer.unref()
        const failed = () => next(constants.cont, 'failures')
        this.inside = true
        try {
            const result = plugin[method].call(plugin, (code) => next(code), this.logger, item)
            if (result && typeof result.then === 'function') result.then(undefined, failed)
        } catch {
            failed()
        } finally {
            leave()
            this.inside = false
        }
    }

    // Nobody is asked any more: what waits is written.
    flush() {
        for (const { otherwise } of this.waiting.splice(0)) otherwise()
    }
}

function itemOf({ level, session, origin, text }, data) {
    const name = LEVELS[level].toUpperCase()
    return { level: name, data, obj: { level: name, uuid: session || '-', origin, message: text } }
}

module.exports = { LogHook }
