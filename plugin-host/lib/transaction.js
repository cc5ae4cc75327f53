'use strict'
// A mail transaction as plugins see it: envelope, header, body, message_stream, notes.

const util = require('node:util')
const { Header, Body, stream: MessageStream } = require('haraka-email-message')
const Notes = require('haraka-notes')
const utils = require('haraka-utils')

const LF = 0x0a
const DOT = 0x2e

// Haraka's message stream, which fetches the content when somebody reads it first. `fetch` resolves to a Buffer.
class LazyStream extends MessageStream {
    fetch = undefined

    pipe(destination, options) {
        const { fetch } = this
        this.fetch = undefined
        if (fetch) {
            fetch().then((content) => {
                for (const line of linesOf(content)) this.add_line(stuffed(line))
                this.add_line_end()
            }).catch((error) => this.emit('error', error))
        }
        return super.pipe(destination, options)
    }
}

class Transaction {
    constructor(uuid, cfg = {}) {
        this.uuid = uuid || utils.uuid()
        this.cfg = cfg
        this.mail_from = null
        this.rcpt_to = []
        this.rcpt_count = { accept: 0, tempfail: 0, reject: 0 }
        this.notes = new Notes()
        this.notes.skip_plugins = []
        this.encoding = 'utf8'
        this.data_bytes = 0
        this.data_lines = []
        this.data_post_start = null
        this.data_post_delay = 0
        this.discard_data = false
        this.resetting = false
        this.msg_status = undefined

        this.header = new Header()
        this.header_lines = []
        this.header_pos = 0
        this.found_hb_sep = false
        this.message_stream = new LazyStream(this.cfg, this.uuid, this.header.header_list)

        this.parse_body = false
        this.body = null
        this.banner = null
        this.body_filters = []
        this.attachment_start_hooks = []
        this.mime_part_count = 0
    }

    // ---- content ----

    // One line as it stands on the wire, with its line end and stuffed dot.
    add_data(line) {
        let octets = Buffer.isBuffer(line) ? line : Buffer.from(line, this.encoding)
        if (!this.found_hb_sep) {
            this.takeHeaderLine(octets)
        } else if (this.parse_body) {
            this.ensure_body()
            octets = wireForm(this.body.parse_more(withoutCR(unstuffed(octets))))
        }
        if (octets.length > 0 && !this.discard_data) this.message_stream.add_line(octets)
    }

    takeHeaderLine(octets) {
        if (octets[0] === LF || (octets[0] === 0x0d && octets[1] === LF)) return this.endHeader(this.header_lines)
        this.header_lines.push(unstuffed(octets).toString(this.encoding).replace(/\r\n$/, '\n'))
    }

    endHeader(lines) {
        this.header.parse(lines)
        this.found_hb_sep = true
        this.reset_headers()
        if (this.parse_body) this.ensure_body()
    }

    // `done` is called when the message stream has everything.
    end_data(done) {
        if (!this.found_hb_sep && this.header_lines.length > 0) this.endWithoutSeparator()
        if (this.body) {
            const rest = wireForm(this.body.parse_end())
            if (rest.length > 0) {
                this.body.force_end()
                if (!this.discard_data) this.message_stream.add_line(rest)
            }
        }
        if (this.discard_data) done()
        else this.message_stream.add_line_end(done)
    }

    // No empty line ended the header: what does not look like a field begins the body. The stream has all lines already, as
    // header, which readers skip up to the first empty line: the body goes there once more, behind one.
    endWithoutSeparator() {
        const odd = this.header_lines.findIndex((line) => !/^(?:[^\s:]*:|[ \t])/.test(line))
        const body = odd === -1 ? [] : this.header_lines.splice(Math.max(odd, 1))
        this.endHeader(this.header_lines)
        if (!this.discard_data) this.message_stream.add_line(Buffer.from('\r\n'))
        for (const line of body) this.add_data(wireForm(Buffer.from(line.replace(/\r?\n?$/, '\n'), this.encoding)))
    }

    // The header section of content that the engine holds; the rest is fetched when somebody reads.
    lend(header, fetch) {
        for (const line of linesOf(header)) this.takeHeaderLine(stuffed(line))
        if (!this.found_hb_sep) this.endHeader(this.header_lines)
        this.message_stream.fetch = fetch
    }

    // The same when the body is to be parsed: all of the content, before any plugin is asked about it.
    receive(content) {
        for (const line of linesOf(content)) this.add_data(stuffed(line))
        return new Promise((resolve) => this.end_data(resolve))
    }

    // ---- header ----

    add_header(key, value) {
        this.header.add_end(key, value)
        if (this.found_hb_sep) this.reset_headers()
    }

    add_leading_header(key, value) {
        this.header.add(key, value)
        if (this.found_hb_sep) this.reset_headers()
    }

    remove_header(key) {
        this.header.remove(key)
        if (this.found_hb_sep) this.reset_headers()
    }

    reset_headers() {
        this.header_pos = this.header.header_list.length || -1
    }

    // ---- body ----

    ensure_body() {
        if (this.body) return
        this.body = new Body(this.header)
        this.body.on('mime_boundary', () => this.incr_mime_count())
        for (const hook of this.attachment_start_hooks) this.body.on('attachment_start', hook)
        if (this.banner) this.body.set_banner(this.banner)
        for (const { ct_match, filter } of this.body_filters) this.body.add_filter(filterFor(ct_match, filter))
    }

    attachment_hooks(start) {
        this.parse_body = true
        this.attachment_start_hooks.push(start)
    }

    set_banner(text, html) {
        this.parse_body = true
        this.banner = [text, html || text.replace(/\n/g, '<br/>\n')]
    }

    add_body_filter(ct_match, filter) {
        this.parse_body = true
        this.body_filters.push({ ct_match, filter })
        if (this.body) this.body.add_filter(filterFor(ct_match, filter))
    }

    incr_mime_count() {
        this.mime_part_count += 1
    }
}

// Asks `filter` about parts of the types that a plugin wants to see: a RegExp, or how the type begins.
function filterFor(match, filter) {
    return (ct, enc, buffer) => {
        if (!ct) return buffer
        const type = String(ct).toLowerCase().trim()
        // RegExps of plugins come from another realm.
        const wanted = util.types.isRegExp(match) ? match.test(type) : type.startsWith(String(match).toLowerCase())
        return (wanted && filter(ct, enc, buffer)) || buffer
    }
}

// ---- lines ---------------------------------------------------------------------------------------------------------

function* linesOf(content) {
    for (let at = 0; at < content.length;) {
        const end = content.indexOf(LF, at)
        const next = end === -1 ? content.length : end + 1
        yield content.subarray(at, next)
        at = next
    }
}

function stuffed(line) {
    return line[0] === DOT ? Buffer.concat([Buffer.from('.'), line]) : line
}

function unstuffed(line) {
    return line[0] === DOT ? line.subarray(1) : line
}

// The MIME parser wants bare line feeds.
function withoutCR(line) {
    const { length } = line
    if (length < 2 || line[length - 1] !== LF || line[length - 2] !== 0x0d) return line
    const bare = Buffer.from(line.subarray(0, length - 1))
    bare[length - 2] = LF
    return bare
}

// Any number of lines with any line ends, as they stand on the wire.
function wireForm(given) {
    if (given.length === 0) return Buffer.alloc(0)
    const text = Buffer.isBuffer(given) ? given.toString('latin1') : Buffer.from(given).toString('latin1')
    return Buffer.from(text.replace(/\r?\n/g, '\r\n').replace(/(^|\n)\./g, '$1..'), 'latin1')
}

module.exports = { Transaction, createTransaction: (uuid, cfg) => new Transaction(uuid, cfg) }
