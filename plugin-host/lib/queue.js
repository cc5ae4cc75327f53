'use strict'
// The queue as Haraka's plugins look at it. The engine has it; this asks by its control API.

const path = require('node:path')

const FRESH_MS = 1000       // so old may be what is answered at once
const VIEW_ITEMS_MAX = 1000 // of the two queues
const PAGE_ITEMS = 1000
const LIST_ITEMS_MAX = 100_000

class Queue {
    constructor(directory, api, logger, makeAddress) {
        Object.assign(this, { api, logger, makeAddress })
        this.directory = path.join(directory, 'queue')
        this.known = new Map() // target -> { at, answer }
        this.counted = 0
        this.delivery_queue = new DeliveryQueue(this)
        this.temp_fail_queue = new TempFailQueue(this)
    }

    // ---- at once ----

    now(target, otherwise) {
        const known = this.known.get(target)
        if (known && Date.now() - known.at < FRESH_MS) return known.answer
        const answer = this.api.getNow(target) ?? known?.answer ?? otherwise
        this.known.set(target, { at: Date.now(), answer })
        return answer
    }

    counts() {
        return this.now('/v1/status', { queue: { scheduled: 0, ready: 0, sending: 0 } }).queue
    }

    view(state) {
        return this.now(`/v1/queue?state=${state}&limit=${VIEW_ITEMS_MAX}`, { items: [] }).items
    }

    get_stats() {
        const { scheduled, ready, sending } = this.counts()
        return `${sending}/${ready + sending}/${scheduled}`
    }

    stats() {
        return { queue_dir: this.directory, queue_count: this.counted }
    }

    // ---- later ----

    async list_queue() {
        const todos = []
        let cursor = ''
        do {
            const page = await this.api.get(`/v1/queue?limit=${PAGE_ITEMS}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)
            for (const item of page.items) todos.push(this.todoOf(item))
            cursor = page.cursor
        } while (cursor && todos.length < LIST_ITEMS_MAX)
        if (cursor) this.logger.logwarn(`the queue has more than the ${LIST_ITEMS_MAX} items that are listed`)
        return todos
    }

    todoOf(item) {
        return {
            queue_time: Date.parse(item.arrival), domain: item.domain, rcpt_to: item.recipients.map((to) => this.makeAddress(`<${to}>`)),
            mail_from: this.makeAddress(`<${item.sender}>`), notes: {}, uuid: item.id, force_tls: false,
            file: item.id, full_path: path.join(this.directory, item.id), pid: process.pid,
        }
    }

    // As Haraka, which counts them again each time.
    async stat_queue() {
        const { scheduled, ready, sending, held } = (await this.api.get('/v1/status')).queue
        this.counted += scheduled + ready + sending + held
        return this.stats()
    }

    async flush_queue(domain) {
        await this.api.post('/v1/queue/flush', domain ? { domain: String(domain) } : { all: true })
    }

    // Nothing has to be loaded; names and numbers are as Haraka's.
    async load_queue_files(pid, files, iteratee) {
        const done = await Promise.all((files || []).map((file) => (iteratee ? iteratee(file) : file)))
        return done.filter((one) => one !== null && one !== undefined)
    }

    async scan_queue_pids() {
        return [process.pid]
    }

    // An order about one item; what is queued no more needs none.
    order(what, item) {
        this.known.clear()
        this.api.post(`/v1/queue/${what}`, { item }).catch((error) => {
            this.logger.lognotice(`${what} of ${item}: ${error.message}`)
        })
    }
}

// What is due: `tasks` waits for capacity.
class DeliveryQueue {
    constructor(queue) {
        Object.defineProperty(this, 'of', { value: queue })
    }

    get tasks() {
        return this.of.view('ready').map((item) => {
            const todo = this.of.todoOf(item)
            return { todo, file: item.id, filename: item.id, path: todo.full_path, num_failures: item.attempts, file_size: item.size }
        })
    }

    length() {
        const { ready, sending } = this.of.counts()
        return ready + sending
    }

    push(hmail) {
        this.of.order('flush', String(hmail?.filename ?? hmail))
    }
}

// What waits for its time. Entries that plugins add are timers of theirs.
class TempFailQueue {
    constructor(queue) {
        Object.defineProperty(this, 'of', { value: queue })
        Object.defineProperty(this, 'timers', { value: new Map() })
    }

    get queue() {
        const own = [...this.timers.values()].map(({ entry }) => entry)
        const items = this.of.view('scheduled').map((item) => ({
            id: item.id, fire_time: Date.parse(item.next), cb: () => this.of.order('flush', item.id),
        }))
        return [...own, ...items].sort((a, b) => a.fire_time - b.fire_time)
    }

    length() {
        return this.of.counts().scheduled + this.timers.size
    }

    add(id, ms, cb) {
        this.forget(id)
        const entry = { id, fire_time: Date.now() + ms, cb }
        const timer = setTimeout(() => {
            this.timers.delete(id)
            cb()
        }, ms)
        this.timers.set(id, { entry, timer })
    }

    forget(id) {
        const own = this.timers.get(id)
        if (own) clearTimeout(own.timer)
        return this.timers.delete(id)
    }

    // The item is removed from the queue.
    discard(id) {
        if (!this.forget(id)) this.of.order('delete', String(id))
    }

    drain() {
        const own = [...this.timers.values()]
        for (const { entry } of own) {
            this.forget(entry.id)
            entry.cb()
        }
        this.of.flush_queue().catch((error) => this.of.logger.logwarn(`drain: ${error.message}`))
    }

    shutdown() {
        for (const id of [...this.timers.keys()]) this.forget(id)
    }
}

module.exports = { Queue }
