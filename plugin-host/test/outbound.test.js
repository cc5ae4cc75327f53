'use strict'
// What plugins may do outside of a hook's answer: hand in mail, and look at the queue.

const assert = require('node:assert')
const path = require('node:path')
const { test } = require('node:test')
const { Engine, controlOf } = require('./support')

// A plugin that sends at its first hook, and notes what it is told.
const SENDER = (call) => `
    const outbound = require('./outbound')
    exports.hook_send_email = function (next, hmail) {
        const told = (...what) => { hmail.todo.notes.told = what.map(String); next() }
        ${call}
    }`
const HEAD = 'From: a@here.test\\nMessage-Id: <x@here.test>\\nDate: Sat, 21 Nov 2026 12:00:00 +0000\\n'
const SENT = 'From: a@here.test\r\nMessage-Id: <x@here.test>\r\nDate: Sat, 21 Nov 2026 12:00:00 +0000\r\n'

const CONTENTS = {
    'a string with LF': [`'${HEAD}\\nHello\\n.dot\\n'`, 'Hello\r\n.dot\r\n'],
    'a string with CRLF': [`'${HEAD}\\nHello\\n'.replace(/\\n/g, '\\r\\n')`, 'Hello\r\n'],
    'a string whose last line does not end (A13)': [`'${HEAD}\\nHello\\nlast'`, 'Hello\r\nlast\r\n'],
    'a string with other letters': [`'${HEAD}\\nGrüße\\n'`, 'Grüße\r\n'],
    'a Buffer (A12)': [`Buffer.from('${HEAD}\\nHello\\n..two\\n')`, 'Hello\r\n..two\r\n'],
    'octets that are no text': [`Buffer.concat([Buffer.from('${HEAD}\\n'), Buffer.from([0xff, 0xfe, 0x0a])])`, Buffer.from([0xff, 0xfe, 0x0d, 0x0a])],
    'a Readable': [`require('stream').Readable.from([Buffer.from('${HEAD}\\nHel'), Buffer.from('lo\\n.d'), Buffer.from('ot')])`, 'Hello\r\n.dot\r\n'],
    'an async generator': [`(async function* () { yield '${HEAD}\\r'; yield '\\nHello'; yield Buffer.from('\\r\\n') })()`, 'Hello\r\n'],
    'an array of pieces': [`['${HEAD}', '\\n', 'Hello']`, 'Hello\r\n'],
    'nothing but a header': [`'${HEAD}'`, ''],
}
for (const [name, [contents, body]] of Object.entries(CONTENTS)) {
    test(`send_email: ${name}`, async (t) => {
        const engine = new Engine(t)
        await engine.plugin('only', SENDER(`outbound.send_email('a@here.test', 'b@there.test', ${contents}, told)`)).start()
        const asked = engine.call('attempt')
        const sent = await engine.accept('0MESSAGE00001')
        assert.deepStrictEqual(sent.content.toString('latin1'), Buffer.concat([Buffer.from(`${SENT}\r\n`), Buffer.from(body)]).toString('latin1'))
        assert.deepStrictEqual([sent.from, sent.to, sent.origin], ['a@here.test', ['b@there.test'], 'outbound'])
        assert.deepStrictEqual(JSON.parse((await asked).image).notes.told, ['906', 'Message Queued (0MESSAGE00001)'])
    })
}

const OPTIONS = {
    'dot_stuffed': ["{ dot_stuffed: true }", /\r\n\r\nbody\r\n\.x\r\n$/],
    'remove_msgid': ['{ remove_msgid: true }', /^From: a@here\.test\r\nDate: .*\r\nMessage-Id: <[-0-9A-F.]+@.+>\r\n\r\n/i],
    'remove_date': ['{ remove_date: true }', /^From: a@here\.test\r\nMessage-Id: <x@here\.test>\r\nDate: (?!Sat, 21 Nov 2026 12:00:00).*\r\n\r\n/],
    'none': ['null', /\r\n\r\nbody\r\n\.\.x\r\n$/],
}
for (const [name, [options, expected]] of Object.entries(OPTIONS)) {
    test(`send_email: option ${name}`, async (t) => {
        const engine = new Engine(t)
        await engine.plugin('only', SENDER(`outbound.send_email('<>', ['b@there.test', 'c@there.test'], '${HEAD}\\nbody\\n..x\\n', told, ${options})`)).start()
        engine.call('attempt')
        const sent = await engine.accept('0MESSAGE00001')
        assert.match(sent.content.toString(), expected)
        assert.deepStrictEqual([sent.from, sent.to], ['', ['b@there.test', 'c@there.test']])
    })
}

const REFUSED = {
    'a sender that is none': ["'a b@c d'", "'b@there.test'", "'x'", /902,Malformed from address \(a b@c d\)/],
    'a recipient that is none': ["'a@here.test'", "['b@there.test', 'nobody at all']", "'x'", /902,Malformed to address \(nobody at all\)/],
    'no recipient': ["'a@here.test'", '[]', "'x'", /902,No recipients/],
    'a sender that is missing': ['undefined', "'b@there.test'", "'x'", /902,Malformed from address \(undefined\)/],
    'contents that are none': ["'a@here.test'", "'b@there.test'", '42', /902,Contents are no string/],
    'contents that give none': ["'a@here.test'", "'b@there.test'", '[{}]', /902,Contents give what is no octets/],
    'a stream that breaks': ["'a@here.test'", "'b@there.test'", "(async function* () { yield 'x'; throw new Error('broken pipe') })()", /903,broken pipe/],
    'too much': ["'a@here.test'", "'b@there.test'", "(function* () { for (;;) yield 'x'.repeat(99) + '\\\\n' })()", /902,Message is larger than 20000 octets/],
}
for (const [name, [from, to, contents, expected]] of Object.entries(REFUSED)) {
    test(`send_email refuses ${name}`, async (t) => {
        const engine = new Engine(t).config('connection.ini', '[max]\nbytes=20000\n')
        await engine.plugin('only', SENDER(`outbound.send_email(${from}, ${to}, ${contents.replace('\\\\n', '\\n')}, told)
            outbound.send_email(${from}, ${to}, 'no callback, no contents')`)).start()
        assert.match(JSON.parse((await engine.call('attempt')).image).notes.told.join(','), expected)
    })
}

test('lookup_mx, which Haraka had, for plugins that ask DNS themselves', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `
        const { lookup_mx } = require('./outbound')
        require('haraka-net-utils').get_mx = async (domain) => {
            if (domain === 'bad.test') throw new Error('SERVFAIL')
            return [{ exchange: 'mx.' + domain, priority: 10 }]
        }
        exports.hook_get_mx = function (next, hmail, domain) {
            lookup_mx('bad.test', (error) => lookup_mx(domain, async (none, hosts) => {
                const promised = await this.haraka_require('outbound/mx_lookup').lookup_mx(domain)
                for (const mx of hosts) mx.bind = '192.0.2.1'
                hmail.todo.notes.told = [error.message, String(none), promised.length]
                next(OK, hosts)
            }))
        }`).start()
    const answer = await engine.call('attempt')
    assert.deepStrictEqual(answer.mx, [{ host: 'mx.there.test', bind: '192.0.2.1' }])
    assert.deepStrictEqual(JSON.parse(answer.image).notes.told, ['SERVFAIL', 'null', 1])
})

test('the engine may refuse, and a callback may throw', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', SENDER(`outbound.send_email('a@here.test', 'b@there.test', 'x', (code, text) => {
        hmail.todo.notes.told = [code, text]
        next()
        throw new Error('thrown in the callback')
    })`)).start()
    for (const [code, number] of [['deny', 902], ['denysoft', 903]]) {
        const asked = engine.call('attempt', { id: `0ABCDEFGHJKM${number}.1` })
        const { id } = await engine.injection()
        engine.wire.send({ t: 'injected', id, code, text: 'not today' })
        assert.deepStrictEqual(JSON.parse((await asked).image).notes.told, [number, 'not today'])
    }
    await engine.logged(/callback of send_email failed: Error: thrown in the callback/)
})

test('pre_send_trans_email sees and changes what is sent, and its answer counts for nothing', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `${SENDER(`outbound.send_email('a@here.test', 'b@there.test', '${HEAD}\\nbody\\n', told, { notes: { campaign: 7 } })`)}
        exports.hook_pre_send_trans_email = function (next, connection) {
            const { transaction } = connection
            transaction.add_header('X-Seen', [transaction.header.get('Message-Id').trim(), transaction.notes.skip_plugins.length,
                transaction.notes.campaign, transaction.mail_from, transaction.rcpt_to.length, typeof connection.loginfo].join(' '))
            transaction.results.add(this, { pass: 'signed' })
            transaction.message_stream.get_data((data) => {
                transaction.add_leading_header('X-Size', String(data.length))
                transaction.notes.live = () => 'alive'
                next(DENY, 'no')
            })
        }`).start()
    engine.call('attempt')
    const sent = await engine.accept('0MESSAGE00001')
    assert.match(sent.content.toString(), /^X-Size: \d+\r\nFrom: a@here.test\r\n[\s\S]*X-Seen: <x@here.test> 0 7 <a@here.test> 1 function\r\n\r\nbody\r\n$/)
    assert.strictEqual(sent.notes.campaign, 7)
})

test('the live notes of what plugins send are those of its items', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `const outbound = require('./outbound')
        exports.hook_send_email = function (next, hmail) {
            if (hmail.notes.alive) { hmail.todo.notes.told = hmail.notes.alive(); return next() }
            outbound.send_email('a@here.test', 'b@there.test', 'x', () => next(), { notes: { alive: () => 'yes' } })
        }`).start()
    const asked = engine.call('attempt')
    await engine.accept('0MESSAGE00001')
    await asked
    assert.strictEqual(JSON.parse((await engine.call('attempt', { id: '0MESSAGE00001.1' })).image).notes.told, 'yes')
})

test('as many as plugins like, a bounded number at a time, none lost', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', SENDER(`
        let count = 0
        for (let i = 0; i < 500; ++i) {
            outbound.send_email('a@here.test', 'b@there.test', 'Subject: ' + i + '\\n\\n' + 'x'.repeat(1000), (code) => {
                if (code === OK && ++count === 500) told(count)
            })
        }`)).start()
    const asked = engine.call('attempt')
    const subjects = new Set()
    let most = 0
    for (let i = 0; i < 500; ++i) {
        most = Math.max(most, engine.other.filter(({ t: type }) => type === 'inject').length)
        const { content } = await engine.accept(`0MESSAGE0${i}`)
        subjects.add(/Subject: (\d+)/.exec(content.toString())[1])
    }
    assert.strictEqual(subjects.size, 500)
    assert.ok(most <= 32, `${most} at once`)
    assert.deepStrictEqual(JSON.parse((await asked).image).notes.told, ['500'])
})

// ---- the queue -----------------------------------------------------------------------------------------------------

const asked = async (engine) => JSON.parse((await engine.call('attempt')).image).notes.told

test('the queue as plugins look at it', async (t) => {
    const engine = new Engine(t)
    const orders = await controlOf(t, engine)
    await engine.plugin('only', `const outbound = require('./outbound')
        exports.hook_send_email = async function (next, hmail) {
            const list = await outbound.list_queue()
            hmail.todo.notes.told = [
                outbound.get_stats(), outbound.delivery_queue.length(), outbound.temp_fail_queue.length(),
                outbound.delivery_queue.tasks.map((one) => one.file), outbound.temp_fail_queue.queue.map((one) => [one.id, one.fire_time]),
                list.map((todo) => [todo.file, todo.uuid, todo.domain, String(todo.mail_from), todo.rcpt_to.map(String), todo.queue_time]),
                (await outbound.stat_queue()).queue_count, (await outbound.stat_queue()).queue_count, outbound.stats().queue_dir,
            ]
            await outbound.flush_queue('there.test')
            outbound.temp_fail_queue.queue.splice(0, 1)[0].cb()
            outbound.temp_fail_queue.discard('0MESSAGE00001.1')
            outbound.temp_fail_queue.add('mine', 1, () => next())
        }`).start()
    const arrival = Date.parse('2026-11-21T12:00:00Z')
    const todo = (id) => [id, id, 'there.test', '<a@here.test>', ['<b@there.test>'], arrival]
    assert.deepStrictEqual(await asked(engine), [
        '3/5/7', 5, 7, ['0MESSAGE00002.1'], [['0MESSAGE00001.1', Date.parse('2026-11-21T12:30:00Z')]],
        [todo('0MESSAGE00001.1'), todo('0MESSAGE00002.1')], 13, 26, path.join(engine.directory, 'queue'),
    ])
    while (orders.length < 3) await new Promise((resolve) => setTimeout(resolve, 5))
    assert.deepStrictEqual(orders.sort(), [
        ['/v1/queue/delete', { item: '0MESSAGE00001.1' }], ['/v1/queue/flush', { domain: 'there.test' }],
        ['/v1/queue/flush', { item: '0MESSAGE00001.1' }],
    ])
})

test('an engine that does not answer keeps nobody waiting', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_send_email = function (next, hmail) {
        const outbound = this.haraka_require('outbound')
        outbound.list_queue().catch((error) => {
            hmail.todo.notes.told = [outbound.get_stats(), outbound.delivery_queue.tasks.length, error.code]
            next()
        })
    }`).start()
    assert.deepStrictEqual(await asked(engine), ['0/0/0', 0, 'ENOENT'])
})
