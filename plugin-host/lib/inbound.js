'use strict'
// The hook points of mail in: what each gets, what its answers mean, and what happens when there is none.

const dns = require('node:dns')
const constants = require('haraka-constants')
const netUtils = require('haraka-net-utils')
const utils = require('haraka-utils')
const config = require('haraka-config')
const { runHook } = require('./chain')
const { Connection, addRecipients, begin, replyOf, sessionConfig } = require('./connection')
const { addNotes, imageText } = require('./items')
const { textOf } = require('./logger')

const OCTETS_AT_ONCE = 256 * 1024
const NOTES_CHARS_MAX = 64 * 1024
const RDNS_MS_MAX = 3000

const VERDICTS = new Map([
    [constants.ok, { what: 'ok' }],
    [constants.deny, { what: 'deny' }],
    [constants.denysoft, { what: 'denysoft' }],
    [constants.denydisconnect, { what: 'deny', disconnect: true }],
    [constants.denysoftdisconnect, { what: 'denysoft', disconnect: true }],
    [constants.disconnect, { what: 'denysoft', disconnect: true }],
])

// Who does not answer in time has not agreed; who throws is passed over, as in Haraka.
const DECIDES = { timeout: 'denysoft' }
// The last word about a message: it does not go past a plugin that fails.
const LAST_WORD = { timeout: 'denysoft', failure: 'denysoft' }
// Nobody decides anything.
const HEARS = {}
const ALL_HEAR = { all: true }

function verdict(answer) {
    const { what, disconnect } = VERDICTS.get(answer.code) || { what: 'cont' }
    const found = { what }
    if (disconnect) found.disconnect = true
    if (answer.plugin) found.by = answer.plugin
    // An answer that failed is no refusal of the plugin's: the client may come back soon.
    const { code, lines } = replyOf(answer.msg, answer.failed || answer.timedOut ? 451 : 0)
    if (code) found.code = code
    if (lines.length > 0) found.text = lines
    return found
}

const isDenied = (found) => found.what === 'deny' || found.what === 'denysoft'

// ---- the points ----------------------------------------------------------------------------------------------------

async function opening(host, connection, told) {
    const { registry, logger } = host
    await runHook(registry, logger, 'connect_init', connection, undefined, ALL_HEAR)
    const named = await runHook(registry, logger, 'lookup_rdns', connection, undefined, DECIDES)
    const found = refusedAtOnce(named)
    if (isDenied(found)) return found
    await name(connection, named.code === constants.ok ? nameSaid(named) : host.rehearsal?.name)
    const rdns = told.named ? connection.remote.host : undefined
    return { ...refusedAtOnce(await runHook(registry, logger, 'connect', connection, undefined, DECIDES)), rdns }
}

const nameSaid = (answer) => utils.sanitize(String(answer.msg || '')) || 'Unknown'

async function name(connection, said) {
    const { remote } = connection
    remote.host = said || await nameOf(remote.ip)
    remote.info = remote.info || remote.host
    connection.results.add({ name: 'remote' }, remote)
}

// Before the greeting DISCONNECT is a refusal for good.
function refusedAtOnce(answer) {
    const found = verdict(answer)
    if (answer.code === constants.disconnect) found.what = 'deny'
    return found
}

async function nameOf(ip) {
    if (netUtils.is_local_ip(ip)) return 'localhost'
    let timer
    const late = new Promise((resolve) => { timer = setTimeout(() => resolve('DNSERROR'), RDNS_MS_MAX) })
    const failed = ({ code }) => (code === dns.NXDOMAIN || code === dns.NOTFOUND ? 'NXDOMAIN' : 'DNSERROR')
    const looked = dns.promises.reverse(ip).then(([name]) => utils.sanitize(name || '') || 'Unknown', failed)
    const name = await Promise.race([looked, late])
    clearTimeout(timer)
    return name
}

async function hello(host, connection, told) {
    const { registry, logger } = host
    const hook = connection.esmtp ? 'ehlo' : 'helo'
    const found = verdict(await runHook(registry, logger, hook, connection, connection.hello.host, DECIDES))
    if (isDenied(found) || !connection.esmtp) return found
    connection.capabilities = [...told.lines]
    await runHook(registry, logger, 'capabilities', connection, undefined, HEARS)
    return { ...found, lines: withoutTwins(connection.capabilities.map(String)) }
}

// What the engine offers itself is not offered twice.
function withoutTwins(lines) {
    const seen = new Set()
    return lines.filter((line, place) => {
        if (place === 0) return true
        const word = line.trim().split(/\s+/)[0].toUpperCase()
        return word && !seen.has(word) && seen.add(word)
    })
}

async function command(host, connection, told) {
    const { registry, logger } = host
    connection.current_line = told.params.join(' ')
    const rules = { ...DECIDES, span: told.part?.span }
    const answer = await runHook(registry, logger, 'unrecognized_command', connection, told.params, rules)
    let found = verdict(answer)
    if (answer.code === constants.next_hook) {
        found = verdict(await runHook(registry, logger, String(answer.msg), connection, undefined, DECIDES))
    }
    // A plugin that has asked for more gets the next line as it is.
    if (connection.said.at(-1)?.code === 334) found.more = true
    if (told.part && answer.code !== constants.cont) found.decided = true
    return found
}

async function mail(host, connection, told) {
    const { transaction } = connection
    const params = [transaction.mail_from, told.params]
    const found = verdict(await runHook(host.registry, host.logger, 'mail', connection, params, DECIDES))
    noteSender(transaction, found)
    return found
}

function noteSender({ results, mail_from }, { what }) {
    const action = { deny: 'reject', denysoft: 'tempfail' }[what] || 'accept'
    results.add({ name: 'mail_from' }, { action, address: mail_from.format().slice(1, -1) })
}

// OK is said when the recipient is taken: a plugin said so, or the client may relay, or the engine takes that domain anyway.
async function rcpt(host, connection, told) {
    const { registry, logger } = host
    const { transaction } = connection
    const address = host.makeAddress(told.rcpt)
    const text = address.format()
    transaction.rcpt_to.push(address)
    const answer = await runHook(registry, logger, 'rcpt', connection, [address, told.params], DECIDES)
    let found = verdict(answer)
    const taken = found.what === 'ok' || (found.what === 'cont' && (connection.relaying || told.permitted))
    if (taken) {
        const second = await runHook(registry, logger, 'rcpt_ok', connection, address, DECIDES)
        const last = verdict(second)
        if (isDenied(last)) found = last
        else found = { what: 'ok', by: found.by, text: last.text || found.text }
    }
    const action = { ok: 'accept', denysoft: 'tempfail' }[found.what] || 'reject'
    connection.rcpt_incr(address, action, answer.msg, answer.code)
    if (action !== 'accept') {
        const place = transaction.rcpt_to.indexOf(address)
        if (place !== -1) transaction.rcpt_to.splice(place, 1)
        return found
    }
    transaction.known.rcpt_to.push(text)
    return found
}

const plain = (hook, rules = DECIDES) => async (host, connection) =>
    verdict(await runHook(host.registry, host.logger, hook, connection, undefined, rules))

// One hook, in rehearsals.
const single = async ({ registry, logger }, connection, { hook, params }) =>
    verdict(await runHook(registry, logger, hook, connection, params, DECIDES))

// Who wants to leave is let go, whatever plugins say.
async function quit(host, connection) {
    return letGo(await plain('quit', HEARS)(host, connection))
}

const letGo = (found) => (isDenied(found) ? { by: found.by, text: found.text, what: 'ok' } : found)

// All that is asked about a complete message, from data_post to who takes it.
async function content(host, connection, told) {
    const { transaction } = connection
    const original = await load(host, transaction, told)
    const parts = sessionConfig().max?.mime_parts || 1000
    if (transaction.mime_part_count >= parts) return { what: 'deny', code: 554, text: ['Too many MIME parts'] }
    const found = await decide(host, connection, told)
    if (isDenied(found)) connection.count(found.what === 'deny' ? 'reject' : 'tempfail')
    return found.what === 'cont' ? keep(host, transaction, original, told) : found
}

// The message stays with the engine, as plugins have made it.
async function keep(host, transaction, original, told) {
    const found = { what: 'cont', ...envelopeChanges(transaction), notes: notesText(host, transaction) }
    host.items.adopt(told.message, transaction.notes)
    found.changed = await sendChanges(host, transaction, original, told.id)
    return found
}

// A message that no session brought: nothing but the last chance to change it.
async function injected(host, told) {
    const sender = {}
    host.logger.addTo(sender, () => ({ origin: 'outbound', session: told.message }))
    const transaction = begin(sender, told.message, host.makeAddress(told.tx.mail_from))
    addRecipients(transaction, told.tx.rcpt_to.map(host.makeAddress))
    addNotes(transaction.notes, told.notes || {})
    const original = await load(host, transaction, told)
    const answer = await runHook(host.registry, host.logger, 'pre_send_trans_email', sender, undefined, { ...HEARS, span: told.part?.span })
    return { ...await keep(host, transaction, original, told), decided: told.part && answer.code !== constants.cont }
}

// The header at once; the body only when somebody wants it parsed.
async function load(host, transaction, told) {
    const original = { question: told.id }
    const fetch = () => host.fetchContent(original.question)
    const stream = transaction.message_stream
    transaction.data_bytes = told.size
    // Plugins may have added fields before there was content.
    const added = transaction.header.header_list.length
    if (transaction.parse_body) await transaction.receive(await fetch())
    else transaction.lend(Buffer.from(told.header, 'base64'), fetch)
    return Object.assign(original, { stream, header: transaction.header.header_list.slice(added).join('') })
}

async function decide(host, connection, told) {
    const { registry, logger } = host
    const { transaction } = connection
    connection.totalbytes += told.size
    if (sessionConfig().headers?.clean_auth_results !== false) connection.auth_results_clean()
    transaction.data_post_start = Date.now()
    const posted = await runHook(registry, logger, 'data_post', connection, undefined, LAST_WORD)
    transaction.data_post_delay = (Date.now() - transaction.data_post_start) / 1000
    const authenticity = connection.auth_results()
    if (authenticity) transaction.add_leading_header('Authentication-Results', authenticity)
    let found = verdict(posted)
    if (isDenied(found)) return found

    const hook = connection.relaying ? 'queue_outbound' : 'queue'
    found = verdict(await runHook(registry, logger, hook, connection, undefined, LAST_WORD))
    noteQueue(transaction, found)
    if (found.what === 'ok') {
        const text = `${found.text?.join(' ') || 'Message Queued'} (${transaction.uuid})`
        await queued(host, connection, { text })
        return { what: 'ok', by: found.by, text: [text] }
    }
    if (isDenied(found)) return found
    if (connection.relaying || told.keeps) await beforeQueueing(host, connection)
    return { what: 'cont' }
}

function noteQueue({ results }, { what, text }) {
    const result = { ok: 'pass', deny: 'fail', denysoft: 'fail' }[what]
    if (result) results.add({ name: 'queue' }, { [result]: text?.join(' ') || 'Message Queued' })
}

// The last chance to change a message that the engine keeps.
async function beforeQueueing(host, connection) {
    const { transaction } = connection
    if (connection.relaying) complete(transaction)
    const sender = { transaction }
    host.logger.addTo(sender, () => ({ origin: 'outbound', session: transaction.uuid }))
    await runHook(host.registry, host.logger, 'pre_send_trans_email', sender, undefined, HEARS)
}

// New mail gets what its client left out, in time for signatures.
function complete(transaction) {
    const id = transaction.header.get('Message-Id').trim()
    if (!id || id === '<>') {
        transaction.remove_header('Message-Id')
        transaction.add_header('Message-Id', `<${transaction.uuid}@${config.get('me') || netUtils.get_primary_host_name()}>`)
    }
    if (!transaction.header.get('Date')) transaction.add_header('Date', utils.date_to_str(new Date()))
}

// Only what plugins changed goes back: nothing, the header section, or all of it.
async function sendChanges(host, transaction, original, id) {
    const { stream, header } = original
    const newBody = transaction.message_stream !== stream ||
        (transaction.body && (transaction.banner || transaction.body_filters.length > 0))
    const fields = transaction.header.header_list
    if (!newBody && fields.join('') === header) return undefined
    let octets
    if (newBody) {
        octets = await new Promise((resolve) => transaction.message_stream.get_data({}, resolve))
    } else {
        octets = Buffer.from(fields.map((field) => field.replace(/\r?\n?$/, '\n').replace(/\r?\n/g, '\r\n')).join('') + '\r\n')
    }
    for (let at = 0; at < octets.length; at += OCTETS_AT_ONCE) {
        host.wire.sendOctets(id, octets.subarray(at, at + OCTETS_AT_ONCE), at + OCTETS_AT_ONCE >= octets.length)
    }
    return newBody ? 'all' : 'header'
}

// Plugins may have put other addresses into the envelope.
function envelopeChanges({ known, mail_from, rcpt_to }) {
    const changes = {}
    if (mail_from.format() !== known.mail_from) changes.mail_from = mail_from.format()
    const to = rcpt_to.map((address) => address.format())
    if (to.length !== known.rcpt_to.length || to.some((one, at) => one !== known.rcpt_to[at])) changes.rcpt_to = to
    return changes
}

function notesText(host, transaction) {
    const { skip_plugins, ...notes } = transaction.notes
    const text = imageText(notes)
    if (text === '{}') return undefined
    if (text.length <= NOTES_CHARS_MAX) return text
    const why = `notes of ${text.length} characters are not kept; ${NOTES_CHARS_MAX} is the most`
    host.logger.log(host.logger.LOGWARN, [why], { origin: 'core', session: transaction.uuid })
    return undefined
}

// ---- parts of the points -------------------------------------------------------------------------------------------
// Where native plugins stand among ours the engine puts a point together itself, and asks here for one hook of it at a time,
// or for a part of its listeners.

async function part(host, connection, told) {
    return (PARTS[told.part.hook] || plainPart)(host, connection, told)
}

// What the plugins of a part say, and whether one of them ended the chain.
async function run(host, connection, told, params, rules) {
    const answer = await runHook(host.registry, host.logger, told.part.hook, connection, params, { ...rules, span: told.part.span })
    return { answer, found: { ...verdict(answer), decided: answer.code !== constants.cont } }
}

async function plainPart(host, connection, told) {
    const { found } = await run(host, connection, told, undefined, DECIDES)
    return found
}

// Who does not answer has said nothing.
async function hearingPart(host, connection, told) {
    const { found } = await run(host, connection, told, undefined, HEARS)
    return found
}

async function quitPart(host, connection, told) {
    const { decided, ...found } = await hearingPart(host, connection, told)
    return { ...letGo(found), decided }
}

async function lookupPart(host, connection, told) {
    const { answer, found } = await run(host, connection, told, undefined, DECIDES)
    const rdns = answer.code === constants.ok ? nameSaid(answer) : undefined
    return { ...found, ...refusedAtOnce(answer), rdns }
}

async function connectPart(host, connection, told) {
    const { answer, found } = await run(host, connection, told, undefined, DECIDES)
    return { ...found, ...refusedAtOnce(answer) }
}

async function helloPart(host, connection, told) {
    const { found } = await run(host, connection, told, connection.hello.host, DECIDES)
    return found
}

async function capabilitiesPart(host, connection, told) {
    connection.capabilities = [...told.lines]
    const { found } = await run(host, connection, told, undefined, HEARS)
    return { what: 'cont', decided: found.decided, lines: withoutTwins(connection.capabilities.map(String)) }
}

async function mailPart(host, connection, told) {
    const { transaction } = connection
    const { found } = await run(host, connection, told, [transaction.mail_from, told.params], DECIDES)
    noteSender(transaction, found)
    return found
}

// The recipient that plugins are asked about, by transaction: one address for all parts, which keeps what they make of it.
const candidates = new WeakMap()

function candidateOf(host, transaction, rcpt) {
    let candidate = candidates.get(transaction)
    if (candidate?.rcpt === rcpt) return candidate
    const address = host.makeAddress(rcpt)
    candidate = { rcpt, address, text: address.format(), replaced: false }
    candidates.set(transaction, candidate)
    return candidate
}

// The recipient is among the others while plugins are asked; whether it stays the engine tells at the end.
async function rcptPart(host, connection, told) {
    const { transaction } = connection
    const candidate = candidateOf(host, transaction, told.rcpt)
    const { address } = candidate
    if (!candidate.replaced) transaction.rcpt_to.push(address)
    const params = told.part.hook === 'rcpt' ? [address, told.params] : address
    const { found } = await run(host, connection, told, params, DECIDES)
    const place = transaction.rcpt_to.indexOf(address)
    candidate.replaced = place === -1 // by a plugin
    if (!candidate.replaced) transaction.rcpt_to.splice(place, 1)
    return found
}

async function rcptEnd(host, connection, told) {
    const { transaction } = connection
    const { address, text, replaced } = candidateOf(host, transaction, told.rcpt)
    candidates.delete(transaction)
    if (told.part.action === 'accept') {
        if (!replaced) transaction.rcpt_to.push(address)
        transaction.known.rcpt_to.push(text)
    }
    connection.rcpt_incr(address, told.part.action, told.part.text, constants[told.part.action === 'reject' ? 'deny' : 'denysoft'])
}

// What comes before the first plugin that sees the content, and what native plugins have added since the last one.
async function prepare(host, connection, told) {
    const { transaction } = connection
    if (!transaction.original) {
        Object.defineProperty(transaction, 'original', { value: await load(host, transaction, told), enumerable: false })
        transaction.data_post_start = Date.now()
        connection.totalbytes += told.size
        if (sessionConfig().headers?.clean_auth_results !== false) connection.auth_results_clean()
        return
    }
    const { original } = transaction
    original.question = told.id
    for (const [first, key, value] of told.added || []) {
        const add = first ? 'add_leading_header' : 'add_header'
        transaction[add](key, value)
    }
    if (told.added) original.header = transaction.header.header_list.join('')
}

// Every part tells what it changed, for native plugins that come next.
async function changed(host, { transaction }, told) {
    const { original } = transaction
    const changes = await sendChanges(host, transaction, original, told.id)
    original.header = transaction.header.header_list.join('')
    original.stream = transaction.message_stream
    return { ...envelopeChanges(transaction), notes: notesText(host, transaction), changed: changes }
}

const contentPart = (rules, { before = () => {}, after = () => {} } = {}) => async (host, connection, told) => {
    await prepare(host, connection, told)
    before(connection)
    const { found } = await run(host, connection, told, undefined, rules)
    after(connection.transaction, found)
    return { ...found, ...await changed(host, connection, told) }
}

const queuePart = contentPart(LAST_WORD, { after: noteQueue })

// After the last data_post.
async function postedPart(host, connection, told) {
    const { transaction } = connection
    await prepare(host, connection, told)
    transaction.data_post_delay = (Date.now() - transaction.data_post_start) / 1000
    const most = sessionConfig().max?.mime_parts || 1000
    if (transaction.mime_part_count >= most) return { what: 'deny', decided: true, code: 554, text: ['Too many MIME parts'] }
    const authenticity = connection.auth_results()
    if (authenticity) transaction.add_leading_header('Authentication-Results', authenticity)
    return { what: 'cont', ...await changed(host, connection, told) }
}

async function keptPart(host, connection, told) {
    await prepare(host, connection, told)
    host.items.adopt(told.message, connection.transaction.notes)
    return { what: 'cont', ...await changed(host, connection, told) }
}

const PARTS = {
    connect_init: async (host, connection, told) => {
        await run(host, connection, told, undefined, ALL_HEAR)
        return { what: 'cont' }
    },
    lookup_rdns: lookupPart,
    named: async (host, connection, told) => {
        await name(connection, told.part.rdns)
        return { what: 'cont', rdns: connection.remote.host }
    },
    connect: connectPart, helo: helloPart, ehlo: helloPart, capabilities: capabilitiesPart, unrecognized_command: command,
    mail: mailPart, rcpt: rcptPart, rcpt_ok: rcptPart, rcpt_end: rcptEnd,
    data_post: contentPart(LAST_WORD), posted: postedPart, queue: queuePart, queue_outbound: queuePart,
    pre_send_trans_email: contentPart(HEARS, { before: (connection) => { if (connection.relaying) complete(connection.transaction) } }),
    kept: keptPart,
    refused: async (host, connection, told) => connection.count(told.part.action),
    vrfy: hearingPart, noop: hearingPart, quit: quitPart,
}

async function queued(host, connection, told) {
    await runHook(host.registry, host.logger, 'queue_ok', connection, told.text, HEARS)
    connection.count('accept')
}

async function reset(host, connection) {
    if (!connection.transaction) return
    await runHook(host.registry, host.logger, 'reset_transaction', connection, undefined, HEARS)
    connection.leave()
}

async function left(host, connection) {
    connection.state = constants.connection.state.DISCONNECTING
    connection.remote.closed = true
    await reset(host, connection)
    connection.results.add({ name: 'disconnect' }, { duration: (Date.now() - connection.start_time) / 1000 })
    await runHook(host.registry, host.logger, 'disconnect', connection, undefined, ALL_HEAR)
    connection.state = constants.connection.state.DISCONNECTED
}

const SESSION_POINTS = {
    opening, hello, command, mail, rcpt, content, queued, reset, left, single,
    data: plain('data'), oversize: plain('max_data_exceeded'), vrfy: plain('vrfy', HEARS),
    noop: plain('noop', HEARS), quit, rset: plain('rset', HEARS),
}

const failure = () => ({ what: 'denysoft', code: 451, text: ['Plugins failed; please try again later'] })

// ---- sessions ------------------------------------------------------------------------------------------------------

// All sessions that the engine has told of and not yet ended. What is asked and told about one is done in that order.
class Sessions {
    constructor(host) {
        this.host = host
        this.connections = new Map() // by session id
        this.busy = new Map() // likewise: what is done before the next message is looked at
    }

    take(message) {
        if (message.point === 'injected') return void this.answer(message, () => injected(this.host, message), message.message)
        const { uuid } = message.client
        let connection = this.connections.get(uuid)
        if (!connection) {
            // What plugins noted on it went with the host that had it: they would decide about somebody they do not know.
            if (message.begun) return this.reply(message, { what: 'lost' })
            connection = new Connection(message.client, this.host)
            connection.update(message.client)
            this.connections.set(uuid, connection)
            this.busy.set(uuid, Promise.resolve())
        }
        this.busy.set(uuid, this.busy.get(uuid).then(() => this.handle(connection, uuid, message)))
    }

    async handle(connection, uuid, message) {
        await this.answer(message, async () => {
            connection.update(message.client)
            if (message.tx) connection.enter(message.tx)
            if (message.noted && connection.transaction) addNotes(connection.transaction.notes, message.noted) // by native plugins
            const point = message.part ? part : SESSION_POINTS[message.point]
            const answer = await point(this.host, connection, message)
            const disconnect = answer?.disconnect || connection.ending || undefined
            return { ...answer, ...connection.changes(), disconnect }
        }, uuid)
        if (message.point !== 'left') return
        this.connections.delete(uuid)
        this.busy.delete(uuid)
    }

    async answer(message, find, session) {
        let answer
        try {
            answer = await find()
        } catch (error) {
            this.host.logger.log(this.host.logger.LOGCRIT, [`${message.point}: ${textOf(error)}`], { session })
            answer = failure()
        }
        this.reply(message, answer)
    }

    reply({ id }, answer) {
        if (id !== undefined) this.host.sendAnswer(id, answer, failure)
    }
}

// The hooks that the engine calls by way of sessions.
const SESSION_HOOKS = [
    'connect_init', 'lookup_rdns', 'connect', 'helo', 'ehlo', 'capabilities', 'unrecognized_command', 'mail', 'rcpt', 'rcpt_ok',
    'data', 'data_post', 'queue', 'queue_outbound', 'queue_ok', 'pre_send_trans_email', 'max_data_exceeded', 'vrfy', 'noop',
    'quit', 'rset', 'reset_transaction', 'disconnect',
]

module.exports = { Sessions, SESSION_HOOKS }
