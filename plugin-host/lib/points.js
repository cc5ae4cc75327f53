'use strict'
// The hook points of outbound mail: what each gets, what its answers mean, and what happens when there is none.

const constants = require('haraka-constants')
const { runHook } = require('./chain')
const { SESSION_HOOKS } = require('./inbound')
const { normaliseMx } = require('./mx')
const { textOf } = require('./logger')

// Less would be a loop that does nothing else.
const DELAY_SECONDS_MIN = 1
const DENY = new Set([constants.deny, constants.denydisconnect])
const DENYSOFT = new Set([constants.denysoft, constants.denysoftdisconnect])

// Before each attempt: may it begin, and where does it go? Without an answer it begins; without an answer about the
// route it is a temporary failure, because mail that plugins route must not go elsewhere.
async function attempt({ registry, logger }, item, { spans } = {}) {
    const sent = await runHook(registry, logger, 'send_email', item, [], { span: spanOf(spans, 'send_email') })
    if (sent.decision) return { by: sent.plugin, ...sent.decision }
    if (sent.code === constants.delay) {
        const seconds = delayOf(sent.msg)
        if (seconds) return { what: 'delay', seconds, by: sent.plugin }
        item.logwarn(`${sent.plugin} answered send_email with DELAY and no number of seconds: the mail is sent now`)
    }
    const routed = await runHook(
        registry, logger, 'get_mx', item, item.todo.domain, { timeout: 'denysoft', span: spanOf(spans, 'get_mx') })
    if (routed.decision) return { by: routed.plugin, ...routed.decision }
    if (DENY.has(routed.code)) return { what: 'deny', text: reason(routed.msg, 'no route'), by: routed.plugin }
    if (DENYSOFT.has(routed.code)) return { what: 'denysoft', text: reason(routed.msg, 'no route now'), by: routed.plugin }
    const last = spans && !spans.get_mx ? sent : routed
    const answer = { what: 'go', terms: termsOf(item), decided: endOf(spans, last) }
    if (routed.code !== constants.ok) return answer
    try {
        answer.mx = normaliseMx(routed.msg)
    } catch (error) {
        item.logerror(`get_mx of ${routed.plugin}: ${error.message}`)
        return { what: 'denysoft', text: error.message, by: routed.plugin }
    }
    item.mxlist = answer.mx
    return answer
}

// Which part of a hook's listeners is asked, as Registry.of() takes it: between native plugins there may be several.
function spanOf(spans, hook) {
    return spans ? spans[hook] || null : undefined
}

// Whether those after this part need not be asked any more.
function endOf(spans, answer) {
    return spans && answer.code !== constants.cont ? true : undefined
}

// What plugins ask of this attempt by way of the todo.
function termsOf(item) {
    const { notes } = item.todo
    const terms = {}
    if (item.todo.force_tls === true || item.force_tls === true) terms.force_tls = true
    if (typeof item.todo.domain === 'string' && item.todo.domain !== item.home) terms.domain = item.todo.domain
    if (typeof notes.outbound_ip === 'string') terms.bind = notes.outbound_ip
    if (typeof notes.outbound_helo === 'string') terms.helo = notes.outbound_helo
    return terms
}

// A temporary failure. Without a usable answer the retry schedule decides.
async function deferred({ registry, logger }, item, told) {
    item.mx = told.mx
    const params = { delay: told.delay, err: told.reason }
    if (told.partial) {
        params.fail_recips = item.envelope.concerned()
        params.mx = told.mx
    }
    const answer = await runHook(registry, logger, 'deferred', item, params, { span: spanOf(told.spans, 'deferred') })
    if (answer.code === constants.cont) return { what: 'default' }
    if (!DENYSOFT.has(answer.code)) return { what: 'drop', by: answer.plugin }
    const seconds = delayOf(answer.msg)
    if (seconds) return { what: 'delay', seconds, by: answer.plugin }
    item.logwarn(`${answer.plugin} answered deferred with DENYSOFT and no number of seconds: the usual delay is used`)
    return { what: 'default', decided: endOf(told.spans, answer) }
}

// A permanent failure. Without a usable answer the sender is told.
async function bounce({ registry, logger }, item, told) {
    const error = new Error(told.reason)
    error.mx = told.mx
    item.mx = told.mx
    error.bounced_rcpt = item.envelope.concerned()
    item.bounce_error = error
    const answer = await runHook(registry, logger, 'bounce', item, error, { span: spanOf(told.spans, 'bounce') })
    return answer.code === constants.cont ? { what: 'default' } : { what: 'silent', by: answer.plugin }
}

// Nobody waits for what plugins say here.
async function delivered({ registry, logger }, item, told) {
    const params = [
        told.host, told.ip, told.response, told.delay, told.port, told.mode, item.envelope.concerned(told.of),
        told.secured, told.authenticated,
    ]
    const answer = await runHook(registry, logger, 'delivered', item, params, { span: spanOf(told.spans, 'delivered') })
    if (answer.code !== constants.cont && answer.code !== constants.ok) {
        item.logwarn(`${answer.plugin} answered delivered with ${constants.translate(answer.code)}, which changes nothing`)
    }
    return undefined
}

// Seconds, of which Haraka looks at its queue once; undefined when it is no delay.
function delayOf(msg) {
    const seconds = Number(msg)
    return seconds > 0 && Number.isFinite(seconds) ? Math.max(seconds, DELAY_SECONDS_MIN) : undefined
}

// Texts, arrays of them, Errors and DSN objects of haraka-dsn.
function reason(msg, otherwise) {
    if (msg === undefined || msg === null || msg === '') return otherwise
    if (Array.isArray(msg)) return msg.map(String).join(' ')
    if (typeof msg === 'object' && typeof msg.reply === 'string') return msg.reply
    if (typeof msg === 'object' && typeof msg.message === 'string') return msg.message
    return typeof msg === 'string' ? msg : textOf(msg)
}

const POINTS = { attempt, deferred, bounce, delivered }
// The hooks of Haraka's that the engine calls, each by one of the points.
const CALLED = ['send_email', 'get_mx', 'deferred', 'bounce', 'delivered', 'log', ...SESSION_HOOKS]
// Hooks that the host itself calls, or that belong to processes that are not there: Haraka has workers in a cluster only.
const OWN = ['init_master', 'init_child', 'deny']

// Where changes of the envelope count.
const EDITING = ['attempt', 'deferred']

module.exports = { POINTS, CALLED, EDITING, OWN }
