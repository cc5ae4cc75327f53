'use strict'
// A thread beside the plugins' that sees when one of them does not give way: an endless loop, blocking I/O, a heap that
// grows without end. It notes who is at it where the engine finds it after the host has died.
//
// Shared between both: the beat of the plugins' thread, who runs there now and who ran last.

const fs = require('node:fs')
const { Worker, isMainThread, workerData, parentPort } = require('node:worker_threads')

const LOOK_EVERY_MS = 100
const [BEAT, RUNNING, LAST, CALLS] = [0, 1, 2, 3]
const CELLS = 4

class Lookout {
    // `descriptor` takes the notes; without one nobody is watched.
    constructor(descriptor) {
        this.cells = new Int32Array(new SharedArrayBuffer(CELLS * 4))
        this.names = 0
        if (descriptor === undefined) return
        this.worker = new Worker(__filename, { workerData: { cells: this.cells, descriptor } })
        this.worker.on('error', () => {}) // Plugins run on without.
        this.worker.unref()
        setInterval(() => { this.cells[BEAT] += 1 }, LOOK_EVERY_MS / 2).unref()
    }

    // A number for enter().
    name(plugin, hook) {
        this.names += 1
        if (this.worker) this.worker.postMessage([this.names, { plugin, hook }])
        return this.names
    }

    // Returns what leave() wants back.
    enter(number) {
        const { cells } = this
        const before = cells[RUNNING]
        cells[RUNNING] = number
        cells[LAST] = number
        cells[CALLS] += 1
        return before
    }

    leave(before) {
        this.cells[RUNNING] = before
    }
}

// The other thread: one line for each note, `{}` when all is well again.
function watch({ cells, descriptor }) {
    const names = new Map()
    parentPort.on('message', ([number, name]) => names.set(number, name))
    let beat = -1
    let calls = -1
    let still = 0
    let noteAt = 1
    const note = (value) => {
        try {
            fs.writeSync(descriptor, JSON.stringify(value) + '\n')
        } catch {
            // The engine has gone, or does not read: there is nobody to tell.
        }
    }
    setInterval(() => {
        const now = [Atomics.load(cells, BEAT), Atomics.load(cells, CALLS)]
        if (now[0] !== beat || now[1] !== calls) {
            if (noteAt > 1) note({})
            ;[beat, calls] = now
            still = 0
            noteAt = 1
            return
        }
        still += 1
        if (still < noteAt) return
        noteAt *= 2
        const running = Atomics.load(cells, RUNNING)
        note({ ...names.get(running || Atomics.load(cells, LAST)), running: running !== 0, ms: still * LOOK_EVERY_MS })
    }, LOOK_EVERY_MS)
}

if (!isMainThread && workerData && workerData.cells) watch(workerData)

module.exports = { Lookout }
