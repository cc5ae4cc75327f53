'use strict'
// What plugins do with notifications: have them told, write others, look at them.

const assert = require('node:assert')
const { PassThrough } = require('node:stream')
const { test } = require('node:test')
const { NOTIFICATION_MS_MAX, tellOtherwise } = require('../lib/notification')
const { Engine } = require('./support')

const OURS = 'Subject: failure notice\r\nMessage-Id: <n@us.test>\r\n\r\nGr\u00fc\u00dfe\r\n.dot\r\n'
const ITEM = { attempts: 1, dsn: [{ action: 'failed', code: 550, status: '5.1.1', response: 'no', mta: '192.0.2.9', local: false }] }
const TOLD = { of: [0], reason: '550 5.1.1 no', partial: false, notifies: true }
const ORIGINAL = 'From: from@here.test\r\nSubject: folded\r\n  one\r\n\r\nSubject: body\r\n'

// Asks about a bounce; the message itself is there to be read.
async function bounce(engine, told = TOLD) {
    const id = engine.lastCall + 1
    engine.contents.set(id, Buffer.from(OURS))
    const asked = engine.call('bounce', ITEM, told)
    const reading = engine.expect(({ t, item }) => t === 'read' && item).then(
        (read) => engine.wire.sendOctets(read.id, Buffer.from(ORIGINAL), true), () => {})
    const answer = await asked
    return { reading, answer, written: engine.returned.get(id)?.toString() }
}

test('nobody who writes one: nothing is sent back', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', 'exports.hook_bounce = (next) => next()').start()
    const { answer, written } = await bounce(engine)
    assert.deepStrictEqual([answer.what, answer.changed, written, engine.reads], ['default', undefined, undefined, 0])
})

test('it can be looked at while the hook is asked', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_bounce = function (next, hmail, error) {
        const { mail_from } = hmail.todo
        hmail.populate_bounce_message(null, mail_from, error, (failed, lines) => { hmail.todo.notes.lines = [failed, lines]; next() })
    }
    exports.hook_deferred = function (next, hmail) {
        hmail.populate_bounce_message(null, null, 'x', (failed) => { hmail.todo.notes.failed = failed.message; next() })
    }`).start()
    const { answer } = await bounce(engine)
    assert.deepStrictEqual(JSON.parse(answer.image).notes.lines, [null, OURS.match(/[^\n]*\n/g)])
    const later = engine.call('deferred', ITEM, { of: [0], reason: '450 later', partial: false, delay: 60 })
    const read = await engine.expect(({ t, item }) => t === 'read' && item)
    engine.wire.sendOctets(read.id, Buffer.from(ORIGINAL), true)
    assert.match(JSON.parse((await later).image).notes.failed, /while the `bounce` hook is asked/)
})

const WRITERS = {
    'of one item': `exports.hook_bounce = function (next, hmail) {
        hmail.populate_bounce_message = function (from, to, reason, cb) {
            cb(null, ['Subject: mine\\n', '\\n', [from.format(), to.format(), reason.message, this === hmail].join(' '), '\\n', '.dot\\n'])
        }
        next()
    }`,
    'of all items, without listening to anything': `exports.register = function () {
        const { HMailItem } = this.haraka_require('outbound')
        HMailItem.prototype.populate_bounce_message = async function (from, to, reason, cb) {
            cb(null, 'Subject: mine\\r\\n\\r\\n' + [from.format(), to.format(), reason.message, this.todo.rcpt_to.length === 1].join(' ') + '\\r\\n.dot')
        }
    }`,
}
for (const [name, source] of Object.entries(WRITERS)) {
    test(`a plugin writes the notification ${name}`, async (t) => {
        const engine = new Engine(t)
        await engine.plugin('only', source).start()
        assert.ok(engine.ready.hooks.bounce >= 30_000 && engine.ready.places.bounce.length === 1)
        const { answer, written } = await bounce(engine)
        assert.deepStrictEqual([answer.what, answer.changed], ['default', 'all'])
        assert.match(written, /^Subject: mine\r\nMessage-Id: <.+@.+>\r\nDate: .+\r\n\r\n<> <from@here\.test> 550 5\.1\.1 no true\r\n\.dot\r\n$/)
        // Who is told nothing is told nothing.
        const silent = await bounce(engine, { ...TOLD, notifies: undefined })
        assert.deepStrictEqual([silent.answer.what, silent.answer.changed, silent.written], ['default', undefined, undefined])
    })
}

test('with the header of the original, and with what would be sent otherwise', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_bounce = function (next, hmail) {
        const usual = hmail.populate_bounce_message_with_headers
        hmail.populate_bounce_message_with_headers = function (from, to, reason, header, cb) {
            usual.call(this, from, to, reason, header, (error, lines) => {
                cb(error, ['X-Original: ' + header.get('subject').replace(/\\s+/g, ' ').trim() + '\\r\\n', ...lines])
            })
        }
        next()
    }`).start()
    const { written } = await bounce(engine)
    assert.match(written, /^X-Original: folded one\r\nSubject: failure notice\r\nMessage-Id: <n@us.test>\r\nDate: .+\r\n\r\nGrüße\r\n\.dot\r\n$/)
})

const BROKEN = {
    'an error': "cb(new Error('no words'))",
    'a throw': "throw new Error('no words')",
    'a rejection': "return Promise.reject(new Error('no words'))",
    'nothing': 'cb(null, [])',
    'what is no text': 'cb(null, [{}].concat)',
}
for (const [name, body] of Object.entries(BROKEN)) {
    test(`a writer that comes to ${name} leaves the sender with our words`, async (t) => {
        const engine = new Engine(t)
        await engine.plugin('only', `exports.hook_bounce = function (next, hmail) {
            hmail.populate_bounce_message = (from, to, reason, cb) => { ${body} }
            next()
        }`).start()
        const { answer, written } = await bounce(engine)
        assert.deepStrictEqual([answer.what, answer.changed, written], ['default', undefined, undefined])
        await engine.logged(/populate_bounce_message failed, and the usual notification is sent: .*(no words|nothing was written|Contents)/)
    })
}

test('a writer whose words never end is waited for no longer than one who does not answer', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const logged = new Promise((resolve) => {
        const outbound = { written: () => new Promise(() => {}) }
        const host = { makeAddress: () => ({ format: () => '<a@here.test>' }), core: { get: () => outbound } }
        const item = {
            todo: { mail_from: host.makeAddress() }, logerror: resolve,
            populate_bounce_message: (from, to, reason, cb) => cb(null, new PassThrough()),
        }
        tellOtherwise(host, item, { what: 'default' }, 1).then((changed) => assert.strictEqual(changed, undefined))
    })
    await new Promise(setImmediate)
    t.mock.timers.tick(NOTIFICATION_MS_MAX)
    assert.match(await logged, /no answer within 30 s/)
})

test('a callback that throws is not called again', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_deferred = function (next, hmail) {
        hmail.populate_bounce_message(null, null, 'x', (failed) => {
            this.logwarn('called with ' + failed.message)
            next()
            throw new Error('thrown by the callback')
        })
    }`).start()
    const later = engine.call('deferred', ITEM, { of: [0], reason: '450 later', partial: false, delay: 60 })
    const read = await engine.expect(({ t, item }) => t === 'read' && item)
    engine.wire.sendOctets(read.id, Buffer.from(ORIGINAL), true)
    await later
    await engine.logged(/unhandled rejection.*thrown by the callback/)
    assert.strictEqual(engine.logs.filter(({ text }) => /called with/.test(text)).length, 1)
})

test('who wants no notification writes none', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_bounce = function (next, hmail) {
        hmail.populate_bounce_message = (from, to, reason, cb) => cb(null, ['Subject: mine\\n'])
        next(OK)
    }`).start()
    const { answer, written } = await bounce(engine)
    assert.deepStrictEqual([answer.what, answer.changed, written], ['silent', undefined, undefined])
})
