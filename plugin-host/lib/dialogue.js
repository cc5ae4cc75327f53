'use strict'
// A made-up client's session, put to one plugin as the engine would put it: the points in their order, as long as nobody
// refuses.

const constants = require('haraka-constants')

// Who is asked at each point; what a refusal is told with when the plugin names no code (DENY, DENYSOFT).
const POINTS = {
    opening: { hooks: ['connect_init', 'lookup_rdns', 'connect'], codes: [554, 421] },
    hello: { hooks: ['helo', 'ehlo', 'capabilities'], codes: [550, 450] },
    noop: { hooks: ['noop'], codes: [500, 450] },
    vrfy: { hooks: ['vrfy'], codes: [550, 450] },
    command: { hooks: ['unrecognized_command'], codes: [500, 451] },
    mail: { hooks: ['mail'], codes: [550, 450] },
    rcpt: { hooks: ['rcpt', 'rcpt_ok'], codes: [550, 450] },
    data: { hooks: ['data'], codes: [554, 451] },
    content: { hooks: ['data_post', 'queue', 'queue_outbound', 'pre_send_trans_email'], codes: [550, 450] },
    queued: { hooks: ['queue_ok'] },
    oversize: { hooks: ['max_data_exceeded'], codes: [550, 450] },
    rset: { hooks: ['rset'] },
    reset: { hooks: ['reset_transaction'] },
    single: { hooks: ['deny'] },
    quit: { hooks: ['quit'] },
    left: { hooks: ['disconnect'] },
}
const SESSION_HOOKS = Object.values(POINTS).flatMap(({ hooks }) => hooks)
// Refused there, a session goes on with its next transaction or its next command.
const HARMLESS = ['noop', 'vrfy', 'command', 'rcpt', 'oversize', 'single', 'quit']

const MESSAGE_ID = '0rehearsal000'
const OFFERED = ['rehearsal.test', 'PIPELINING', '8BITMIME', 'SIZE 26214400']
const REASON = 'refused for the rehearsal'

class Dialogue {
    // `hooks`: those that the plugin has. `put(point, told)` puts a question and resolves to the answer, with `heard`.
    // Options: ip, port, helo, ehlo, from, to (one or several), relaying, user, command, message, skip_deny.
    constructor(number, hooks, options, put) {
        Object.assign(this, { hooks, options, put, steps: [], refused: undefined })
        this.client = {
            uuid: `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`, ip: options.ip || '192.0.2.7', port: options.port || 40000,
            local_ip: '192.0.2.1', local_port: 25, helo: '', esmtp: false, relaying: options.relaying === true, auth_user: options.user || '',
            errors: 0,
        }
        if (options.user) this.client.relaying = options.relaying !== false
        this.from = `<${options.from ?? 'sender@here.test'}>`
        this.to = [options.to ?? 'recipient@there.test'].flat().map((address) => `<${address}>`)
        this.begun = false
        this.transactions = 0
    }

    // Resolves to the steps that were taken. Without `last` all that the plugin has hooks for, otherwise up to that hook.
    async run(last) {
        for (const part of [this.greeting, this.commands, this.mail, this.oversized, this.denial, this.farewell]) {
            if (this.isOver(last)) break
            await part.call(this)
        }
        return this.steps
    }

    isOver(last) {
        return this.refused !== undefined || (last !== undefined && this.steps.some(({ hooks }) => hooks.some(({ hook }) => hook === last)))
    }

    heard(hook) {
        return this.steps.some(({ hooks }) => hooks.some((one) => one.hook === hook))
    }

    wants(point) {
        return POINTS[point].hooks.some((hook) => this.hooks.includes(hook))
    }

    // Puts one point, when the plugin has a hook there; resolves to what was decided.
    async step(point, told = {}) {
        if (!this.wants(point) || this.refused !== undefined) return undefined
        const { heard, ...answer } = await this.put(point, { client: { ...this.client }, begun: this.begun, ...told })
        this.begun = true
        const step = { point, hooks: heard, ...answer, refusal: refusalOf(point, answer) }
        this.steps.push(step)
        if (answer.relaying !== undefined) this.client.relaying = answer.relaying
        if (answer.auth_user) this.client.auth_user = answer.auth_user
        const ends = step.refusal && (!HARMLESS.includes(point) || answer.disconnect)
        if (ends && !this.options.skip_deny) this.refused = step
        return step
    }

    async greeting() {
        await this.step('opening')
        const { helo, ehlo } = this.options
        const name = helo || ehlo || 'client.here.test'
        // Both, one after the other, when nobody says which.
        const verbs = helo ? [false] : ehlo || !this.hooks.includes('helo') ? [true] : [false, true]
        for (const esmtp of verbs) {
            Object.assign(this.client, { helo: name, esmtp })
            if (!esmtp && !this.hooks.includes('helo')) continue
            await this.step('hello', { lines: OFFERED })
        }
    }

    async commands() {
        await this.step('noop')
        await this.step('vrfy')
        const [, verb, rest] = /^(\S*)\s*(.*)$/s.exec(this.options.command || 'XREHEARSAL with words')
        await this.step('command', { params: [verb, rest] })
    }

    // Mail that the client may relay goes another way than mail to us: who has hooks on both ways is shown both.
    async mail() {
        const { relaying } = this.options
        const ways = []
        if (this.hooks.includes('queue') && !this.client.relaying && relaying !== true) ways.push(false)
        if (relaying !== false && (this.client.relaying || this.hooks.includes('queue_outbound') || ways.length === 0)) ways.push(true)
        for (const way of ways.length > 0 ? ways : [false]) await this.transaction(way)
    }

    async transaction(relaying) {
        this.client.relaying = relaying
        const tx = this.begin()
        await this.step('mail', { tx, params: {} })
        const taken = await this.recipients(tx)
        if (taken.length === 0 && this.refused === undefined) return this.end()
        const left = { ...tx, rcpt_to: this.wants('rcpt') ? [] : taken }
        await this.step('data', { tx: left })
        const { message } = this.options
        const told = { header: headerOf(message).toString('base64'), size: message.length, message: MESSAGE_ID, keeps: true }
        const posted = await this.step('content', { tx: this.wants('data') ? { ...tx, rcpt_to: [] } : left, ...told })
        if (!posted || posted.what === 'cont') await this.step('queued', { tx: { ...tx, rcpt_to: [] }, text: `queued as ${MESSAGE_ID}` })
        return this.end()
    }

    // Those that are taken; the host knows those that it was asked about.
    async recipients(tx) {
        const taken = []
        for (const rcpt of this.to) {
            const step = await this.step('rcpt', { tx, rcpt, params: {}, permitted: true })
            if (!step?.refusal || this.options.skip_deny) taken.push(rcpt)
        }
        return taken
    }

    begin() {
        this.transactions += 1
        return { number: this.transactions, mail_from: this.from, rcpt_to: [] }
    }

    async end() {
        await this.step('reset')
    }

    async oversized() {
        if (!this.wants('oversize')) return
        await this.step('oversize', { tx: { ...this.begin(), rcpt_to: this.to } })
        await this.end()
    }

    // Nobody has denied anything: somebody else does.
    async denial() {
        if (this.heard('deny')) return
        const params = [constants.deny, REASON, 'rehearsal', 'hook_mail', [], 'mail']
        await this.step('single', { tx: this.begin(), hook: 'deny', params })
    }

    async farewell() {
        await this.step('rset', { tx: this.begin() })
        await this.step('quit')
        await this.step('left')
    }
}

function headerOf(message) {
    const end = message.indexOf('\r\n\r\n')
    return end === -1 ? message : message.subarray(0, end + 4)
}

// What the client hears when it is refused; nothing when it is not.
function refusalOf(point, { what, code, text = [] }) {
    const { codes } = POINTS[point]
    if (!codes || (what !== 'deny' && what !== 'denysoft')) return undefined
    const usual = codes[what === 'deny' ? 0 : 1]
    const own = code && Math.floor(code / 100) === Math.floor(usual / 100) && point !== 'opening'
    return `${own ? code : usual} ${text.join(' ')}`.trim()
}

module.exports = { Dialogue, SESSION_HOOKS }
