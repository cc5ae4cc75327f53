'use strict'
// What plugins change of an item's envelope, and what the engine is told of it.

const assert = require('node:assert')
const { test } = require('node:test')
const { Engine } = require('./support')

const THREE = { rcpt_to: ['<one@there.test>', '<two@there.test>', '<three@there.test>'], places: [4, 7, 9] }

const ADDRESS = `const { Address } = require('@haraka/email-address')`
const EDITS = {
    'nothing': ['', undefined],
    'the sender, replaced': ["todo.mail_from = new Address('<srs@us.test>')", { mail_from: '<srs@us.test>' }],
    'the sender, as a text': ["todo.mail_from = 'srs@us.test'", { mail_from: '<srs@us.test>' }],
    'the sender, removed': ["todo.mail_from = new Address('<>')", { mail_from: '<>' }],
    'the sender, edited': ["todo.mail_from.user = 'other'", { mail_from: '<other@here.test>' }],
    'a sender that is none': ['todo.mail_from = 42', undefined],
    'a recipient, replaced': ["todo.rcpt_to[1] = new Address('<new@there.test>')", { rcpt: [{ place: 7, to: '<new@there.test>' }] }],
    'a recipient, edited': ["todo.rcpt_to[2].host = 'elsewhere.test'", { rcpt: [{ place: 9, to: '<three@elsewhere.test>' }] }],
    'a recipient, removed': ['todo.rcpt_to.splice(0, 1)', { removed: [{ place: 4, by: 'only' }] }],
    'all recipients, removed': ['todo.rcpt_to = []', { removed: [4, 7, 9].map((place) => ({ place, by: 'only' })) }],
    'a recipient, added': ["todo.rcpt_to.push(new Address('<four@there.test>'))", { added: ['<four@there.test>'], by: 'only' }],
    'a recipient, added as a text': ["todo.rcpt_to.push('<four@there.test>')", { added: ['<four@there.test>'], by: 'only' }],
    'one for three': [
        "todo.rcpt_to = [new Address('<all@there.test>')]",
        { rcpt: [{ place: 4, to: '<all@there.test>' }], removed: [7, 9].map((place) => ({ place, by: 'only' })) },
    ],
    'another order': ['todo.rcpt_to.reverse()', undefined],
    'the same addresses as other objects': ['todo.rcpt_to = todo.rcpt_to.slice(1).map((one) => new Address(one.format()))', { removed: [{ place: 4, by: 'only' }] }],
    'one twice': ['todo.rcpt_to.push(todo.rcpt_to[0])', undefined],
    'something that is no address': ['todo.rcpt_to.push(42, null)', undefined],
    'no array': ['todo.rcpt_to = "a@b.test"', undefined],
}
for (const [name, [change, expected]] of Object.entries(EDITS)) {
    test(`changed: ${name}`, async (t) => {
        const engine = new Engine(t)
        await engine.plugin('only', `${ADDRESS}; exports.hook_get_mx = function (next, { todo }) { ${change}; next() }`).start()
        const answer = await engine.call('attempt', THREE)
        assert.deepStrictEqual(answer.edits, expected)
        assert.strictEqual(answer.what, 'go')
    })
}

test('each plugin answers for what it removed', async (t) => {
    const engine = new Engine(t)
    const remover = (at) => `exports.hook_send_email = (next, { todo }) => { todo.rcpt_to.splice(${at}, 1); next() }`
    await engine.plugin('first', remover(1)).plugin('second', remover(0)).start()
    const { edits } = await engine.call('attempt', THREE)
    assert.deepStrictEqual(edits, { removed: [{ place: 4, by: 'second' }, { place: 7, by: 'first' }] })
})

test('what the engine has taken is told once, what it has not is told again', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_send_email = (next, { todo }) => {
        if (todo.notes.done) return next()
        todo.notes.done = true
        todo.rcpt_to[0].user = 'new'
        todo.mail_from.user = 'srs'
        next()
    }`).start()
    const expected = { mail_from: '<srs@here.test>', rcpt: [{ place: 0, to: '<new@there.test>' }] }
    assert.deepStrictEqual((await engine.call('attempt')).edits, expected)
    assert.deepStrictEqual((await engine.call('attempt')).edits, expected)
    const taken = { mail_from: '<srs@here.test>', rcpt_to: ['<new@there.test>'] }
    assert.strictEqual((await engine.call('attempt', taken)).edits, undefined)
    await engine.restart()
    assert.strictEqual((await engine.call('attempt', { ...taken, image: '{"notes":{"done":true}}' })).edits, undefined)
})

test('recipients that could not be added are added at the next attempt', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_send_email = (next, { todo }) => {
        if (!todo.notes.done) todo.rcpt_to.push('<four@there.test>')
        todo.notes.done = true
        next()
    }`).start()
    assert.deepStrictEqual((await engine.call('attempt')).edits.added, ['<four@there.test>'])
    assert.strictEqual((await engine.call('attempt')).edits, undefined)
    engine.wire.send({ t: 'unkept', item: '0ABCDEFGHJKMN.1', added: ['<four@there.test>'] })
    assert.deepStrictEqual((await engine.call('attempt')).edits.added, ['<four@there.test>'])
})

test('after a failure only those who failed are seen and changed', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_deferred = (next, { todo }) => {
        todo.notes.seen = todo.rcpt_to.map(String)
        todo.rcpt_to.shift()
        todo.rcpt_to[0].user = 'again'
        next()
    }
    exports.hook_bounce = (next, { todo }) => { todo.rcpt_to = []; next() }`).start()
    const told = { of: [1, 2], delay: 60, reason: 'later' }
    const answer = await engine.call('deferred', THREE, told)
    assert.deepStrictEqual(JSON.parse(answer.image).notes.seen, ['<two@there.test>', '<three@there.test>'])
    assert.deepStrictEqual(answer.edits, { rcpt: [{ place: 9, to: '<again@there.test>' }], removed: [{ place: 7, by: 'only' }] })
    assert.strictEqual((await engine.call('bounce', THREE, { ...told, reason: 'never' })).edits, undefined)
})

test('another domain is another route, also after a restart', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_send_email = (next, { todo }) => { if (todo.domain === 'there.test') todo.domain = 'gate.test'; next() }
        exports.hook_get_mx = (next, { todo }, domain) => { todo.notes.asked = domain; next() }`).start()
    const first = await engine.call('attempt')
    assert.strictEqual(first.terms.domain, 'gate.test')
    assert.strictEqual(JSON.parse(first.image).notes.asked, 'gate.test')
    await engine.restart()
    assert.strictEqual((await engine.call('attempt', { image: first.image })).terms.domain, 'gate.test')
})

const METHODS = {
    'bounce': ["hmail.bounce('not this one')", { what: 'deny', text: 'not this one', by: 'only' }],
    'bounce with an Error': ["hmail.bounce(new Error('not this one'), {})", { what: 'deny', text: 'not this one', by: 'only' }],
    'temp_fail': ["hmail.temp_fail('later')", { what: 'denysoft', text: 'later', by: 'only' }],
    'discard': ['hmail.discard()', { what: 'go', edits: { removed: [{ place: 0, by: 'only' }] }, by: 'only' }],
    'delivered': ["hmail.delivered('192.0.2.1', 25, 'SMTP', 'mx.test', 'ok', [], [], [], false, false)", { what: 'go', edits: { removed: [{ place: 0, by: 'only' }] }, by: 'only' }],
}
for (const hook of ['send_email', 'get_mx']) {
    for (const [name, [call, expected]] of Object.entries(METHODS)) {
        for (const [how, body] of [['at once', call], ['later', `setTimeout(() => { ${call} }, 1)`]]) {
            test(`hmail.${name} in ${hook} instead of an answer, ${how}`, async (t) => {
                const engine = new Engine(t).config('plugin_timeout', '0.2')
                await engine.plugin('only', `exports.hook_${hook} = function (next, hmail) { ${body} }`)
                    .plugin('other', `exports.hook_${hook} = function (next) { this.logwarn('asked nevertheless'); next() }`).start()
                const { t: _, id, image, ...answer } = await engine.call('attempt')
                assert.deepStrictEqual(answer, expected)
                await new Promise((resolve) => setTimeout(resolve, 300))
                assert.deepStrictEqual(engine.logs, [])
            })
        }
    }
}

test('methods of an item outside of an attempt change nothing', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', `exports.hook_deferred = function (next, hmail) { hmail.discard(); hmail.bounce('no'); next() }`).start()
    const answer = await engine.call('deferred', THREE, { of: [0], delay: 60, reason: 'later' })
    assert.deepStrictEqual([answer.what, answer.edits], ['default', undefined])
    await engine.logged(/bounce\(\) is for plugins that are asked about an attempt/)
})

test('hmail has what plugins look for', async (t) => {
    const engine = new Engine(t).config('tls.ini', '[outbound]\nforce_tls_hosts[]=secure.test\nforce_tls_hosts[]=192.0.2.0/24\n')
    await engine.plugin('only', `exports.hook_send_email = async function (next, hmail) {
        let octets = ''
        for await (const piece of hmail.data_stream()) octets += piece
        hmail.todo.notes.told = [hmail.name, hmail.filename, hmail.path.endsWith(hmail.filename), hmail.num_failures, hmail.file_size,
            hmail.data_start, hmail.refcount, hmail.bounce_error, typeof hmail.next_cb, typeof hmail.on, hmail.domain, hmail.uuid, hmail.file,
            hmail.get_force_tls({ exchange: 'plain.test' }), hmail.get_force_tls({ exchange: '192.0.2.7' }),
            hmail.get_force_tls({ exchange: '198.51.100.1', from_dns: 'secure.test' }), octets]
        hmail.todo.notes.cyclic = typeof JSON.stringify(hmail.todo)
        next()
    }`).start()
    const asked = engine.call('attempt', { attempts: 3 })
    const read = await engine.expect((message) => message.t === 'read')
    engine.wire.sendOctets(read.id, Buffer.from('Subject: x\r\n\r\n'), true)
    const { notes } = JSON.parse((await asked).image)
    const id = '0ABCDEFGHJKMN.1'
    assert.deepStrictEqual(notes.told, [
        'outbound', id, true, 3, 1000, 0, 1, null, 'function', 'function', 'there.test', id, id, false, true, true, 'Subject: x\r\n\r\n'])
    assert.strictEqual(notes.cyclic, 'string')
})
