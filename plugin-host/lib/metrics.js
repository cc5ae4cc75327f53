'use strict'
// What plugins cost, for each plugin and hook, and who is running at this moment.
//
// `ms` is the time until the answer; `busy_ms` the part of it in which the plugin's own code ran without giving way, which
// is its CPU time unless it blocks. Heap is sampled by V8: what is still alive, by the plugin whose code allocated it.
// What plugins may cost: budgets.js.

const fs = require('node:fs')
const inspector = require('node:inspector')
const path = require('node:path')
const { performance } = require('node:perf_hooks')
const util = require('node:util')
const { Budgets } = require('./budgets')

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
        Object.assign(this, { over: 0, passed: 0 })
        this.number = metrics.lookout.name(plugin, hook)
        this.changed = false
        this.standing = metrics.budgets.open(this)
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
        return [
            this.plugin, this.hook, this.calls, ms(this.ms), ms(this.busyMs), ms(this.maxMs), this.timeouts, this.failures, this.over,
            this.passed,
        ]
    }
}

class Call {
    constructor(meter) {
        const { metrics } = meter
        this.meter = meter
        this.before = metrics.lookout.enter(meter.number)
        this.others = metrics.within
        metrics.within = 0
        this.began = performance.now()
        this.open = true
    }

    // The plugin's code has returned; the answer may come later.
    left() {
        const { metrics, standing } = this.meter
        const ran = performance.now() - this.began
        // What it logs may be shown to other plugins on the way: that is theirs.
        const own = ran - metrics.within
        metrics.within = this.others + ran
        metrics.lookout.leave(this.before)
        this.meter.busyMs += own
        standing.ranFor(own)
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
    // `send` takes messages for the engine, `tell` a plugin's name and a sentence about it.
    constructor(send, lookout, tell) {
        this.send = send
        this.lookout = lookout
        this.budgets = new Budgets(tell, (plugin) => this.homeOf(plugin))
        this.meters = new Map()
        this.methods = new Map() // "plugin\0method" -> hook
        this.homes = [] // [{ plugin, home }]
        this.within = 0 // ms of calls that were made and left within the one that runs
        this.turns = 0
        this.heap = {} // octets by plugin
        this.heapHooks = {} // and the hook that most of them come from
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

    meter(plugin, hook, method) {
        if (method) this.methods.set(`${plugin}\0${method}`, hook)
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

    // The file or folder of a plugin.
    homeOf(plugin) {
        return this.homes.find((one) => one.plugin === plugin)?.home
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
        const small = Math.min(HEAP_BYTES_SMALL, this.budgets.heapBytes)
        const look = this.turns++ % SMALL_HEAP_EVERY === 0 || used > small
        if (look) this.lookAtHeap()
        if (rows.length === 0 && !look) return
        const { user, system } = process.cpuUsage()
        this.send({
            t: 'metrics', rows, heap_bytes: used, heap: this.heap, heap_hooks: this.heapHooks, resting: this.budgets.restingNow(),
            cpu_ms: Math.round((user + system) / 1000),
        })
    }

    // Live octets by the innermost plugin on the stack that allocated them, and the first of its methods there that is a hook.
    lookAtHeap() {
        if (!this.session) return
        const heap = {}
        const hooks = {}
        const add = (sums, key, size) => { sums[key] = (sums[key] || 0) + size }
        const walk = (node, owner, hook) => {
            const own = this.ownerOf(node.callFrame.url)
            if (own && own !== owner) [owner, hook] = [own, undefined]
            if (own && !hook) hook = this.hookOf(own, node.callFrame.functionName)
            if (owner && node.selfSize > 0) {
                add(heap, owner, node.selfSize)
                if (hook) add(hooks[owner] ||= {}, hook, node.selfSize)
            }
            for (const child of node.children) walk(child, owner, hook)
        }
        this.session.post('HeapProfiler.getSamplingProfile', (error, answer) => {
            if (error) return
            walk(answer.profile.head)
            this.heap = heap
            this.heapHooks = Object.fromEntries(Object.entries(hooks).map(([plugin, sums]) => [plugin, largestOf(sums)]))
            this.budgets.seeHeap(heap, this.heapHooks)
        })
    }

    // V8 calls it `exports.hook_get_mx` where that is how it was assigned.
    hookOf(plugin, functionName) {
        return this.methods.get(`${plugin}\0${functionName.slice(functionName.lastIndexOf('.') + 1)}`)
    }
}

function largestOf(sums) {
    return Object.keys(sums).reduce((most, key) => (sums[key] > sums[most] ? key : most))
}

module.exports = { Metrics }
