'use strict'
// Runs the plugins of a hook one after the other.

const constants = require('haraka-constants')
const { textOf } = require('./logger')

const DENIALS = new Set([constants.deny, constants.denysoft, constants.denydisconnect, constants.denysoftdisconnect])

// Resolves to { code, msg, plugin, timedOut }, where code is CONT when nobody decided; never rejects.
// A plugin that throws or rejects counts as CONT. One that does not answer in time counts as `onTimeout` says: 'cont' goes
// on with the next plugin, 'denysoft' ends the chain.
async function runHook(registry, logger, hook, object, params, onTimeout = 'cont') {
    for (const listener of registry.of(hook)) {
        const answer = await ask(listener, logger, hook, object, params)
        if (answer.timedOut) {
            if (onTimeout === 'cont') continue
            return { code: constants.denysoft, msg: 'plugin timeout', plugin: listener.plugin.name, timedOut: true }
        }
        if (answer.code === constants.cont) continue
        if (DENIALS.has(answer.code) && hook !== 'deny') {
            const about = [answer.code, answer.msg, listener.plugin.name, listener.method, params, hook]
            const second = await runHook(registry, logger, 'deny', object, about)
            if (second.code === constants.ok) continue
        }
        return { ...answer, plugin: listener.plugin.name }
    }
    return { code: constants.cont }
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
            finish({ code: code || constants.cont, msg })
        }
        const failed = (error) => {
            const text = `${hook} failed: ${textOf(error)}`
            logger.log(logger.LOGCRIT, [text], { origin: plugin.name, session: object.uuid })
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
