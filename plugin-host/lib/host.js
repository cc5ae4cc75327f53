'use strict'
// Everything together: the plugins on one side, the engine's socket on the other.

const path = require('node:path')
const { PassThrough } = require('node:stream')
const config = require('haraka-config')
const constants = require('haraka-constants')
const Notes = require('haraka-notes')
const { addressMaker, chooseGeneration } = require('./addresses')
const { runHook } = require('./chain')
const { replyOf } = require('./connection')
const { Sessions } = require('./inbound')
const { HMailItem, Items } = require('./items')
const { Logger, textOf } = require('./logger')
const { Lookout } = require('./lookout')
const { Metrics } = require('./metrics')
const { CONSTANTS } = require('./plugin')
const { coreModules } = require('./core')
const { Injector } = require('./injector')
const { NOTIFICATION_MS_MAX, isReplaced, tellOtherwise } = require('./notification')
const { LogHook } = require('./log_hook')
const { CALLED, EDITING, OWN, POINTS } = require('./points')
const { Registry } = require('./registry')
const { Requests, install } = require('./sluice')
const { HOOKS: WEB_HOOKS, Web } = require('./web')

const LAST_PLACE = [100, Number.MAX_SAFE_INTEGER] // priority and number of a plugin

class Host {
    // `descriptor` is where the lookout's notes go.
    constructor(wire, descriptor) {
        this.wire = wire
        const warn = (plugin, text) => this.logger.log(this.logger.LOGWARN, [text], { origin: plugin })
        this.metrics = new Metrics((message) => wire.send(message), new Lookout(descriptor), warn)
        this.requests = new Requests(wire)
        this.reads = new Map() // request -> stream
        this.lastRead = 0
        this.injector = new Injector(wire)
        this.logger = new Logger((line) => this.logHook.offer(line))
        const listeners = () => (this.registry ? this.registry.of('log') : [])
        this.logHook = new LogHook(this.logger, listeners, (line) => wire.send({ t: 'log', ...line }))
        wire.on('message', (message) => this.receive(message))
        wire.on('octets', (request, octets, last) => this.takeOctets(request, octets, last))
    }

    // What fails is the trouble of this message, not of the wire: the engine waits for an answer no longer than it has to.
    receive(message) {
        try {
            this.take(message)
        } catch (error) {
            this.logger.logcrit(`${message.t}: ${textOf(error)}`)
        }
    }

    take(message) {
        switch (message.t) {
            case 'hello': return void this.start(message)
            case 'hook': return void this.answer(message)
            case 'named': return this.injector.named(message)
            case 'injected': return this.injector.injected(message)
            case 'divided': return this.items.divided(message.item, message.message)
            case 'unkept': return this.items.unkept(message.item, message.added)
            case 'level': return void (this.logger.level = message.level)
            case 'line': return this.logHook.hear(message)
            case 'session': return this.sessions.take(message)
            case 'ended': return message.items.forEach((id) => this.items.ended(id))
            case 'ping': return this.wire.send({ t: 'pong', n: message.n })
            case 'response': return this.requests.take(message)
            case 'unread': return this.endRead(message.id, new Error(message.reason))
            case 'shutdown': return void this.shutdown()
        }
    }

    async start(hello) {
        this.directory = hello.directory
        this.queueFolder = path.join(hello.directory, 'queue') + path.sep
        this.logger.level = hello.log_level
        this.generation = chooseGeneration(hello.addresses, hello.directory)
        this.makeAddress = addressMaker(this.generation)
        this.items = new Items(this)
        this.sessions = new Sessions(this)
        this.server = { notes: new Notes(), cfg: config.get('smtp.ini'), cluster: undefined }
        this.logger.addTo(this.server, () => ({ origin: 'server' }))
        this.core = coreModules(this)
        this.registry = new Registry(this)
        this.registry.order = hello.order || []
        this.rehearsal = hello.rehearsal // { name }: what clients are called there, without asking DNS
        if (hello.rehearsal) this.registry.witness = this.logHook.witness = (...heard) => this.bearWitness(...heard)
        this.metrics.budgets.configure(hello.budgets, hello.resting)
        // Packages use them without asking.
        Object.assign(globalThis, CONSTANTS, { server: this.server })
        this.metrics.start()
        install(this.requests, (file) => this.metrics.ownerOf(file))
        await this.registry.loadAll(hello.native, hello.only)
        await runHook(this.registry, this.logger, 'init_master', this.server, [], { refused: (answer) => this.refuse(answer) })
        if (hello.web) await this.serve(hello.web)
        this.wire.send(this.ready())
        this.isReady = true
    }

    async serve(place) {
        const web = new Web(this, place)
        if (await web.start()) this.web = web
    }

    // Said at once: a plugin that never ends to load says nothing any more.
    loads(plugin) {
        this.wire.send({ t: 'loading', plugin })
        this.wire.flush()
    }

    // A plugin has registered a hook after it was loaded, in a callback perhaps: the engine is told once more who listens.
    listened() {
        if (!this.isReady || this.retelling) return
        this.retelling = setImmediate(() => {
            this.retelling = undefined
            this.wire.send(this.ready())
        })
    }

    // A plugin does not want to start, which ends a Haraka. Here it is one that does not load; the others begin without it.
    refuse({ plugin, code, msg }) {
        if (this.registry.leftOut.has(plugin)) return
        const why = msg ? `: ${replyOf(msg, 0).lines.join(' ')}` : ''
        this.registry.leaveOut(plugin, { reason: `init_master answered ${constants.translate(code)}${why} (${this.metrics.homeOf(plugin)})` })
    }

    // In rehearsals: what each listener answered.
    bearWitness(hook, { plugin }, { code, msg, timedOut, failed }, ms) {
        const said = timedOut ? 'timeout' : failed ? 'failure' : constants.translate(code)
        this.wire.send({ t: 'heard', hook, plugin: plugin.name, said, text: replyOf(msg, 0).lines, ms: Math.round(ms * 10) / 10 })
    }

    ready() {
        const hooks = {}
        const places = {}
        const uncalled = []
        for (const hook of this.registry.listeners.keys()) {
            if (!this.registry.has(hook) || OWN.includes(hook) || this.web && WEB_HOOKS.includes(hook)) continue
            if (CALLED.includes(hook)) {
                hooks[hook] = this.registry.patience(hook)
                places[hook] = this.registry.of(hook).map((listener) => this.registry.placeOf(listener))
            } else {
                for (const { plugin } of this.registry.of(hook)) uncalled.push({ hook, plugin: plugin.name })
            }
        }
        // Whoever writes notifications need not listen to anything.
        if (isReplaced(HMailItem.prototype) && hooks.bounce !== null) {
            hooks.bounce = (hooks.bounce || 0) + NOTIFICATION_MS_MAX
            places.bounce = places.bounce || [LAST_PLACE]
        }
        const { plugins, failed, broken } = this.registry
        return { t: 'ready', plugins: plugins.map(({ name }) => name), hooks, places, uncalled, failed, broken, roster: this.registry.describe() }
    }

    async answer({ id, point, item: given, noted, ...told }) {
        let answer
        let image
        try {
            const item = this.items.get(given)
            if (noted) item.learn(noted) // by native plugins
            noteDsn(item, given)
            if (told.of && point !== 'delivered') item.show(told.of, given)
            if (point === 'attempt') item.takeBack()
            item.question = told.notifies ? id : undefined
            const unguard = EDITING.includes(point) ? undefined : item.envelope.guard(item.todo)
            answer = await POINTS[point](this, item, told)
            if (unguard) unguard()
            if (told.notifies) answer.changed = await tellOtherwise(this, item, answer, id)
            if (EDITING.includes(point)) answer.edits = item.edits()
            image = item.changedImage()
        } catch (error) {
            this.logger.logcrit(`${point} of ${given.id}: ${textOf(error)}`)
            this.items.renew(given.id)
            answer = { what: 'failed', text: messageOf(error) }
        }
        if (id !== undefined) this.sendAnswer(id, { ...answer, image }, (text) => ({ what: 'failed', text }))
    }

    // What cannot be sent is answered with what `otherwise` makes of the reason.
    sendAnswer(id, answer, otherwise) {
        try {
            this.wire.send({ t: 'answer', id, ...answer })
        } catch (error) {
            this.logger.logcrit(`an answer cannot be sent: ${textOf(error)}`)
            this.wire.send({ t: 'answer', id, ...otherwise(messageOf(error)) })
        }
    }

    readMessage(itemId) {
        const stream = new PassThrough()
        const id = ++this.lastRead
        this.reads.set(id, stream)
        this.wire.send({ t: 'read', id, item: itemId })
        return stream
    }

    // The content of the message that a question is about.
    async fetchContent(question) {
        const stream = new PassThrough()
        const id = ++this.lastRead
        this.reads.set(id, stream)
        this.wire.send({ t: 'read', id, question })
        const pieces = []
        for await (const piece of stream) pieces.push(piece)
        return Buffer.concat(pieces)
    }

    takeOctets(request, octets, last) {
        const stream = this.reads.get(request)
        if (!stream) return
        stream.write(octets)
        if (last) this.endRead(request)
    }

    endRead(request, error) {
        const stream = this.reads.get(request)
        this.reads.delete(request)
        if (stream && error) stream.destroy(error)
        else if (stream) stream.end()
    }

    async shutdown() {
        if (this.web) this.web.close()
        for (const plugin of this.registry ? this.registry.plugins : []) {
            try {
                if (typeof plugin.shutdown === 'function') await plugin.shutdown()
            } catch (error) {
                this.logger.log(this.logger.LOGERROR, [`shutdown failed: ${textOf(error)}`], { origin: plugin.name })
            }
        }
        this.logHook.flush()
        this.metrics.report()
        this.wire.flush()
        this.wire.socket.end(() => process.exit(0))
    }
}

// Plugins throw anything, nothing too.
function messageOf(error) {
    return String(error?.message ?? error)
}

// What decided each recipient in the last attempt, under the names that Haraka gives it.
function noteDsn(item, given) {
    if (!given.dsn) return
    given.dsn.forEach((dsn, at) => {
        if (!dsn) return
        const address = item.envelope.recipients.get(given.places[at])
        address.dsn_action = dsn.action
        address.dsn_status = dsn.status
        if (dsn.local) {
            address.dsn_code = dsn.code
            address.dsn_msg = dsn.response
        } else {
            address.dsn_smtp_code = dsn.code
            address.dsn_smtp_extc = dsn.status
            address.dsn_smtp_response = dsn.response
            address.dsn_remote_mta = dsn.mta
        }
        if (dsn.action !== 'delivered') address.reason = `${dsn.code} ${dsn.status} ${dsn.response}`
    })
}

module.exports = { Host }
