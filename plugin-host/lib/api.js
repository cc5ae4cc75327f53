'use strict'
// The engine's control API, over its socket in the instance.

const http = require('node:http')
const path = require('node:path')
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads')

const TIMEOUT_MS = 30_000
const NOW_MS_MAX = 500          // that a plugin may be kept waiting
const NOW_BYTES_MAX = 4 * 1024 * 1024
const FREE = 0, ASKED = 1, ANSWERED = 2, FAILED = 3

// Resolves to the answer's body as text; rejects with what the engine refuses.
function request(socketPath, method, target, body) {
    return new Promise((resolve, reject) => {
        const headers = body === undefined ? {} : { 'Content-Type': 'application/json' }
        const call = http.request({ socketPath, method, path: target, headers, timeout: TIMEOUT_MS, agent: false }, (response) => {
            const pieces = []
            response.on('data', (piece) => pieces.push(piece))
            response.on('error', reject)
            response.on('end', () => {
                const text = Buffer.concat(pieces).toString()
                if (response.statusCode < 300) resolve(text)
                else reject(new Error(`${method} ${target}: ${response.statusCode} ${text.slice(0, 500)}`))
            })
        })
        call.on('timeout', () => call.destroy(new Error(`${method} ${target}: no answer`)))
        call.on('error', reject)
        call.end(body === undefined ? undefined : JSON.stringify(body))
    })
}

class Api {
    constructor(directory) {
        this.socketPath = path.join(directory, 'run', 'control.sock')
        this.begin() // a thread takes a while, and who is asked at once cannot wait for it
    }

    async get(target) {
        return JSON.parse(await request(this.socketPath, 'GET', target))
    }

    async post(target, body) {
        return JSON.parse(await request(this.socketPath, 'POST', target, body))
    }

    // For what Haraka answers without waiting: another thread asks while this one stands still, for a moment at most.
    // Undefined when there is no answer.
    getNow(target) {
        if (!this.worker) this.begin()
        // A question that took too long is still under way.
        if (Atomics.compareExchange(this.state, 0, FREE, ASKED) !== FREE && !this.discard()) return undefined
        this.worker.postMessage(target)
        Atomics.wait(this.state, 0, ASKED, NOW_MS_MAX)
        if (Atomics.load(this.state, 0) !== ANSWERED) {
            Atomics.compareExchange(this.state, 0, FAILED, FREE)
            return undefined
        }
        const text = Buffer.from(this.shared, 8, Atomics.load(this.state, 1)).toString()
        Atomics.store(this.state, 0, FREE)
        return JSON.parse(text)
    }

    // An answer that came too late is nobody's: the place is ours.
    discard() {
        return [ANSWERED, FAILED].some((over) => Atomics.compareExchange(this.state, 0, over, ASKED) === over)
    }

    begin() {
        this.shared = new SharedArrayBuffer(8 + NOW_BYTES_MAX)
        this.state = new Int32Array(this.shared, 0, 2)
        this.worker = new Worker(__filename, { workerData: { socketPath: this.socketPath, shared: this.shared } })
        this.worker.on('error', () => { this.worker = undefined })
        this.worker.unref()
    }
}

function serve({ socketPath, shared }) {
    const state = new Int32Array(shared, 0, 2)
    const say = (what) => {
        Atomics.store(state, 0, what)
        Atomics.notify(state, 0)
    }
    parentPort.on('message', async (target) => {
        try {
            const answer = Buffer.from(await request(socketPath, 'GET', target))
            if (answer.length > NOW_BYTES_MAX) return say(FAILED)
            answer.copy(Buffer.from(shared, 8))
            Atomics.store(state, 1, answer.length)
            say(ANSWERED)
        } catch {
            say(FAILED)
        }
    })
}

if (isMainThread) module.exports = { Api }
else serve(workerData)
