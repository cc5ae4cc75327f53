'use strict'
// Items (Haraka's hmail) and the messages that they belong to, as plugins see them.

const { EventEmitter } = require('node:events')
const config = require('haraka-config')
const constants = require('haraka-constants')
const netUtils = require('haraka-net-utils')
const { Header } = require('haraka-email-message')
const Notes = require('haraka-notes')
const { extrasOf } = require('./addresses')
const { Envelope } = require('./envelope')
const { addLogMethods } = require('./logger')
const { jsonText } = require('./wire')

const IMAGE_CHARS_MAX = 64 * 1024
const NOT_FOR_NOTES = new Set(['get', 'set', '__proto__'])
// Messages of which no item is under way are kept for items that come later; so many at most.
const RESTING_MESSAGES_MAX = 10_000

// What every item has is on the prototype, and what plugins do not look at is private: there is one item for each message
// of the queue that plugins hear of, and making it is most of what they cost.
class HMailItem extends EventEmitter {
    #host
    #home
    #envelope
    #conclude
    #lastImage

    constructor(given, host) {
        super()
        this.#host = host
        this.filename = given.id
        this.path = host.queueFolder + given.id
        this.file_size = given.size
        this.name = 'outbound'
        this.data_start = 0
        this.pid = process.pid
        this.refcount = 1
        this.hook = null
        this.force_tls = false
        this.next_cb = nothing
        this.bounce_error = null
        this.question = undefined
    }

    get is_hmail() { return true }
    get host() { return this.#host }
    get home() { return this.#home }
    get envelope() { return this.#envelope }
    get conclude() { return this.#conclude }
    set conclude(conclude) { this.#conclude = conclude }
    get cfg() { return config.get('outbound.ini').main }
    get obtls() { return { cfg: config.get('tls.ini').outbound || {} } }
    // Names that plugins use although Haraka dropped them.
    get domain() { return this.todo.domain }
    get uuid() { return this.todo.uuid }
    get rcpt_to() { return this.todo.rcpt_to }
    get file() { return this.filename }

    // What the engine says about the item now. Changes that plugins made to the todo earlier stay.
    update(given) {
        this.num_failures = given.attempts
        this.next_process = given.now
        const isNew = !this.todo
        if (isNew) this.begin(given)
        this.envelope.showSender(this.todo, given.mail_from)
        this.show(given.rcpt_to.map((_, place) => place), given)
        if (isNew) this.#lastImage = this.image()
    }

    begin(given) {
        const image = given.image ? JSON.parse(given.image) : {}
        this.#home = given.domain
        this.#envelope = new Envelope(this.#host.makeAddress, image.rcpt || {})
        this.todo = {
            queue_time: given.arrival, domain: image.domain || given.domain, rcpt_to: [], mail_from: null,
            notes: notesWith(image.notes || copyOf(given.notes)), uuid: given.uuid || given.id,
            force_tls: image.force_tls === true,
        }
    }

    // Lets rcpt_to name those recipients of `given` that stand at `places`.
    show(places, given) {
        this.envelope.show(this.todo, places, given)
    }

    // Before an attempt.
    takeBack() {
        this.envelope.takeBack(this.todo)
    }

    // What others noted.
    learn(notes) {
        addNotes(this.todo.notes, notes)
    }

    // A plugin has answered.
    heard(plugin) {
        this.conclude = undefined
        this.envelope.heard(this.todo, plugin)
    }

    // The changes of the envelope that the engine does not know.
    edits() {
        return this.envelope.edits(this.todo, (text) => this.logwarn(text))
    }

    // ---- what plugins may say instead of answering a hook ----

    bounce(err) {
        this.decided('bounce', { what: 'deny', text: textual(err) })
    }

    temp_fail(err) {
        this.decided('temp_fail', { what: 'denysoft', text: textual(err) })
    }

    discard() {
        const { rcpt_to } = this.todo
        this.todo.rcpt_to = []
        if (!this.decided('discard', { what: 'go' })) this.todo.rcpt_to = rcpt_to
    }

    // A plugin has delivered the mail itself.
    delivered() {
        this.discard()
    }

    // Instead of the answer of the plugin that is being asked.
    decided(what, decision) {
        const possible = this.isAskedAboutAttempt()
        if (possible) this.conclude({ code: constants.stop, decision })
        else this.logwarn(`${what}() is for plugins that are asked about an attempt: nothing is done`)
        return possible
    }

    isAskedAboutAttempt() {
        return this.conclude !== undefined && ['send_email', 'get_mx'].includes(this.hook)
    }

    // Whether tls.ini has this host, or our domain, among those that must have TLS.
    get_force_tls(mx = {}) {
        const hosts = config.get('tls.ini')
        const list = [].concat(hosts.outbound?.force_tls_hosts ?? hosts.main?.force_tls_hosts ?? [])
        return [mx.exchange, mx.from_dns, this.todo.domain].some((name) => name && (list.includes(name) || netUtils.ip_in_list(list, name)))
    }

    // An item of their own for some of our recipients. The engine makes it when it has this plugin's answer; what is changed of
    // its todo until then counts.
    split_to_new_recipients(recipients, response, cb) {
        const { rcpt_to } = this.todo
        const chosen = rcpt_to.filter((one) => recipients.includes(one))
        if (chosen.length === rcpt_to.length) return cb(this)
        if (!this.isAskedAboutAttempt()) throw new Error('split_to_new_recipients() is for plugins that are asked about an attempt')
        if (chosen.length < recipients.length) throw new Error('split_to_new_recipients(): not all of these are in todo.rcpt_to')
        if (chosen.length === 0) throw new Error('split_to_new_recipients(): no recipients')
        const part = this.part(chosen)
        if (!this.envelope.divide(part, chosen)) throw new Error('split_to_new_recipients(): recipients of your own are not in the queue yet')
        this.todo.rcpt_to = rcpt_to.filter((one) => !chosen.includes(one))
        this.loginfo(`${chosen.length} recipients get an item of their own: ${textual(response)}`)
        cb(part)
    }

    part(recipients) {
        const part = new HMailItem({ id: this.filename, size: this.file_size }, this.host)
        part.#home = this.home
        part.#envelope = { recipients: new Map() }
        part.notes = this.notes
        part.num_failures = this.num_failures
        part.next_process = this.next_process
        const { notes } = JSON.parse(imageText({ notes: this.todo.notes }))
        const sender = this.host.makeAddress(this.todo.mail_from.format())
        part.todo = { ...this.todo, rcpt_to: [...recipients], mail_from: sender, notes: notesWith(notes) }
        return part
    }

    // What the engine would tell the sender, as lines; known while the `bounce` hook is asked. Plugins put functions of their own in the
    // place of these two to have something else told.
    populate_bounce_message(from, to, reason, cb) {
        let told = false
        const once = (...what) => { told = true; cb(...what) }
        headerOf(this.data_stream()).catch(() => new Header()).then((header) => {
            return this.populate_bounce_message_with_headers(from, to, reason, header, once)
        }).catch((error) => {
            if (told) throw error // by the callback itself perhaps
            once(error)
        })
    }

    populate_bounce_message_with_headers(from, to, reason, header, cb) {
        const { question } = this
        if (question === undefined) return cb(new Error('a notification is known while the `bounce` hook is asked, when there is one'))
        this.host.fetchContent(question).then((content) => cb(null, linesIn(content)), cb)
    }

    // What survives a restart, as JSON text.
    image() {
        const parts = { notes: this.todo.notes, live: this.notes }
        const rcpt = {}
        for (const [place, address] of this.envelope.recipients) {
            const extras = extrasOf(address)
            if (Object.keys(extras).length > 0) rcpt[place] = extras
        }
        if (Object.keys(rcpt).length > 0) parts.rcpt = rcpt
        if (this.todo.force_tls === true) parts.force_tls = true
        if (this.todo.domain !== this.home) parts.domain = this.todo.domain
        return imageText(parts)
    }

    // The image when plugins changed something since the last call.
    changedImage() {
        const text = this.image()
        if (text === this.#lastImage) return undefined
        this.#lastImage = text
        return this.bounded(text)
    }

    bounded(text) {
        if (text.length > IMAGE_CHARS_MAX) {
            this.logwarn(`notes of ${text.length} characters are not kept for a restart; ${IMAGE_CHARS_MAX} is the most`)
            return undefined
        }
        return text
    }

    // The stored message as a stream of octets, fetched when somebody reads.
    data_stream() {
        return this.host.readMessage(this.filename)
    }
}

addLogMethods(HMailItem.prototype, (item) => item.host.logger, (item) => ({ origin: 'outbound', session: item.filename }))

function nothing() {}

// Of a stream of a message's octets.
async function headerOf(stream) {
    const pieces = []
    let text = ''
    for await (const piece of stream) {
        pieces.push(piece)
        text = Buffer.concat(pieces).toString()
        if (/\r?\n\r?\n/.test(text)) break
    }
    const header = new Header()
    header.parse(linesIn(text.split(/(?<=\n)\r?\n/)[0]).map((line) => line.replace(/\r\n$/, '\n')))
    return header
}

// With their ends.
function linesIn(content) {
    return String(content).match(/[^\n]*\n|[^\n]+$/g) || []
}

// A plugin's own notes, beside those that the engine told; nearly always there are none.
function copyOf(notes) {
    return notes && Object.keys(notes).length > 0 ? structuredClone(notes) : {}
}

// Notes may hold what JSON cannot: functions vanish, and a member that refers to itself or cannot be read is left out.
function imageText(parts) {
    try {
        return jsonText(parts)
    } catch {
        return jsonText(Object.fromEntries(Object.entries(parts).map(([key, value]) => [key, withoutLoops(value)])))
    }
}

function withoutLoops(value) {
    if (value === null || typeof value !== 'object') return value
    const kept = Object.create(null) // in which no key means anything
    for (const key of Object.keys(value)) {
        try {
            const member = value[key] // a getter may throw
            if (JSON.stringify(member) !== undefined) kept[key] = member
        } catch {
            // Not for a restart then.
        }
    }
    return kept
}

// What an earlier host kept of the live notes with this item only: those that came before it in this host did not know it.
function addKept(notes, image) {
    const kept = (image && JSON.parse(image).live) || {}
    addNotes(notes, Object.fromEntries(Object.entries(kept).filter(([key]) => !Object.hasOwn(notes, key))))
}

// What somebody else noted joins `notes`, whose own methods stay.
function addNotes(notes, given) {
    for (const [key, value] of Object.entries(given)) if (!NOT_FOR_NOTES.has(key)) notes[key] = value
}

function notesWith(given) {
    const notes = new Notes()
    addNotes(notes, given)
    return notes
}

function textual(error) {
    return typeof error?.message === 'string' ? error.message : String(error)
}

// All items that the engine has told of and not yet ended, with the live notes of their messages.
class Items {
    constructor(host) {
        this.host = host
        this.items = new Map() // by item id
        this.messages = new Map() // by message id: { notes, alive, ended, total }
        this.resting = new Set() // those messages of which no item is under way; the one that rests longest first
    }

    get(given) {
        let item = this.items.get(given.id)
        if (!item) {
            item = new HMailItem(given, this.host)
            const message = this.message(given)
            message.alive += 1
            this.resting.delete(given.message)
            addKept(message.notes, given.image)
            item.notes = message.notes
            this.items.set(given.id, item)
        }
        item.update(given)
        return item
    }

    // The live notes of a message that is about to be queued: its items will have them.
    adopt(id, notes) {
        if (!['send_email', 'get_mx', 'deferred', 'bounce', 'delivered'].some((hook) => this.host.registry.has(hook))) return
        this.messages.set(id, { notes, alive: 0, ended: 0, total: Infinity })
        this.rest(id)
    }

    // Some of an item's recipients will be queued under this id: the live notes are the same.
    divided(id, message) {
        const item = this.items.get(id)
        if (item) this.adopt(message, item.notes)
    }

    // Recipients that were added and could not be kept.
    unkept(id, paths) {
        this.items.get(id)?.envelope.giveBack(paths)
    }

    message(given) {
        let message = this.messages.get(given.message)
        if (message) message.total = given.items
        if (!message) {
            const notes = (given.image && JSON.parse(given.image).live) || given.notes
            message = { notes: notesWith(copyOf(notes)), alive: 0, ended: 0, total: given.items }
            this.messages.set(given.message, message)
        }
        return message
    }

    rest(id) {
        this.resting.delete(id)
        this.resting.add(id)
        if (this.resting.size > RESTING_MESSAGES_MAX) this.forget(this.resting.keys().next().value)
    }

    forget(messageId) {
        this.resting.delete(messageId)
        this.messages.delete(messageId)
    }

    // Plugins have left something that cannot be worked with: the next question makes another one, from the image.
    renew(id) {
        const messageId = id.slice(0, id.indexOf('.'))
        const message = this.messages.get(messageId)
        if (!this.items.delete(id) || !message) return
        message.alive -= 1
        if (message.alive === 0) this.rest(messageId)
    }

    ended(id) {
        const messageId = id.slice(0, id.indexOf('.'))
        const message = this.messages.get(messageId)
        if (message) {
            message.ended += 1
            if (this.items.has(id)) message.alive -= 1
            if (message.ended >= message.total) this.forget(messageId)
            else if (message.alive === 0) this.rest(messageId)
        }
        this.items.delete(id)
    }
}

module.exports = { Items, HMailItem, addNotes, imageText }
