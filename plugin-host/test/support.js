'use strict'
// A mock of the engine: the other end of a real host's socket, with an instance of its own.

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const http = require('node:http')
const os = require('node:os')
const path = require('node:path')
const { Wire } = require('../lib/wire')

class Engine {
    constructor(test) {
        this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'sluice-plugins-'))
        fs.mkdirSync(path.join(this.directory, 'config'))
        fs.mkdirSync(path.join(this.directory, 'plugins'))
        this.list = []
        this.logs = []
        this.other = []
        this.waiting = new Map()
        this.contents = new Map() // by question
        this.returned = new Map()
        this.reads = 0
        this.wakers = []
        this.lastCall = 0
        test.after(() => {
            if (this.child) this.child.kill('SIGKILL')
            fs.rmSync(this.directory, { recursive: true, force: true })
        })
    }

    config(name, text) {
        fs.writeFileSync(path.join(this.directory, 'config', name), text)
        return this
    }

    // A legacy plugin of the instance, which is also listed.
    plugin(name, source) {
        const file = path.join(this.directory, 'plugins', `${name}.js`)
        fs.mkdirSync(path.dirname(file), { recursive: true })
        fs.writeFileSync(file, source)
        this.list.push(name)
        return this
    }

    package(name, source) {
        const folder = path.join(this.directory, 'node_modules', `haraka-plugin-${name}`)
        fs.mkdirSync(folder, { recursive: true })
        fs.writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ name: `haraka-plugin-${name}`, main: 'index.js' }))
        fs.writeFileSync(path.join(folder, 'index.js'), source)
        this.list.push(name)
        return this
    }

    async start({ watched = false, ...hello } = {}) {
        this.config('plugins', this.list.join('\n') + '\n')
        const host = path.join(__dirname, '..', 'index.js')
        const stdio = ['ignore', 'inherit', 'inherit', 'pipe']
        this.child = spawn(process.execPath, [host, this.directory, ...(watched ? ['4'] : [])], { stdio: watched ? [...stdio, 'pipe'] : stdio })
        this.notes = ''
        if (watched) this.child.stdio[4].on('data', (data) => { this.notes += data; this.wake() })
        this.exited = new Promise((resolve) => this.child.on('exit', (code, signal) => resolve({ code, signal })))
        this.wire = new Wire(this.child.stdio[3])
        this.wire.on('message', (message) => this.take(message))
        this.wire.on('octets', (id, octets, last) => this.takeOctets(id, octets, last))
        this.wire.on('closed', () => this.wake())
        this.wire.send({ t: 'hello', directory: this.directory, native: [], addresses: 'auto', log_level: 7, ...hello })
        this.ready = await this.expect((message) => message.t === 'ready')
        return this
    }

    async restart() {
        this.child.kill('SIGKILL')
        await this.exited
        return this.start()
    }

    take(message) {
        if (message.t === 'answer') this.waiting.get(message.id)(message)
        else if (message.t === 'read' && message.question) this.lend(message)
        else if (message.t === 'log') this.logs.push(message)
        else this.other.push(message)
        this.wake()
    }

    // Of messages that plugins hand in, or of those that they were asked about.
    takeOctets(id, octets, last) {
        const injection = this.other.find((message) => message.t === 'inject' && message.id === id)
        if (!injection) return this.returned.set(id, Buffer.concat([this.returned.get(id) || Buffer.alloc(0), octets]))
        injection.content = Buffer.concat([injection.content || Buffer.alloc(0), octets])
        injection.complete = last
        this.wake()
    }

    injection() {
        return this.expect((message) => message.t === 'inject' && message.complete)
    }

    // Takes the next one, as the message of this id.
    async accept(message) {
        const injection = await this.injection()
        this.wire.send({ t: 'named', id: injection.id, message, items: 1 })
        this.wire.send({ t: 'injected', id: injection.id, code: 'ok', text: message })
        return injection
    }

    lend({ id, question }) {
        this.reads += 1
        this.wire.sendOctets(id, this.contents.get(question), true)
    }

    wake() {
        for (const waker of this.wakers.splice(0)) waker()
    }

    // The first message, other than answers and log lines, that `wanted` accepts.
    async expect(wanted) {
        for (;;) {
            const at = this.other.findIndex(wanted)
            if (at !== -1) return this.other.splice(at, 1)[0]
            if (this.wire.socket.destroyed) throw new Error('the host has gone')
            await this.change()
        }
    }

    async logged(pattern) {
        for (;;) {
            const line = this.logs.find(({ text }) => pattern.test(text))
            if (line) return line
            await this.change()
        }
    }

    // What the lookout wrote, once `enough` of it is there.
    async noted(enough) {
        while (!enough(this.notes)) await this.change()
        return this.notes
    }

    change() {
        return new Promise((resolve) => this.wakers.push(resolve))
    }

    // A client's session, as the engine asks about it.
    session(client = {}) {
        return new Session(this, client)
    }

    call(point, item = {}, told = {}) {
        const id = ++this.lastCall
        return new Promise((resolve) => {
            this.waiting.set(id, resolve)
            this.wire.send({ t: 'hook', id, point, item: itemOf(item), ...told })
        })
    }
}

class Session {
    constructor(engine, client) {
        this.engine = engine
        this.begun = false
        this.client = {
            uuid: 'SESSION', ip: '192.0.2.7', port: 40000, local_ip: '192.0.2.1', local_port: 25, helo: 'client.test',
            esmtp: true, relaying: false, auth_user: '', errors: 0, ...client,
        }
        this.tx = { number: 1, mail_from: '<from@here.test>', rcpt_to: [] }
    }

    async ask(point, told = {}) {
        const id = ++this.engine.lastCall
        const message = { t: 'session', id, point, client: this.client, begun: this.begun, ...told }
        const answer = new Promise((resolve) => this.engine.waiting.set(id, resolve))
        if (told.content) {
            const at = told.content.indexOf('\r\n\r\n') + 4
            this.engine.contents.set(id, Buffer.from(told.content))
            Object.assign(message, {
                content: undefined, header: Buffer.from(told.content.slice(0, at)).toString('base64'),
                size: told.content.length, message: 'MESSAGE',
            })
        }
        this.engine.wire.send(message)
        this.begun = true
        const { t, id: _, ...found } = await answer
        const returned = this.engine.returned.get(id)
        return returned ? { ...found, returned: String(returned) } : found
    }

    tell(point, told = {}) {
        this.engine.wire.send({ t: 'session', point, client: this.client, begun: this.begun, ...told })
    }

    mail(params = {}) {
        return this.ask('mail', { tx: this.tx, params })
    }

    rcpt(address, told = {}) {
        return this.ask('rcpt', { tx: this.tx, rcpt: address, params: {}, permitted: false, ...told })
    }

    content(text, told = {}) {
        return this.ask('content', { tx: this.tx, content: text, keeps: false, ...told })
    }
}

function itemOf(changes) {
    const id = changes.id || '0ABCDEFGHJKMN.1'
    return {
        id, message: id.slice(0, id.indexOf('.')), items: 1, attempts: 0, arrival: 1_795_000_000_000, now: 1_795_000_001_000,
        size: 1000, domain: 'there.test', mail_from: '<from@here.test>', rcpt_to: ['<one@there.test>'], places: [0],
        notes: {}, ...changes,
    }
}

const ITEM = (id, state) => ({
    id, message: id.split('.')[0], state, domain: 'there.test', sender: 'a@here.test', recipients: ['b@there.test'],
    arrival: '2026-11-21T12:00:00Z', next: '2026-11-21T12:30:00Z', attempts: 1, size: 100, priority: 4,
})

// A control API that knows two items and remembers what it was told.
async function controlOf(t, engine) {
    const orders = []
    fs.mkdirSync(path.join(engine.directory, 'run'))
    const items = [ITEM('0MESSAGE00001.1', 'scheduled'), ITEM('0MESSAGE00002.1', 'ready')]
    const server = http.createServer((request, response) => {
        const url = new URL(request.url, 'http://x')
        let body = ''
        request.on('data', (piece) => { body += piece }).on('end', () => {
            if (request.method === 'POST') {
                orders.push([url.pathname, JSON.parse(body)])
                return response.end('{"items":1}')
            }
            if (url.pathname === '/v1/status') return response.end('{"queue":{"scheduled":7,"ready":2,"sending":3,"held":1}}')
            const state = url.searchParams.get('state')
            const first = url.searchParams.get('cursor') === null
            if (state) return response.end(JSON.stringify({ items: items.filter((item) => item.state === state) }))
            response.end(JSON.stringify(first ? { items: [items[0]], cursor: 'more' } : { items: [items[1]] }))
        })
    })
    await new Promise((resolve) => server.listen(path.join(engine.directory, 'run', 'control.sock'), resolve))
    t.after(() => server.close())
    return orders
}

module.exports = { Engine, controlOf, itemOf }
