'use strict'
// What a plugin may cost before its hooks are passed over: not asked for a while, as if they did not answer in time.
//
// `busy_ms` is for one call of a hook, until the plugin's code gives way; `heap_bytes` for what a plugin holds. Who is over
// them is named. A hook that is over its budget `times` within a minute rests for `rest_ms`; one that is over it again
// within a minute after that rests at once, twice as long. 0: no budget, or no rest.

const { performance } = require('node:perf_hooks')

const WINDOW_MS = 60_000
const REST_MS_MAX = 600_000
const TELL_EVERY_MS = 60_000
// What runs in timers belongs to hooks that have been asked; and a plugin that has not begun does not decide about mail.
const NEVER_PASSED_OVER = ['timers', 'init_master']

const whole = (ms) => Math.round(ms)
const seconds = (ms) => `${Math.ceil(ms / 1000)} s`

class Budgets {
    // `tell` takes a plugin's name and a sentence. `fileOf` knows where a plugin is.
    constructor(tell, fileOf, now = () => performance.now()) {
        Object.assign(this, { tell, fileOf, now })
        this.standings = []
        this.configure({})
    }

    // `resting`: [[plugin, hook, ms]], hooks that ended earlier hosts; without the hook all of a plugin's.
    configure({ busy_ms = 0, heap_bytes = 0, times = 0, rest_ms = 0 } = {}, resting = []) {
        this.busyMs = busy_ms || Infinity
        this.heapBytes = heap_bytes || Infinity
        Object.assign(this, { times, restMs: rest_ms, resting })
    }

    open(meter) {
        const standing = new Standing(this, meter)
        this.standings.push(standing)
        for (const [plugin, hook, ms] of this.resting) {
            if (plugin === meter.plugin && (hook === '' || hook === meter.hook)) standing.rest(ms, 'hosts ended by it')
        }
        return standing
    }

    // What each plugin holds, and which of its hooks most of that comes from.
    seeHeap(heap, hookOf) {
        for (const [plugin, bytes] of Object.entries(heap)) {
            if (bytes <= this.heapBytes) continue
            const all = this.standings.filter(({ meter }) => meter.plugin === plugin)
            const first = all.find(({ meter }) => meter.hook === hookOf[plugin]) || all[0]
            if (!first) continue
            const sentence = `${plugin} holds ${mebibytes(bytes)} of the heap; plugin_heap_bytes_max is ${mebibytes(this.heapBytes)}`
            first.exceeded(sentence, all)
        }
    }

    // [[plugin, hook, until]], by the wall clock.
    restingNow() {
        const [now, wall] = [this.now(), Date.now()]
        const resting = this.standings.filter(({ until }) => until > now)
        return resting.map(({ meter, until }) => [meter.plugin, meter.hook, wall + whole(until - now)])
    }
}

const mebibytes = (bytes) => `${whole(bytes / 1024 / 1024)} MiB`

// One plugin's hook.
class Standing {
    constructor(budgets, meter) {
        Object.assign(this, { budgets, meter })
        this.recent = [] // when it was over a budget
        this.until = 0 // it rests; 0: it does not
        this.watchedUntil = 0 // after a rest
        this.lastRest = 0
        this.toldAt = -Infinity
    }

    // The hot path: nearly always the first comparison and no more.
    rests() {
        if (this.until === 0) return false
        const { budgets, meter } = this
        if (budgets.now() < this.until) {
            meter.passed += 1
            meter.changed = true
            return true
        }
        this.until = 0
        this.watchedUntil = budgets.now() + WINDOW_MS
        meter.changed = true
        this.say(`${meter.hook} is asked again`)
        return false
    }

    ranFor(ms) {
        const { budgets, meter } = this
        if (ms <= budgets.busyMs) return
        this.exceeded(`${meter.hook} ran for ${whole(ms)} ms without giving way; call_busy_max is ${whole(budgets.busyMs)} ms`, [this])
    }

    // `candidates`: who rests when that was once too often.
    exceeded(sentence, candidates) {
        const { budgets, meter } = this
        const now = budgets.now()
        meter.over += 1
        meter.changed = true
        if (now - this.toldAt >= TELL_EVERY_MS) {
            this.toldAt = now
            this.say(sentence)
        }
        const resting = candidates.filter(({ meter: { hook } }) => !NEVER_PASSED_OVER.includes(hook))
        if (budgets.times === 0 || resting.every(({ until }) => until > now)) return
        this.recent = this.recent.filter((at) => now - at < WINDOW_MS)
        this.recent.push(now)
        const again = resting.some(({ watchedUntil }) => now < watchedUntil)
        if (!again && this.recent.length < budgets.times) return
        const why = again ? 'over its budget again' : `over its budget ${this.recent.length} times within a minute`
        const ms = again ? Math.max(...resting.map(({ lastRest }) => lastRest)) * 2 : budgets.restMs
        this.recent = []
        for (const standing of resting) standing.rest(ms, why)
    }

    rest(ms, why) {
        const { budgets, meter } = this
        if (NEVER_PASSED_OVER.includes(meter.hook)) return
        this.lastRest = Math.min(ms, REST_MS_MAX)
        this.until = budgets.now() + this.lastRest
        this.recent = []
        meter.changed = true
        this.say(`${meter.hook} is passed over for ${seconds(this.lastRest)}: ${why}`)
    }

    say(sentence) {
        const { budgets, meter } = this
        budgets.tell(meter.plugin, `${sentence} (${budgets.fileOf(meter.plugin)})`)
    }
}

module.exports = { Budgets }
