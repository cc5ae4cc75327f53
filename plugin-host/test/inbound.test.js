'use strict'
// The hooks of mail in: real hosts, a mock engine.

const assert = require('node:assert')
const { test } = require('node:test')
const { Engine } = require('./support')

const MESSAGE = 'Subject: hello\r\nFrom: a@here.test\r\n\r\nfirst\r\n.dot\r\n'

async function started(t, source, name = 'only') {
    return new Engine(t).plugin(name, source).start()
}

for (const [port, ini, hasTls] of [[25, '', false], [465, '', true], [465, 'smtps_port=4465\n', false], [4465, 'smtps_port=4465\n', true]]) {
    test(`the server is the listener on port ${port}${ini && `, with ${ini.trim()}`}`, async (t) => {
        const engine = new Engine(t).config('smtp.ini', ini)
        await engine.plugin('only', `exports.hook_noop = function (next, { server: listener }) {
            listener.notes.seen = true
            next(DENY, JSON.stringify([listener.address(), listener.has_tls, server.notes.seen, listener.cluster === undefined]))
        }`).start()
        const { text } = await engine.session({ local_port: port }).ask('noop')
        assert.deepStrictEqual(JSON.parse(text[0]), [{ address: '192.0.2.1', port, family: 'IPv4' }, hasTls, true, true])
    })
}

test('what plugins answer to each hook', async (t) => {
    const engine = await started(t, `
        const answer = (hook) => (next, connection, params) => {
            const wanted = connection.notes.wanted || {}
            if (wanted[hook]) return next(...wanted[hook])
            next()
        }
        exports.hook_unrecognized_command = (next, connection, params) => {
            connection.notes.wanted = JSON.parse(params[1])
            next(OK)
        }
        for (const hook of ['connect', 'ehlo', 'mail', 'rcpt', 'rcpt_ok', 'data', 'data_post', 'queue', 'queue_outbound', 'vrfy',
            'noop', 'quit', 'max_data_exceeded']) exports['hook_' + hook] = answer(hook)`)
    const session = engine.session()
    const dsn = { code: 550, reply: '5.1.1 nobody' }
    const table = [
        ['opening', { connect: [904, 'away'] }, { what: 'deny', disconnect: true, text: ['away'] }],
        ['opening', { connect: [905] }, { what: 'deny', disconnect: true }],
        ['opening', {}, { what: 'cont' }],
        ['mail', { mail: [902, 'no'] }, { what: 'deny', text: ['no'] }],
        ['mail', { mail: [903] }, { what: 'denysoft' }],
        ['mail', { mail: [909, ['two', 'lines']] }, { what: 'denysoft', disconnect: true, text: ['two', 'lines'] }],
        ['mail', { mail: [906] }, { what: 'ok' }],
        ['rcpt', {}, { what: 'cont' }],
        ['rcpt', { rcpt: [902, dsn] }, { what: 'deny', code: 550, text: ['5.1.1 nobody'] }],
        ['rcpt', { rcpt: [906, 'fine'] }, { what: 'ok', text: ['fine'] }],
        ['rcpt', { rcpt: [906], rcpt_ok: [903, 'later'] }, { what: 'denysoft', text: ['later'] }],
        ['data', { data: [902] }, { what: 'deny' }],
        ['oversize', { max_data_exceeded: [903] }, { what: 'denysoft' }],
        ['vrfy', { vrfy: [906, 'him'] }, { what: 'ok', text: ['him'] }],
        ['noop', { noop: [902] }, { what: 'deny' }],
        ['quit', { quit: [906, 'bye'] }, { what: 'ok', text: ['bye'] }],
    ]
    for (const [point, wanted, expected] of table) {
        await session.ask('command', { params: ['WANT', JSON.stringify(wanted)] })
        const told = point === 'mail' ? { tx: session.tx, params: {} }
            : point === 'rcpt' ? { tx: session.tx, rcpt: '<one@there.test>', params: {}, permitted: false } : {}
        const { by, ...found } = await session.ask(point, told)
        assert.deepEqual(found, expected, `${point} ${JSON.stringify(wanted)}`)
        assert.equal(by, expected.what === 'cont' ? undefined : 'only')
    }
})

test('who is taken as a recipient: a plugin says so, the client relays, or the engine takes the domain', async (t) => {
    const engine = await started(t, `
        exports.hook_rcpt = (next, connection, [rcpt]) => next(rcpt.user === 'plugin' ? OK : CONT)
        exports.hook_mail = (next, connection, [from]) => {
            if (from.user === 'relays') connection.relaying = true
            next()
        }`)
    const session = engine.session()
    assert.equal((await session.rcpt('<stranger@there.test>')).what, 'cont')
    assert.equal((await session.rcpt('<plugin@there.test>')).what, 'ok')
    assert.equal((await session.rcpt('<stranger@there.test>', { permitted: true })).what, 'ok')
    session.client.relaying = true
    assert.equal((await session.rcpt('<stranger@there.test>')).what, 'ok')
    session.client.relaying = false
    session.tx = { number: 2, mail_from: '<relays@here.test>', rcpt_to: [] }
    assert.deepEqual(await session.mail(), { what: 'cont', tx_relaying: true })
    session.tx.relaying = true
    assert.equal((await session.rcpt('<stranger@there.test>')).what, 'ok')
    // Of that transaction only.
    session.tx = { number: 3, mail_from: '<other@here.test>', rcpt_to: [] }
    assert.equal((await session.rcpt('<stranger@there.test>')).what, 'cont')
})

test('content that nobody touches is not sent anywhere', async (t) => {
    const engine = await started(t, "exports.hook_data_post = (next, connection) => next()")
    const session = engine.session({ relaying: true })
    const answer = await session.content(MESSAGE)
    // No Date and no Message-Id: those are added, the body stays where it is.
    assert.equal(answer.what, 'cont')
    assert.equal(answer.changed, 'header')
    assert.match(answer.returned, /^Subject: hello\r\nFrom: a@here.test\r\nMessage-Id: <SESSION.1@.*>\r\nDate: .*\r\n\r\n$/)
    const complete = 'Message-Id: <1@a>\r\nDate: now\r\n' + MESSAGE
    session.tx = { ...session.tx, number: 2 }
    assert.deepEqual(await session.content(complete), { what: 'cont' })
    assert.equal(engine.reads, 0)
})

test('header, body, envelope and notes that plugins change go back', async (t) => {
    const engine = await started(t, `
        exports.hook_data = (next, connection) => {
            connection.transaction.set_banner('Regards')
            next()
        }
        exports.hook_data_post = (next, connection) => {
            const { transaction } = connection
            transaction.add_leading_header('X-Seen', transaction.header.get('subject').trim())
            transaction.notes.campaign = 'spring'
            transaction.rcpt_to.pop()
            next()
        }`)
    const session = engine.session({ relaying: true })
    await session.rcpt('<one@there.test>')
    await session.rcpt('<two@there.test>')
    await session.ask('data', { tx: session.tx })
    const answer = await session.content(`Message-Id: <1@a>\r\nDate: now\r\n${MESSAGE}`)
    assert.deepEqual(answer.rcpt_to, ['<one@there.test>'])
    assert.deepEqual(JSON.parse(answer.notes), { campaign: 'spring' })
    assert.equal(answer.changed, 'all')
    assert.match(answer.returned, /^X-Seen: hello\r\nMessage-Id: <1@a>\r\nDate: now\r\nSubject: hello\r\nFrom: a@here.test\r\n\r\n/)
    assert.match(answer.returned, /first\r\n\.dot\r\n[^]*Regards\r\n/)
})

test('a plugin that reads the content gets it once, and takes the message over', async (t) => {
    const engine = await started(t, `
        exports.hook_queue = (next, connection) => {
            connection.transaction.message_stream.get_data((octets) => {
                connection.transaction.message_stream.get_data((again) => {
                    next(OK, octets.equals(again) ? 'taken: ' + octets.length : 'differs')
                })
            })
        }
        exports.hook_queue_ok = (next, connection, text) => {
            connection.loginfo(this, 'queue_ok ' + text)
            next()
        }`)
    const session = engine.session()
    const answer = await session.content(MESSAGE)
    assert.deepEqual(answer, { what: 'ok', by: 'only', text: [`taken: ${MESSAGE.length} (SESSION.1)`] })
    assert.equal(engine.reads, 1)
    await engine.logged(/queue_ok taken/)
})

test('a failure of the last word is temporary, elsewhere the next plugin is asked', async (t) => {
    const engine = await new Engine(t)
        .config('plugin_timeout', '1')
        .plugin('fails', `
            exports.hook_mail = () => { throw new Error('thrown') }
            exports.hook_rcpt = async () => { throw new Error('rejected') }
            exports.hook_data = () => {}
            exports.hook_data_post = async (next, connection) => { throw new Error('rejected') }`)
        .plugin('second', 'exports.hook_rcpt = (next) => next(OK)')
        .start()
    const session = engine.session({ relaying: true })
    assert.equal((await session.mail()).what, 'cont')
    assert.equal((await session.rcpt('<one@there.test>')).by, 'second')
    assert.deepEqual(await session.ask('data', { tx: session.tx }), { what: 'denysoft', by: 'fails', code: 451, text: ['plugin timeout'] })
    assert.deepEqual(await session.content(MESSAGE), { what: 'denysoft', by: 'fails', code: 451, text: ['plugin failure'] })
})

test('a session that the host does not know is not decided about', async (t) => {
    const engine = await started(t, 'exports.hook_mail = (next) => next(OK)')
    const session = engine.session()
    session.begun = true
    assert.deepEqual(await session.mail(), { what: 'lost' })
})

test('capabilities, AUTH by a plugin, and what the engine learns of it', async (t) => {
    const engine = await started(t, `
        exports.hook_capabilities = (next, connection) => {
            connection.capabilities.push('AUTH PLAIN', 'XTHING', 'SIZE 1')
            next()
        }
        exports.hook_unrecognized_command = (next, connection, params) => {
            if (params[0] === 'AUTH') return connection.respond(334, 'VXNlcm5hbWU6', () => next(OK))
            connection.relaying = true
            connection.notes.auth_user = 'me@here.test'
            connection.respond(235, '2.7.0 fine', () => next(OK))
        }`)
    const session = engine.session()
    const hello = await session.ask('hello', { lines: ['mx.test Hello', 'PIPELINING', 'SIZE 1000'] })
    assert.deepEqual(hello.lines, ['mx.test Hello', 'PIPELINING', 'SIZE 1000', 'AUTH PLAIN', 'XTHING'])
    const more = await session.ask('command', { params: ['AUTH', 'LOGIN'] })
    assert.deepEqual([more.said, more.more], [[{ code: 334, lines: ['VXNlcm5hbWU6'] }], true])
    const done = await session.ask('command', { params: ['bWU='] })
    assert.deepEqual(done.said, [{ code: 235, lines: ['2.7.0 fine'] }])
    assert.deepEqual([done.relaying, done.auth_user], [true, 'me@here.test'])
})

test('who has logged in with the engine is known to plugins, until that is forgotten', async (t) => {
    const engine = await started(t, 'exports.hook_noop = (next, connection) => next(DENY, String(connection.notes.auth_user))')
    const session = engine.session()
    assert.deepEqual((await session.ask('noop')).text, ['undefined'])
    session.client = { ...session.client, auth_user: 'me@here.test', relaying: true }
    const known = await session.ask('noop')
    assert.deepEqual([known.text, known.auth_user, known.relaying], [['me@here.test'], undefined, undefined])
    session.client = { ...session.client, auth_user: '', relaying: false }
    assert.deepEqual((await session.ask('noop')).text, ['undefined'])
})

test('reset and disconnect are heard in order, and the session is forgotten', async (t) => {
    const engine = await started(t, `
        exports.hook_reset_transaction = (next, connection) => setTimeout(() => {
            connection.loginfo(exports, 'reset ' + connection.transaction.uuid)
            next()
        }, 50)
        exports.hook_disconnect = (next, connection) => {
            connection.loginfo(exports, 'gone ' + String(connection.transaction))
            next()
        }`)
    const session = engine.session()
    await session.mail()
    session.tell('left')
    await engine.logged(/gone null/)
    assert.deepEqual(engine.logs.map(({ text }) => text).filter((text) => /^(reset|gone)/.test(text)), ['reset SESSION.1', 'gone null'])
    assert.deepEqual(await session.mail(), { what: 'lost' })
})
