'use strict'
// Haraka's `outbound` module: plugins hand in mail and look at the queue.

const { PassThrough } = require('node:stream')
const config = require('haraka-config')
const constants = require('haraka-constants')
const netUtils = require('haraka-net-utils')
const ResultStore = require('haraka-results')
const utils = require('haraka-utils')
const { strictAddressMaker } = require('./addresses')
const { runHook } = require('./chain')
const { HMailItem, addNotes, imageText } = require('./items')
const { textOf } = require('./logger')
const { createTransaction } = require('./transaction')

const MESSAGE_BYTES_MAX = 26_214_400 // Haraka's, where connection.ini says nothing
const NOTES_CHARS_MAX = 64 * 1024

class Refused extends Error {}

// Made once for a host. `queue` answers questions about the queue, `injector` carries messages to the engine.
class Outbound {
    constructor(host, queue, injector) {
        hide(this, { host, injector, parse: strictAddressMaker(host.generation) })
        this.name = 'outbound'
        this.config = config
        this.net_utils = netUtils
        this.queue_dir = queue.directory
        this.delivery_queue = queue.delivery_queue
        this.temp_fail_queue = queue.temp_fail_queue
        this.HMailItem = HMailItem
        this.TODOItem = TODOItem
        for (const name of ['get_stats', 'list_queue', 'stat_queue', 'stats', 'flush_queue', 'load_queue_files', 'scan_queue_pids']) {
            this[name] = queue[name].bind(queue)
        }
        // The engine loads its queue itself, before any plugin runs.
        for (const name of ['init_queue', 'load_pid_queue', 'ensure_queue_dir']) this[name] = async () => {}
        // Plugins take them off the module.
        this.send_email = this.send_email.bind(this)
        this.send_trans_email = this.send_trans_email.bind(this)
        this.lookup_mx = this.lookup_mx.bind(this)
    }

    // Contents: a string, Buffer, stream or anything else that gives pieces; line ends as they come. `next` hears OK when the
    // mail is durable, DENY when it cannot be sent, DENYSOFT when it cannot be taken now.
    send_email(from, to, contents, next, options) {
        const { host } = this
        const origin = originOf(options?.origin)
        const said = this.onceTold(next, origin)
        this.compose(from, to, contents, options || {}).then(
            (transaction) => this.send(transaction, said, origin),
            (error) => said(error instanceof Refused ? constants.deny : constants.denysoft, textual(error)),
        ).catch((error) => host.logger.logcrit(`send_email: ${textOf(error)}`))
    }

    // Where DNS says that mail for a domain goes: plugins give each host a `bind` and answer get_mx with it. Haraka had this until 3.0.
    lookup_mx(domain, next) {
        const found = netUtils.get_mx(domain)
        if (typeof next !== 'function') return found
        found.then((hosts) => next(null, hosts), (error) => next(error))
            .catch((error) => this.host.logger.logcrit(`callback of lookup_mx failed: ${textOf(error)}`))
        return undefined
    }

    send_trans_email(transaction, next) {
        const said = this.onceTold(next, 'outbound')
        this.send(transaction, said, 'outbound').catch((error) => this.host.logger.logcrit(`send_trans_email: ${textOf(error)}`))
    }

    // What a callback throws is its plugin's business; without one, what went wrong is at least in the log.
    onceTold(next, origin) {
        const { logger } = this.host
        return (code, text) => {
            if (code !== constants.ok) logger.log(logger.LOGWARN, [`mail not queued: ${text}`], { origin })
            if (typeof next !== 'function') return
            try {
                const result = next(code, text)
                if (result && typeof result.then === 'function') result.then(undefined, (error) => failed(logger, origin, error))
            } catch (error) {
                failed(logger, origin, error)
            }
        }
    }

    async compose(from, to, contents, options) {
        const transaction = createTransaction(null, config.get('connection.ini'))
        transaction.mail_from = this.address(from, 'from')
        transaction.rcpt_to = (Array.isArray(to) ? to : [to]).map((one) => this.address(one, 'to'))
        if (transaction.rcpt_to.length === 0) throw new Refused('No recipients for email')
        // They join those that every transaction has, which hooks rely on.
        if (options.notes) addNotes(transaction.notes, options.notes)
        await fill(transaction, contents, options.dot_stuffed === true)
        if (options.remove_msgid) transaction.remove_header('Message-Id')
        if (options.remove_date) transaction.remove_header('Date')
        return transaction
    }

    // The octets of the message that these contents are, as it would be queued before hooks are asked.
    async written(from, to, contents) {
        const transaction = await this.compose(from, to, contents, {})
        this.complete(transaction)
        const pieces = []
        for await (const piece of contentOf(transaction)) pieces.push(piece)
        return Buffer.concat(pieces)
    }

    address(given, what) {
        if (given && typeof given.format === 'function') return given
        try {
            return this.parse(given)
        } catch (error) {
            throw new Refused(`Malformed ${what} address (${textual(given)}): ${error.message}`)
        }
    }

    async send(transaction, next, origin) {
        const { host } = this
        this.complete(transaction)
        const connection = { transaction, uuid: transaction.uuid }
        Object.defineProperty(connection, 'is_connection', { value: true })
        host.logger.addTo(connection, () => ({ origin: 'outbound', session: transaction.uuid }))
        if (!transaction.results) transaction.results = new ResultStore(connection)
        await runHook(host.registry, host.logger, 'pre_send_trans_email', connection)
        const answer = await this.hand(transaction, origin)
        const result = answer.code === constants.ok ? { pass: 'queued' } : { fail: answer.text }
        transaction.results.add({ name: 'outbound' }, result)
        next(answer.code, answer.code === constants.ok ? `Message Queued (${answer.text})` : answer.text)
    }

    // What every message has, and what signatures cover. The trace above it is the engine's.
    complete(transaction) {
        const { header } = transaction
        if (header.get_all('Message-Id').some((value) => value.trim() === '<>')) transaction.remove_header('Message-Id')
        if (header.get_all('Message-Id').length === 0) {
            transaction.add_header('Message-Id', `<${transaction.uuid}@${netUtils.get_primary_host_name()}>`)
        }
        if (header.get_all('Date').length === 0) transaction.add_header('Date', utils.date_to_str(new Date()))
    }

    async hand(transaction, origin) {
        const { items } = this.host
        try {
            const message = {
                from: pathOf(transaction.mail_from), to: transaction.rcpt_to.map(pathOf), origin, notes: this.lasting(transaction),
            }
            const named = (id) => items.adopt(id, transaction.notes)
            const { code, text } = await this.injector.inject(message, () => contentOf(transaction), named)
            return { code: constants[code], text }
        } catch (error) {
            return { code: constants.denysoft, text: textual(error) }
        }
    }

    // The notes that survive a restart.
    lasting(transaction) {
        const image = imageText({ notes: transaction.notes })
        if (image.length <= NOTES_CHARS_MAX) return JSON.parse(image).notes
        this.host.logger.logwarn(`notes of ${image.length} characters are not kept for a restart; ${NOTES_CHARS_MAX} is the most`)
        return undefined
    }
}

// As Haraka's; it goes to the engine as part of a message only.
class TODOItem {
    constructor(domain, recipients, transaction) {
        this.queue_time = Date.now()
        this.domain = domain
        this.rcpt_to = recipients
        this.mail_from = transaction.mail_from
        this.message_stream = transaction.message_stream
        this.notes = transaction.notes
        this.uuid = transaction.uuid
        this.force_tls = false
    }
}

// ---- contents ------------------------------------------------------------------------------------------------------

// Reads everything into the transaction, line by line. The last line need not end.
async function fill(transaction, contents, dotStuffed) {
    const bytesMax = Number(config.get('connection.ini').max?.bytes) || MESSAGE_BYTES_MAX
    let rest = Buffer.alloc(0)
    let total = 0
    const add = (line) => {
        const bare = line.subarray(0, line.length - (line.at(-1) === 0x0a ? (line.at(-2) === 0x0d ? 2 : 1) : 0))
        const dot = !dotStuffed && bare[0] === 0x2e ? '.' : ''
        transaction.add_data(Buffer.concat([Buffer.from(dot), bare, Buffer.from('\r\n')]))
    }
    for await (const piece of piecesOf(contents)) {
        const octets = octetsOf(piece)
        total += octets.length
        if (total > bytesMax) throw new Refused(`Message is larger than ${bytesMax} octets`)
        const all = rest.length > 0 ? Buffer.concat([rest, octets]) : octets
        let from = 0
        for (let end = all.indexOf(0x0a); end !== -1; end = all.indexOf(0x0a, from)) {
            add(all.subarray(from, end + 1))
            from = end + 1
        }
        rest = all.subarray(from)
    }
    if (rest.length > 0) add(rest)
    await new Promise((resolve) => transaction.end_data(resolve))
}

function piecesOf(contents) {
    if (typeof contents === 'string' || ArrayBuffer.isView(contents)) return [contents]
    if (contents && (contents[Symbol.asyncIterator] || contents[Symbol.iterator])) return contents
    if (contents && typeof contents.pipe === 'function') {
        const through = new PassThrough()
        if (typeof contents.on === 'function') contents.on('error', (error) => through.destroy(error))
        contents.pipe(through)
        return through
    }
    throw new Refused(`Contents are no string, Buffer or stream: ${textual(contents)}`)
}

function octetsOf(piece) {
    if (typeof piece === 'string') return Buffer.from(piece)
    if (ArrayBuffer.isView(piece)) return Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength)
    throw new Refused(`Contents give what is no octets: ${textual(piece)}`)
}

// The message as it is now, with what plugins did to its header and body.
async function* contentOf(transaction) {
    const through = new PassThrough()
    const stream = transaction.message_stream
    const broken = (error) => through.destroy(error)
    if (typeof stream.once === 'function') stream.once('error', broken)
    stream.pipe(through)
    try {
        yield* through
    } finally {
        if (typeof stream.removeListener === 'function') stream.removeListener('error', broken)
        if (!through.destroyed) through.destroy()
    }
}

// ---- small things --------------------------------------------------------------------------------------------------

function pathOf(address) {
    const text = address && typeof address.format === 'function' ? address.format() : String(address)
    return text.replace(/^<|>$/g, '')
}

// Plugins name themselves, or something that has a name.
function originOf(origin) {
    if (typeof origin === 'string' && origin) return origin
    return origin && typeof origin.name === 'string' ? origin.name : 'outbound'
}

function textual(value) {
    if (value && typeof value.message === 'string') return value.message
    return typeof value === 'string' ? value : textOf(value)
}

function failed(logger, origin, error) {
    logger.log(logger.LOGCRIT, [`callback of send_email failed: ${textOf(error)}`], { origin })
}

function hide(object, members) {
    for (const [name, value] of Object.entries(members)) Object.defineProperty(object, name, { value, enumerable: false })
}

module.exports = { Outbound, TODOItem }
