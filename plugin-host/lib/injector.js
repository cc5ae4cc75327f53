'use strict'
// Carries messages of plugins to the engine, a bounded number at a time.

const { once } = require('node:events')

const AT_ONCE_MAX = 32
const WAITING_MAX = 10_000
const PIECE_BYTES_MAX = 256 * 1024
// The engine tells by this bit what a piece of octets belongs to.
const INJECTION = 0x80000000

class Injector {
    constructor(wire) {
        this.wire = wire
        this.last = 0
        this.underWay = 0
        this.waiting = []
        this.answers = new Map() // id -> { resolve, named }
    }

    // `content` gives an iterable of pieces when it is the message's turn; `named` hears the id under which the engine will
    // queue it, before anything is asked about it. Resolves to { code, text } with code 'ok', 'deny' or 'denysoft'.
    async inject(message, content, named) {
        if (this.waiting.length >= WAITING_MAX) return { code: 'denysoft', text: `${WAITING_MAX} messages wait to be queued` }
        if (this.underWay >= AT_ONCE_MAX) await new Promise((resolve) => this.waiting.push(resolve))
        else this.underWay += 1
        try {
            return await this.carry(message, content, named)
        } finally {
            // Whoever waits longest takes this place.
            if (this.waiting.length > 0) this.waiting.shift()()
            else this.underWay -= 1
        }
    }

    async carry(message, content, named) {
        this.last = (this.last + 1) % INJECTION
        const id = INJECTION + this.last
        const answered = new Promise((resolve) => this.answers.set(id, { resolve, named }))
        let over = false
        answered.then(() => { over = true })
        try {
            this.wire.send({ t: 'inject', id, ...message })
            for await (const octets of content()) {
                for (let at = 0; at < octets.length && !over; at += PIECE_BYTES_MAX) {
                    await this.send(id, octets.subarray(at, at + PIECE_BYTES_MAX), false)
                }
                if (over) break
            }
        } catch (error) {
            // The engine forgets what never ends when the next message takes its number, or we do.
            this.answers.delete(id)
            this.wire.send({ t: 'uninject', id })
            throw error
        }
        if (!over) await this.send(id, Buffer.alloc(0), true)
        return answered
    }

    async send(id, octets, last) {
        this.wire.sendOctets(id, octets, last)
        if (this.wire.socket.writableNeedDrain) await once(this.wire.socket, 'drain')
    }

    named({ id, message }) {
        this.answers.get(id)?.named(message)
    }

    injected({ id, code, text }) {
        this.answers.get(id)?.resolve({ code, text })
        this.answers.delete(id)
    }
}

module.exports = { Injector }
