'use strict'
// Plays the engine for one plugin: loads it in a host of its own and puts hooks to it, with made-up mail.

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { Wire } = require('./wire')

const MESSAGE = 'From: <sender@here.test>\r\nTo: <recipient@there.test>\r\nSubject: a rehearsal\r\n\r\nHello.\r\n'
const POINT_OF = { send_email: 'attempt', get_mx: 'attempt', deferred: 'deferred', bounce: 'bounce', delivered: 'delivered' }
// Neither put to plugins here nor missed.
const BY_THE_HOST = ['init_master', 'deny']
const PEER = { ip: '192.0.2.25', port: 25 }
// Beyond what plugins may take.
const GRACE_MS = 5000
const START_MS = 30_000
const LOOK_MS = 50

class RehearsalError extends Error {}

class Rehearsal {
    // `instance`: its directory. `config`: texts of files, in place of the instance's. `engine`: answers what plugins ask of
    // the engine; gets { method, path, query, body }, returns [status, body].
    constructor({ instance, name, addresses = 'auto', config, engine, message = MESSAGE }) {
        Object.assign(this, { instance: path.resolve(instance), name, addresses, engine, message })
        this.logs = []
        this.rows = new Map()
        this.waiting = new Map()
        this.asked = 0
        this.note = {}
        this.directory = config ? overlay(this.instance, config) : this.instance
        this.isCopy = Boolean(config)
    }

    // Resolves to what the host said about the plugin; rejects when it does not load.
    async start() {
        const host = path.join(__dirname, '..', 'index.js')
        const stdio = ['ignore', process.stderr, process.stderr, 'pipe', 'pipe']
        this.child = spawn(process.execPath, [host, this.directory, '4'], { stdio })
        this.ended = new Promise((resolve) => this.child.on('exit', (code, signal) => resolve(signal || `exit code ${code}`)))
        this.wire = new Wire(this.child.stdio[3])
        this.wire.on('message', (message) => this.take(message))
        this.child.stdio[4].on('data', (data) => this.takeNotes(data))
        this.wire.send({ t: 'hello', directory: this.directory, native: [], addresses: this.addresses, log_level: 9, only: [this.name] })
        this.ready = await this.inTime(new Promise((resolve) => { this.onReady = resolve }), START_MS, 'loading')
        const [trouble] = [...this.ready.broken, ...this.ready.failed]
        if (!trouble) return this.ready
        await this.close()
        const place = trouble.file ? `${this.original(trouble.file)}:${trouble.line}: ` : ''
        throw new RehearsalError(`${place}${trouble.sentence || trouble.reason}`)
    }

    // The plugin's hooks, with method and priority: those that can be put to it here, and the others.
    hooks() {
        const all = Object.entries(this.ready.roster.hooks)
        const able = all.filter(([hook]) => POINT_OF[hook])
        const others = all.map(([hook]) => hook).filter((hook) => !POINT_OF[hook] && !BY_THE_HOST.includes(hook))
        return { able: Object.fromEntries(able), others }
    }

    // The answer as the engine would get it, with `ms` and the plugin's own log lines.
    async ask(hook, item = {}, told = {}) {
        const point = POINT_OF[hook]
        if (!point) throw new RehearsalError(`${hook} cannot be rehearsed; one of ${Object.keys(POINT_OF).join(', ')} is expected`)
        const given = itemOf(item, told, point)
        const id = ++this.asked
        const logged = this.logs.length
        const began = performance.now()
        const answered = new Promise((resolve) => this.waiting.set(id, resolve))
        this.wire.send({ t: 'hook', id, point, item: given, ...toldOf(point, given, told) })
        const limits = Object.values(this.ready.hooks).map((limit) => limit ?? Infinity)
        const answer = await this.inTime(answered, Math.max(...limits, 0) + GRACE_MS, hook)
        const { t: _, id: __, image, ...decided } = answer
        const notes = image ? JSON.parse(image) : {}
        return { ...decided, notes: notes.notes, ms: Math.round((performance.now() - began) * 10) / 10, logs: this.logs.slice(logged) }
    }

    // Ends the host; resolves to what was counted: [{ hook, calls, timeouts, failures, busy_ms }].
    async close() {
        if (this.child.exitCode === null && this.child.signalCode === null) {
            this.wire.send({ t: 'shutdown' })
            const timer = setTimeout(() => this.child.kill('SIGKILL'), GRACE_MS)
            await this.ended
            clearTimeout(timer)
        }
        if (this.isCopy) fs.rmSync(this.directory, { recursive: true, force: true })
        return [...this.rows.values()].filter((row) => row.plugin === this.name)
    }

    take(message) {
        switch (message.t) {
            case 'ready': return this.onReady(message)
            case 'log': return void this.logs.push(message)
            case 'metrics': return this.takeRows(message.rows)
            case 'request': return void this.respond(message)
            case 'read': return this.wire.sendOctets(message.id, Buffer.from(this.message), true)
            case 'answer': {
                this.waiting.get(message.id)(message)
                this.waiting.delete(message.id)
            }
        }
    }

    takeRows(rows) {
        for (const [plugin, hook, calls, , busy_ms, , timeouts, failures] of rows) {
            this.rows.set(`${plugin}\0${hook}`, { plugin, hook, calls, timeouts, failures, busy_ms })
        }
    }

    takeNotes(data) {
        const line = String(data).trim().split('\n').pop()
        try {
            this.note = JSON.parse(line)
        } catch {
            // Half a line: the next one tells.
        }
    }

    async respond({ id, method, path: target, query, body }) {
        const refusal = { error: 'there is no engine in a rehearsal' }
        let answer
        try {
            answer = this.engine ? await this.engine({ method, path: target, query, body }) : [503, refusal]
        } catch (error) {
            answer = [500, { error: error.message }]
        }
        this.wire.send({ t: 'response', id, status: answer[0], body: answer[1] })
    }

    // What `promise` says, unless the host ends or hangs before.
    async inTime(promise, ms, what) {
        let timer
        const late = new Promise((resolve) => { timer = setTimeout(() => resolve('late'), Math.min(ms, 2 ** 31 - 1)) })
        const stuck = this.stuckSince(ms)
        const first = await Promise.race([promise.then((value) => ({ value })), this.ended, late, stuck.found])
        clearTimeout(timer)
        stuck.stop()
        if (first && typeof first === 'object') return first.value
        this.child.kill('SIGKILL')
        const who = this.note.plugin ? `: ${this.note.plugin} did not give way in ${this.note.hook}` : ''
        throw new RehearsalError(`${what}: ${first === 'late' ? 'no answer' : first === 'stuck' ? 'the host hangs' : `the host ended (${first})`}${who}`)
    }

    // Resolves `found` when a plugin's code has not given way for longer than any may take.
    stuckSince(ms) {
        let timer
        const found = new Promise((resolve) => {
            timer = setInterval(() => { if (this.note.ms > Math.min(ms, GRACE_MS)) resolve('stuck') }, LOOK_MS)
        })
        return { found, stop: () => clearInterval(timer) }
    }

    // A file of the instance, where this one is in a copy of it.
    original(file) {
        return this.isCopy && file.startsWith(this.directory) ? this.instance + file.slice(this.directory.length) : file
    }
}

// The instance once more, made of links, with other configuration files.
function overlay(instance, config) {
    const copy = fs.mkdtempSync(path.join(os.tmpdir(), 'sluice-rehearsal-'))
    const link = (...parts) => fs.symlinkSync(path.join(instance, ...parts), path.join(copy, ...parts))
    for (const name of fs.readdirSync(instance)) {
        if (name !== 'config') link(name)
    }
    fs.mkdirSync(path.join(copy, 'config'))
    const own = fs.existsSync(path.join(instance, 'config')) ? fs.readdirSync(path.join(instance, 'config')) : []
    for (const name of own) {
        if (!Object.hasOwn(config, name)) link('config', name)
    }
    for (const [name, text] of Object.entries(config)) {
        const file = path.join(copy, 'config', name)
        fs.mkdirSync(path.dirname(file), { recursive: true })
        fs.writeFileSync(file, text)
    }
    return copy
}

function itemOf(changes, told, point) {
    const domain = changes.domain || 'there.test'
    const id = changes.id || '0rehearsal000.0'
    const now = Date.now()
    const item = {
        id, message: id.slice(0, id.indexOf('.')), items: 1, attempts: point === 'attempt' ? 0 : 1, arrival: now - 60_000, now,
        size: MESSAGE.length, domain, mail_from: '<sender@here.test>', rcpt_to: [`<recipient@${domain}>`], notes: {}, ...changes,
    }
    item.places = item.rcpt_to.map((_, place) => place)
    if (point === 'deferred' || point === 'bounce') item.dsn = item.rcpt_to.map(() => dsnOf(point, told))
    return item
}

const REASON = { deferred: '450 4.2.1 Try again later', bounce: '550 5.1.1 No such mailbox' }

function dsnOf(point, { reason = REASON[point] }) {
    const [, code, status, response] = /^(\d{3})?[ -]?(\d\.\d+\.\d+)?\s*(.*)$/s.exec(reason)
    const failed = point === 'bounce'
    return {
        action: failed ? 'failed' : 'delayed', code: Number(code || (failed ? 550 : 450)), status: status || (failed ? '5.0.0' : '4.0.0'),
        response, mta: PEER.ip, local: false,
    }
}

function toldOf(point, item, told) {
    const of = item.places
    const host = `mx.${item.domain}`
    const mx = { exchange: PEER.ip, from_dns: host }
    switch (point) {
        case 'deferred': return { of, reason: REASON.deferred, partial: false, delay: 60, mx, ...told }
        case 'bounce': return { of, reason: REASON.bounce, partial: false, mx, ...told }
        case 'delivered': return { of, host, ...PEER, response: '250 2.0.0 Ok', delay: 1.5, mode: 'SMTP', secured: true, authenticated: false, ...told }
        default: return told
    }
}

module.exports = { Rehearsal, RehearsalError, POINT_OF }
