'use strict'
// Plays the engine for one plugin: loads it in a host of its own and puts hooks to it, with made-up mail and a made-up client.

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { Dialogue, SESSION_HOOKS } = require('./dialogue')
const { Wire } = require('./wire')

const MESSAGE = 'Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-Id: <rehearsal@here.test>\r\nFrom: <sender@here.test>\r\nTo: <recipient@there.test>\r\nSubject: a rehearsal\r\n\r\nHello.\r\n'
const POINT_OF = { send_email: 'attempt', get_mx: 'attempt', deferred: 'deferred', bounce: 'bounce', delivered: 'delivered' }
// Not put to plugins here, nor missed.
const BY_THE_HOST = ['init_master', 'init_child']
const REHEARSED = [...Object.keys(POINT_OF), ...SESSION_HOOKS, 'log']
const LINE = { t: 'line', level: 6, session: 'REHEARSAL', origin: 'core', text: 'a line of the log' }
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
        Object.assign(this, { instance: path.resolve(instance), name, addresses, engine, message: wireForm(message) })
        this.logs = []
        this.witnessed = []
        this.octets = new Map() // by question
        this.sessions = 0
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
        this.wire.on('octets', (id, octets) => this.octets.set(id, Buffer.concat([this.octets.get(id) || Buffer.alloc(0), octets])))
        this.child.stdio[4].on('data', (data) => this.takeNotes(data))
        this.wire.send({
            t: 'hello', directory: this.directory, native: [], addresses: this.addresses, log_level: 9, only: [this.name],
            rehearsal: { name: 'client.here.test' },
        })
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
        const able = all.filter(([hook]) => REHEARSED.includes(hook))
        const others = all.map(([hook]) => hook).filter((hook) => !REHEARSED.includes(hook) && !BY_THE_HOST.includes(hook))
        return { able: Object.fromEntries(able), others }
    }

    // The answer as the engine would get it, with `ms` and the plugin's own log lines. Of a hook of mail in: the step of a
    // session in which it was asked; `item` are the options of dialogue() then.
    async ask(hook, item = {}, told = {}) {
        const point = POINT_OF[hook]
        if (SESSION_HOOKS.includes(hook)) return this.stepOf(hook, item)
        if (!point) throw new RehearsalError(`${hook} cannot be rehearsed; one of ${REHEARSED.join(', ')} is expected`)
        const given = itemOf(item, told, point)
        const { image, octets: _, heard: __, ...decided } = await this.put({ t: 'hook', point, item: given, ...toldOf(point, given, told) }, hook)
        const notes = image ? JSON.parse(image) : {}
        return { ...decided, notes: notes.notes }
    }

    async stepOf(hook, options) {
        const steps = await this.dialogue(options, hook)
        const found = steps.find(({ hooks }) => hooks.some((one) => one.hook === hook))
        if (found) return found
        const refused = steps.find(({ refusal }) => refusal)
        const why = refused ? `the client is refused before: ${refused.refusal} (${refused.point})` : `${this.name} has no such hook, or it is not its turn`
        throw new RehearsalError(`${hook} is not reached: ${why}`)
    }

    // A client's session from its connection to its end, or up to `last`: the points at which the plugin has hooks. Resolves
    // to its steps: { point, hooks: [{ hook, said, text, ms }], what, refusal, changed, content, ... }. Options: dialogue.js.
    async dialogue(options = {}, last = undefined) {
        const message = options.message === undefined ? this.message : wireForm(options.message)
        const put = async (point, told) => {
            const answer = await this.put({ t: 'session', point, ...told }, point, message)
            return { ...answer, ...(answer.octets && { content: contentOf(answer, message) }), octets: undefined }
        }
        const hooks = Object.keys(this.ready.roster.hooks)
        const dialogue = new Dialogue(++this.sessions, hooks, { ...options, message }, put)
        return dialogue.run(last)
    }

    // Shows it a line of the log; resolves to what it answered.
    async showLine() {
        const heard = new Promise((resolve) => { this.onLine = resolve })
        this.wire.send(LINE)
        return this.inTime(heard, GRACE_MS * 2, 'log')
    }

    async put(question, what, message = this.message) {
        const id = ++this.asked
        const [logged, witnessed] = [this.logs.length, this.witnessed.length]
        const began = performance.now()
        const answered = new Promise((resolve) => this.waiting.set(id, resolve))
        this.lent = message
        this.wire.send({ ...question, id })
        // One point asks several hooks.
        const limit = Object.values(this.ready.hooks).reduce((sum, ms) => sum + (ms ?? Infinity), 0)
        const { t: _, id: __, ...answer } = await this.inTime(answered, limit + GRACE_MS, what)
        const ms = Math.round((performance.now() - began) * 10) / 10
        return { ...answer, octets: this.octets.get(id), heard: this.witnessed.slice(witnessed), ms, logs: this.logs.slice(logged) }
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
            case 'heard': return this.hear(message)
            case 'metrics': return this.takeRows(message.rows)
            case 'request': return void this.respond(message)
            case 'read': return this.wire.sendOctets(message.id, this.lent, true)
            case 'answer': {
                this.waiting.get(message.id)(message)
                this.waiting.delete(message.id)
            }
        }
    }

    hear({ t: _, plugin, ...heard }) {
        if (plugin !== this.name) return
        if (heard.hook !== 'log') this.witnessed.push(heard)
        else if (this.onLine) this.onLine(heard)
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

// A message as it goes over the wire.
function wireForm(message) {
    return Buffer.from(Buffer.from(message).toString('latin1').replace(/\r?\n/g, '\r\n'), 'latin1')
}

// What became of the message: its header section may have come back alone.
function contentOf({ changed, octets }, message) {
    const end = message.indexOf('\r\n\r\n')
    return String(changed === 'header' ? Buffer.concat([octets, message.subarray(end === -1 ? message.length : end + 4)]) : octets)
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

module.exports = { Rehearsal, RehearsalError, POINT_OF, REHEARSED }
