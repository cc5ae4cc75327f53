'use strict'
// The module `sluice` that plugins require: what they may ask of the engine. Each question is a request of the control API,
// sent over the host's socket; sluice.d.ts describes it for authors.

const Module = require('node:module')

const CACHED_MAX = 10_000
// Requests that the engine has and has not answered; further ones wait here.
const UNDER_WAY_MAX = 1000

class SluiceError extends Error {
    constructor(status, { error, field } = {}) {
        super(error || `the engine answered ${status}`)
        this.name = 'SluiceError'
        this.status = status
        if (field !== undefined) this.field = field
    }
}

// The requests that are under way.
class Requests {
    constructor(wire) {
        this.wire = wire
        this.last = 0
        this.waiting = new Map()
        this.later = []
    }

    // Resolves to the JSON of the answer; rejects with a SluiceError.
    send(method, path, { query, body } = {}) {
        return new Promise((resolve, reject) => {
            const id = ++this.last
            this.waiting.set(id, { resolve, reject })
            this.later.push({ t: 'request', id, method, path, query: textsOf(query), body: method === 'POST' ? body || {} : undefined })
            this.sendSome()
        })
    }

    sendSome() {
        while (this.later.length > 0 && this.waiting.size - this.later.length < UNDER_WAY_MAX) {
            const message = this.later.shift()
            try {
                this.wire.send(message)
            } catch (error) {
                this.waiting.get(message.id).reject(error)
                this.waiting.delete(message.id)
            }
        }
    }

    take({ id, status, body }) {
        const asked = this.waiting.get(id)
        this.waiting.delete(id)
        if (!asked) return
        this.sendSome()
        if (status < 300) asked.resolve(body)
        else asked.reject(new SluiceError(status, body || {}))
    }
}

// What a query says: texts, without what is not given.
function textsOf(query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== undefined)
    return Object.fromEntries(given.map(([key, value]) => [key, String(value)]))
}

// As `author` tells: who is named where something was done.
function moduleOf(requests, author) {
    const get = (path, query) => requests.send('GET', path, { query })
    const post = (path, body) => requests.send('POST', path, { body })
    const signed = (what) => ({ author, ...what })
    const absent = (otherwise) => (error) => {
        if (error.status === 404) return otherwise
        throw error
    }

    const policy = {
        add: (condition) => post('/v1/policy/conditions', signed(condition)),
        list: async () => (await get('/v1/policy/conditions')).conditions,
        delete: (id, reason) => post('/v1/policy/conditions/delete', signed({ id, reason })),
    }
    const suspend = {
        add: (suspension) => post('/v1/suspensions', signed(suspension)),
        list: async () => (await get('/v1/suspensions')).suspensions,
        delete: (id, reason) => post('/v1/suspensions/delete', signed({ id, reason })),
    }
    const memory = {
        get: async (key) => (await get('/v1/memory', { key }).catch(absent({}))).value,
        set: async (key, value, { ttl } = {}) => void await post('/v1/memory', { key, value, ttl }),
        incr: async (key, by = 1, { ttl } = {}) => (await post('/v1/memory/increment', { key, by, ttl })).value,
        compareAndSet: async (key, expected, value, { ttl } = {}) => (await post('/v1/memory/compare_and_set', { key, expected, value, ttl })).done,
        delete: async (key) => (await post('/v1/memory/delete', { key })).deleted,
        ttl: async (key) => {
            const entry = await get('/v1/memory', { key }).catch(absent(undefined))
            return entry && (entry.ttl ?? Infinity)
        },
        list: (query) => get('/v1/memory', query),
    }
    const queue = {
        list: (query) => get('/v1/queue', query),
        groups: (by, { where, limit } = {}) => get('/v1/queue/groups', { by: [].concat(by).join(','), where, limit }),
        count: async (where) => (await get('/v1/queue/groups', { where, limit: 1 })).total.items,
        stats: () => get('/v1/queue/stats'),
    }
    const rate = async (namespace, key, count, seconds) => {
        const { allowed, used } = await post('/v1/memory/rate', { namespace, key: String(key), count, seconds })
        return count === 0 ? used : allowed
    }
    const explain = async (what) => (await get('/v1/explain', { what })).explanations
    const request = (method, path, given) => requests.send(method, path, given)
    return { policy, suspend, memory, queue, rate, explain, cache, request, SluiceError }
}

// `fn`, called at most once within `ttl` seconds for the same arguments. What it throws or rejects is not kept.
function cache(ttl, fn) {
    if (!(ttl > 0)) throw new TypeError('cache: a number of seconds is expected')
    const kept = new Map()
    return function cached(...args) {
        const key = JSON.stringify(args)
        const now = Date.now()
        const known = kept.get(key)
        if (known && known.until > now) return known.value
        const value = fn.apply(this, args)
        kept.delete(key)
        kept.set(key, { value, until: now + ttl * 1000 })
        if (kept.size > CACHED_MAX) kept.delete(kept.keys().next().value)
        if (value && typeof value.then === 'function') {
            value.then(undefined, () => { if (kept.get(key)?.value === value) kept.delete(key) })
        }
        return value
    }
}

// Makes `require('sluice')` work everywhere in this process. `ownerOf` names the plugin that a file belongs to.
function install(requests, ownerOf) {
    const load = Module._load
    const modules = new Map()
    Module._load = function (request, parent, ...rest) {
        if (request !== 'sluice') return load.call(this, request, parent, ...rest)
        const owner = (parent && parent.filename && ownerOf(parent.filename)) || 'a plugin'
        if (!modules.has(owner)) modules.set(owner, moduleOf(requests, `plugin ${owner}`))
        return modules.get(owner)
    }
}

module.exports = { Requests, SluiceError, cache, install, moduleOf }
