'use strict'
// A client's session as plugins see it. The dialogue itself is the engine's: what plugins do here is told to it with the
// answer to its question.

const config = require('haraka-config')
const constants = require('haraka-constants')
const netUtils = require('haraka-net-utils')
const Notes = require('haraka-notes')
const ResultStore = require('haraka-results')
const utils = require('haraka-utils')
const { Transaction } = require('./transaction')

const REPLY_LINES_MAX = 100
const IMPLICIT_TLS_PORT = 465

class Connection {
    constructor(told, host) {
        for (const [name, value] of [['is_connection', true], ['host', host], ['server', listenerOf(told, host.server)]]) {
            Object.defineProperty(this, name, { value, enumerable: false })
        }
        this.uuid = told.uuid
        this.local = { ip: told.local_ip, port: told.local_port, host: netUtils.get_primary_host_name(), info: 'Haraka' }
        this.remote = {
            ip: null, port: told.port, host: null, info: null, closed: false, is_private: false, is_local: false,
        }
        this.hello = { host: null, verb: null }
        this.tls = { enabled: false, advertised: false, verified: false, cipher: {} }
        this.proxy = { allowed: false, ip: null, type: null }
        this.client = {
            remoteAddress: told.ip, remotePort: told.port, localAddress: told.local_ip, localPort: told.local_port,
        }
        this.notes = new Notes()
        this.transaction = null
        this.tran_count = 0
        this.rcpt_count = { accept: 0, tempfail: 0, reject: 0 }
        this.msg_count = { accept: 0, tempfail: 0, reject: 0 }
        this.capabilities = null
        this.esmtp = false
        this.early_talker = false
        this.pipelining = false
        this.errors = 0
        this.totalbytes = 0
        this.start_time = Date.now()
        this.state = constants.connection.state.CMD
        this.encoding = 'utf8'
        this.current_line = null
        this.current_data = null
        this.last_response = null
        this.last_reject = ''
        this.hook = null
        this._relaying = false
        this.results = new ResultStore(this)
        host.logger.addTo(this, () => ({ origin: 'core', session: this.uuid }))

        hide(this, 'said', []) // replies that plugins gave themselves, for the answer under way
        hide(this, 'ending', false) // a plugin wants the session to end
        hide(this, 'resetting', false) // or the transaction
        hide(this, 'loop', undefined) // the only reply from now on
        this.set('remote', 'ip', told.ip)
        if (told.proxy) Object.assign(this.proxy, { allowed: true, ip: told.proxy, type: 'haproxy' })
        this.results.add({ name: 'local' }, this.local)
        this.results.add({ name: 'remote' }, this.remote)
    }

    // ---- what the engine says about the session now ----

    update(told) {
        const user = this.told?.auth_user || ''
        hide(this, 'told', told)
        if (told.auth_user !== user) this.notes.auth_user = told.auth_user || undefined
        this._relaying = told.relaying
        this.esmtp = told.esmtp
        this.errors = told.errors
        if (told.tls && !this.tls.enabled) {
            this.tls.enabled = true
            this.tls.cipher = { name: told.tls.cipher, standardName: told.tls.cipher, version: told.tls.version }
        }
        const host = told.helo || null
        const verb = host && (told.esmtp ? 'EHLO' : 'HELO')
        if (host === this.hello.host && verb === this.hello.verb) return
        this.hello = { host, verb }
        if (host) this.results.add({ name: 'helo' }, this.hello)
    }

    // The transaction that the engine is in, which is begun when it is new here.
    enter({ number, mail_from, relaying, rcpt_to }) {
        const { makeAddress } = this.host
        const uuid = `${this.uuid}.${number}`
        if (!this.transaction || this.transaction.uuid !== uuid) {
            this.tran_count = number
            begin(this, uuid, makeAddress(mail_from))
        }
        addRecipients(this.transaction, rcpt_to.map(makeAddress))
        if (relaying !== undefined) this.transaction._relaying = relaying
    }

    leave() {
        if (!this.transaction) return
        if (this.transaction.message_stream.spooling) this.transaction.message_stream.destroy()
        this.transaction = null
    }

    // What plugins have changed since the question came, in the engine's words.
    changes() {
        const { told, transaction } = this
        const changes = {}
        if (this.said.length > 0) changes.said = this.said.splice(0)
        if (this.ending) changes.disconnect = true
        if (this.loop) changes.loop = this.loop
        if (this.resetting) changes.reset = true
        this.resetting = false
        if (this._relaying !== told.relaying) changes.relaying = this._relaying === true
        if (transaction?._relaying !== undefined) changes.tx_relaying = transaction._relaying === true
        const user = this.notes.auth_user
        if (typeof user === 'string' && user !== told.auth_user && this.relaying) changes.auth_user = user
        return changes
    }

    // ---- what plugins use ----

    set(path, ...rest) {
        const [name, value] = rest.length === 2 ? [`${path}.${rest[0]}`, rest[1]] : [path, rest[0]]
        const parts = name.split('.')
        if (parts.some((part) => part === '__proto__' || part === 'constructor' || part === 'prototype')) return
        let place = this
        for (const part of parts.slice(0, -1)) {
            if (place[part] === undefined || place[part] === null) place[part] = {}
            place = place[part]
        }
        place[parts.at(-1)] = value
        if (name !== 'remote.ip') return
        this.remote.is_local = netUtils.is_local_ip(value)
        this.remote.is_private = this.remote.is_local || netUtils.is_private_ip(value)
    }

    get(path) {
        return path.split('.').reduce((place, part) => (place ? place[part] : undefined), this)
    }

    // Of the transaction while there is one, as in Haraka.
    get relaying() {
        const { transaction } = this
        return transaction && transaction._relaying !== undefined ? transaction._relaying : this._relaying
    }

    set relaying(value) {
        if (this.transaction) this.transaction._relaying = value
        else this._relaying = value
    }

    get_remote(part) {
        const value = this.remote[part]
        const known = value && value !== 'NXDOMAIN' && value !== 'DNSERROR'
        return known ? `${value} [${this.remote.ip}]` : `[${this.remote.ip}]`
    }

    // A reply of the plugin's own. The engine sends it before it does what the answer says.
    respond(code, message, done) {
        const { code: number, lines } = replyOf(message, Number(code))
        this.said.push({ code: number, lines })
        this.last_response = lines.map((line) => `${number} ${line}\r\n`).join('')
        if (number >= 400) this.last_reject = `${number} ${lines.join(' ')}`
        if (done) done()
    }

    // From now on nothing but this, until the client quits.
    loop_respond(code, message) {
        const { code: number, lines } = replyOf(message, Number(code))
        hide(this, 'loop', { code: number, lines })
    }

    disconnect() {
        this.ending = true
    }

    // The engine gives the transaction up once it has the answer.
    reset_transaction(done) {
        if (this.transaction) this.resetting = true
        if (done) done()
    }

    // While plugins are asked, nothing is read anyway.
    pause() {}
    resume() {}

    auth_results(message) {
        if (message) {
            const { notes } = this.transaction || this
            if (!notes.authentication_results) notes.authentication_results = []
            notes.authentication_results.push(utils.sanitize(message))
        }
        const all = [this.notes, this.transaction?.notes].flatMap((notes) => notes?.authentication_results || [])
        return all.length === 0 ? '' : [utils.sanitize(this.local.host), ...all].join(';\r\n\t')
    }

    // What others said about authenticity is no result of ours.
    auth_results_clean() {
        const { transaction } = this
        const given = transaction.header.get_all('Authentication-Results')
        if (given.length === 0) return
        for (const field of given) transaction.add_header('Original-Authentication-Results', field)
        transaction.remove_header('Authentication-Results')
    }

    // What became of a recipient, for those who count.
    rcpt_incr(address, action, message, code) {
        this.transaction.rcpt_count[action] += 1
        this.rcpt_count[action] += 1
        const recipient = { address: address.format().slice(1, -1), action }
        if (message && action !== 'accept') {
            recipient.msg = replyOf(message, 0).lines.join(' ')
            recipient.code = constants.translate(code)
        }
        this.transaction.results.push({ name: 'rcpt_to' }, { recipient })
    }

    count(action) {
        this.msg_count[action] += 1
        const { transaction } = this
        if (transaction) transaction.msg_status = { accept: 'accepted', tempfail: 'deferred', reject: 'rejected' }[action]
    }
}

// The server, as the listener that this client came to.
function listenerOf({ local_ip: address, local_port: port }, server) {
    const family = address.includes(':') ? 'IPv6' : 'IPv4'
    const tlsPorts = String(config.get('smtp.ini').main.smtps_port ?? IMPLICIT_TLS_PORT).split(/[\s,;]+/).map(Number)
    return Object.assign(Object.create(server), { address: () => ({ address, port, family }), has_tls: tlsPorts.includes(port) })
}

// A transaction of `owner`, which has Haraka's logging methods.
function begin(owner, uuid, mailFrom) {
    const transaction = new Transaction(uuid, sessionConfig())
    owner.transaction = transaction
    transaction.results = new ResultStore(owner)
    transaction.mail_from = mailFrom
    transaction.message_stream.on('error', (error) => owner.logerror(`message_stream: ${error.message}`))
    hide(transaction, 'known', { mail_from: mailFrom.format(), rcpt_to: [] })
    return transaction
}

function addRecipients(transaction, addresses) {
    for (const address of addresses) {
        transaction.rcpt_to.push(address)
        transaction.known.rcpt_to.push(address.format())
    }
}

function hide(object, name, value) {
    Object.defineProperty(object, name, { value, enumerable: false, writable: true, configurable: true })
}

// Words of a plugin: a text, an array, an Error or a haraka-dsn, whose code wins.
function replyOf(message, code) {
    if (message === undefined || message === null || message === '') return { code, lines: [] }
    if (typeof message === 'object' && typeof message.reply === 'string' && Number.isInteger(message.code)) {
        return { code: message.code, lines: [message.reply] }
    }
    const texts = Array.isArray(message) ? message : [message instanceof Error || message.message ? message.message : message]
    const lines = texts.flatMap((text) => String(text).split(/\r?\n/)).filter((line) => /\S/.test(line))
    return { code, lines: lines.slice(0, REPLY_LINES_MAX) }
}

function sessionConfig() {
    return config.get('connection.ini', {
        booleans: [
            '-main.strict_rfc1869', '-main.postel', '+main.smtputf8', '+headers.add_received', '+headers.show_version',
            '+headers.clean_auth_results',
        ],
    })
}

module.exports = { Connection, addRecipients, begin, replyOf, sessionConfig }
