'use strict'
// Runs the plugins of a hook one after the other.

const { performance } = require('node:perf_hooks')
const constants = require('haraka-constants')
const { textOf } = require('./logger')

// Who is over a budget again and again is no more heard than one who does not answer in time, and nobody waits for it.
const PASSED_OVER = Object.freeze({ timedOut: true, passedOver: true })
const DENIALS = new Set([constants.deny, constants.denysoft, constants.denydisconnect, constants.denysoftdisconnect])
const CODES = new Set([
    'cont', 'stop', 'deny', 'denysoft', 'denydisconnect', 'disconnect', 'ok', 'next_hook', 'delay', 'denysoftdisconnect',
].map((name) => constants[name]))

// Resolves to { code, msg, plugin, timedOut, failed }, where code is CONT when nobody decided; never rejects.
// Rules: `timeout`, what it counts as when a plugin does not answer in time, and `failure`, what when it throws or rejects:
// 'cont' (the default) goes on with the next plugin, 'denysoft' ends the chain. `all`: every plugin hears of it, whatever
// the others say. `refused`: what hears of codes other than OK, which end nothing then. `span`: which part of them is
// asked, see Registry.of().
async function runHook(registry, logger, hook, object, params, rules = {}) {
    for (const listener of registry.of(hook, rules.span)) {
        if (isSkipped(object, listener.plugin.name)) continue
        const began = registry.witness && performance.now()
        const answer = listener.meter.standing.rests() ? PASSED_OVER : await ask(listener, logger, hook, object, params)
        if (registry.witness) registry.witness(hook, listener, answer, performance.now() - began)
        if (object.heard && !answer.passedOver) object.heard(listener.plugin.name)
        if (answer.timedOut || answer.failed) {
            if (rules[answer.timedOut ? 'timeout' : 'failure'] !== 'denysoft') continue
            const msg = answer.passedOver ? 'plugin passed over' : answer.timedOut ? 'plugin timeout' : 'plugin failure'
            return { ...answer, code: constants.denysoft, msg, plugin: listener.plugin.name }
        }
        if (answer.code === constants.cont || rules.all) continue
        if (rules.refused && answer.code !== constants.ok) {
            rules.refused({ ...answer, plugin: listener.plugin.name })
            continue
        }
        if (DENIALS.has(answer.code) && hook !== 'deny') {
            const about = [answer.code, answer.msg, listener.plugin.name, listener.method, params, hook]
            const second = await runHook(registry, logger, 'deny', object, about)
            if (second.code === constants.ok) continue
        }
        return { ...answer, plugin: listener.plugin.name }
    }
    return { code: constants.cont }
}

// What plugins asked for with transaction.notes.skip_plugins.
function isSkipped(object, name) {
    const skipped = object.transaction?.notes?.skip_plugins
    return Array.isArray(skipped) && skipped.includes(name)
}

// One plugin's answer; the first one counts.
function ask({ plugin, method, meter }, logger, hook, object, params) {
    return new Promise((resolve) => {
        const call = meter.begin()
        let answered = false
        let timer
        const finish = (answer) => {
            answered = true
            clearTimeout(timer)
            call.ended(answer.timedOut ? 'timeouts' : answer.failed ? 'failures' : undefined)
            resolve(answer)
        }
        const next = (code, msg) => {
            if (answered) {
                const twice = new Error(`${hook} of plugin ${plugin.name} called next again, or too late`)
                logger.log(logger.LOGWARN, [twice.stack], { origin: plugin.name, session: object.uuid })
                return
            }
            // `next(error)` is a habit from elsewhere. As in Haraka it ends the chain, and removes what was deferred.
            if (code && !CODES.has(code)) {
                logger.log(logger.LOGWARN, [`${hook} answered with what is no code: ${textOf(code)}`], { origin: plugin.name, session: object.uuid })
            }
            finish({ code: code || constants.cont, msg })
        }
        const failed = (error) => {
            const text = `${hook} failed: ${textOf(error)}`
            // What it asked of an engine that stops is not its fault.
            const level = error && error.name === 'SluiceError' && error.status === 503 ? logger.LOGWARN : logger.LOGCRIT
            logger.log(level, [text], { origin: plugin.name, session: object.uuid })
            if (!answered) finish({ code: constants.cont, failed: true })
        }
        if (plugin.timeout > 0) {
            timer = setTimeout(() => {
                const text = `${hook} did not answer within ${plugin.timeout} s`
                logger.log(logger.LOGCRIT, [text], { origin: plugin.name, session: object.uuid })
                finish({ timedOut: true })
            }, plugin.timeout * 1000)
        }
        object.hook = hook
        if (object.is_hmail) object.conclude = finish
        try {
            const result = plugin[method].call(plugin, next, object, params)
            // Promises of another realm are no instances of ours.
            if (result && typeof result.then === 'function') result.then(undefined, failed)
        } catch (error) {
            failed(error)
        } finally {
            call.left()
        }
    })
}

module.exports = { runHook, ask }
