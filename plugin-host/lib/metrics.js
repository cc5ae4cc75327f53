'use strict'
// What plugins cost, for each plugin and hook, and who is running at this moment.
//
// `ms` is the time until the answer; `busy_ms` the part of it in which the plugin's own code ran without giving way, which
// is its CPU time unless it blocks. Heap is sampled by V8: what is still alive, by the plugin whose code allocated it.

const fs = require('node:fs')
const inspector = require('node:inspector')
const path = require('node:path')
const { performance } = require('node:perf_hooks')
const util = require('node:util')

const REPORT_EVERY_MS = 1000
const HEAP_SAMPLE_BYTES = 256 * 1024
// A heap of this size is looked at often, a smaller one now and then.
const HEAP_BYTES_SMALL = 64 * 1024 * 1024
const SMALL_HEAP_EVERY = 15
const TIMERS = 'timers'

// One plugin's calls of one hook, since the host began.
class Meter {
    constructor(metrics, plugin, hook) {
        Object.assign(this, { metrics, plugin, hook, calls: 0, ms: 0, busyMs: 0, maxMs: 0, timeouts: 0, failures: 0 })
        this.number = metrics.lookout.name(plugin, hook)
        this.changed = false
    }

    begin() {
        return new Call(this)
    }

    // Runs `body` as this plugin's code, without an answer to wait for.
    run(body) {
        const call = new Call(this)
        try {
            return body()
        } finally {
            call.left()
            call.ended()
        }
    }

    row() {
        const ms = (time) => Math.round(time * 1000) / 1000
        return [this.plugin, this.hook, this.calls, ms(this.ms), ms(this.busyMs), ms(this.maxMs), this.timeouts, this.failures]
    }
}

class Call {
    constructor(meter) {
        this.meter = meter
        this.before = meter.metrics.lookout.enter(meter.number)
        this.began = performance.now()
        this.open = true
    }

    // The plugin's code has returned; the answer may come later.
    left() {
        this.meter.busyMs += performance.now() - this.began
        this.meter.metrics.lookout.leave(this.before)
    }

    // `how`: nothing, 'timeouts' or 'failures'. The first time counts.
    ended(how) {
        if (!this.open) return
        this.open = false
        const { meter } = this
        const took = performance.now() - this.began
        meter.calls += 1
        meter.ms += took
        meter.maxMs = Math.max(meter.maxMs, took)
        if (how) meter[how] += 1
        meter.changed = true
    }
}

class Metrics {
    // `send` takes messages for the engine.
    constructor(send, lookout) {
        this.send = send
        this.lookout = lookout
        this.meters = new Map()
        this.homes = [] // [{ plugin, home }]
        this.turns = 0
        this.heapBytes = 0
        this.heap = {}
    }

    start() {
        try {
            this.session = new inspector.Session()
            this.session.connect()
            this.session.post('HeapProfiler.startSampling', { samplingInterval: HEAP_SAMPLE_BYTES })
        } catch {
            this.session = undefined // A Node that was built without: heap is not attributed then.
        }
        setInterval(() => this.report(), REPORT_EVERY_MS).unref()
    }

    meter(plugin, hook) {
        const key = `${plugin}\0${hook}`
        let meter = this.meters.get(key)
        if (!meter) this.meters.set(key, meter = new Meter(this, plugin, hook))
        return meter
    }

    // Code below `home`, a file or folder, is this plugin's.
    own(plugin, home) {
        // Node knows packages by where they really are.
        for (const place of new Set([home, fs.realpathSync(home)])) this.homes.push({ plugin, home: place })
    }

    ownerOf(url) {
        const file = url.startsWith('file://') ? decodeURI(url.slice(7)) : url
        const owner = this.homes.find(({ home }) => file === home || file.startsWith(home + path.sep))
        return owner && owner.plugin
    }

    // The timers that plugins get, so that what runs in them is theirs too.
    timersOf(plugin) {
        const owned = (make) => {
            const wrapped = (callback, ...rest) => {
                if (typeof callback !== 'function') return make(callback, ...rest)
                const meter = this.meter(plugin, TIMERS)
                return make((...args) => meter.run(() => callback(...args)), ...rest)
            }
            const promised = make[util.promisify.custom]
            if (promised) wrapped[util.promisify.custom] = promised
            return wrapped
        }
        return { setTimeout: owned(setTimeout), setInterval: owned(setInterval), setImmediate: owned(setImmediate) }
    }

    report() {
        const rows = []
        for (const meter of this.meters.values()) {
            if (!meter.changed) continue
            meter.changed = false
            rows.push(meter.row())
        }
        const used = process.memoryUsage().heapUsed
        const look = this.turns++ % SMALL_HEAP_EVERY === 0 || used > HEAP_BYTES_SMALL
        if (look) this.lookAtHeap()
        if (rows.length === 0 && !look) return
        const { user, system } = process.cpuUsage()
        this.send({ t: 'metrics', rows, heap_bytes: used, heap: this.heap, cpu_ms: Math.round((user + system) / 1000) })
    }

    // Live octets by the innermost plugin on the stack that allocated them.
    lookAtHeap() {
        if (!this.session) return
        const heap = {}
        const walk = (node, owner) => {
            const own = this.ownerOf(node.callFrame.url) || owner
            if (own && node.selfSize > 0) heap[own] = (heap[own] || 0) + node.selfSize
            for (const child of node.children) walk(child, own)
        }
        this.session.post('HeapProfiler.getSamplingProfile', (error, answer) => {
            if (error) return
            walk(answer.profile.head, undefined)
            this.heap = heap
        })
    }
}

module.exports = { Metrics }
