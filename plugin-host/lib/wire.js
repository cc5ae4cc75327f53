'use strict'
// Frames on the socket between engine and host; docs/design/plugins.md describes them.
//
// A frame is: u32 length (little endian, of what follows) | u8 kind | payload. Kind 1 is a JSON array of messages,
// kind 2 a piece of a message's octets: u32 request | u8 last | octets.

const { EventEmitter } = require('node:events')

const FRAME_BYTES_MAX = 64 * 1024 * 1024
const MESSAGES_CHARS_MAX = 16 * 1024 * 1024 // of one frame: three octets each, at most
const MESSAGES = 1
const OCTETS = 2
const HEADER_BYTES = 5

// As JSON that the engine reads, too: half of a surrogate pair, which cutting a text leaves, is no character.
function jsonText(value) {
    const text = JSON.stringify(value)
    if (!text || !text.includes('\\ud')) return text
    return text.replace(/\\(?:ud[89a-f][\da-f]{2}|.)/g, (escape) => (escape.length > 2 ? '\\ufffd' : escape))
}

// Gathers what is sent during one turn of the event loop into few frames.
// Events: 'message' (object), 'octets' (request, Buffer, last), 'broken' (Error), 'closed'.
class Wire extends EventEmitter {
    constructor(socket) {
        super()
        this.socket = socket
        this.outgoing = [] // JSON texts
        this.outgoingChars = 0
        this.chunks = []
        this.buffered = 0
        socket.on('data', (chunk) => this.take(chunk))
        socket.on('close', () => this.emit('closed'))
        socket.on('error', () => {}) // 'close' follows
    }

    // Throws, and sends nothing of it, when the message is none that JSON can carry: one plugin's value is not to take others'
    // answers with it.
    send(message) {
        const text = jsonText(message)
        if (text.length > MESSAGES_CHARS_MAX) throw new Error(`a message of ${text.length} characters; ${MESSAGES_CHARS_MAX} is the most`)
        if (this.outgoingChars + text.length > MESSAGES_CHARS_MAX) this.flush()
        if (this.outgoing.length === 0) setImmediate(() => this.flush())
        this.outgoing.push(text)
        this.outgoingChars += text.length
    }

    flush() {
        if (this.outgoing.length === 0) return
        const texts = this.outgoing
        this.outgoing = []
        this.outgoingChars = 0
        this.write(MESSAGES, Buffer.from(`[${texts.join(',')}]`))
    }

    sendOctets(request, octets, last) {
        this.flush()
        const head = Buffer.alloc(5)
        head.writeUInt32LE(request, 0)
        head.writeUInt8(last ? 1 : 0, 4)
        this.write(OCTETS, Buffer.concat([head, octets]))
    }

    write(kind, payload) {
        if (this.socket.destroyed) return
        const head = Buffer.alloc(HEADER_BYTES)
        head.writeUInt32LE(payload.length + 1, 0)
        head.writeUInt8(kind, 4)
        this.socket.cork()
        this.socket.write(head)
        this.socket.write(payload)
        this.socket.uncork()
    }

    take(chunk) {
        this.chunks.push(chunk)
        this.buffered += chunk.length
        try {
            while (this.takeFrame());
        } catch (error) {
            this.socket.destroy()
            this.emit('broken', error)
        }
    }

    takeFrame() {
        if (this.buffered < HEADER_BYTES) return false
        if (this.chunks[0].length < HEADER_BYTES) this.chunks = [Buffer.concat(this.chunks)]
        const length = this.chunks[0].readUInt32LE(0)
        if (length < 1 || length > FRAME_BYTES_MAX) throw new Error(`frame of ${length} octets`)
        if (this.buffered < 4 + length) return false
        const all = this.chunks.length === 1 ? this.chunks[0] : Buffer.concat(this.chunks)
        const rest = all.subarray(4 + length)
        this.chunks = rest.length > 0 ? [rest] : []
        this.buffered = rest.length
        this.understand(all.readUInt8(4), all.subarray(HEADER_BYTES, 4 + length))
        return true
    }

    understand(kind, payload) {
        if (kind === MESSAGES) {
            for (const message of JSON.parse(payload)) this.emit('message', message)
        } else if (kind === OCTETS && payload.length >= 5) {
            this.emit('octets', payload.readUInt32LE(0), payload.subarray(5), payload.readUInt8(4) === 1)
        } else {
            throw new Error(`frame of kind ${kind}`)
        }
    }
}

module.exports = { Wire, FRAME_BYTES_MAX, jsonText }
