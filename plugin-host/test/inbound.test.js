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
        ['quit', { quit: [904, 'stay'] }, { what: 'ok', text: ['stay'] }],
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

test('names of clients: what lookup_rdns says, and what it refuses', async (t) => {
    const engine = await started(t, `
        exports.hook_lookup_rdns = function (next, connection) {
            if (connection.remote.ip === '192.0.2.8') return next(DENY, 'no name, no mail')
            next(OK, connection.remote.ip === '192.0.2.9' ? undefined : 'client.named.test')
        }
        exports.hook_connect = (next, connection) => next(DENYSOFT, connection.remote.host + ' ' + connection.remote.info)`)
    const opened = async (ip) => {
        const { what, text } = await engine.session({ ip, uuid: ip }).ask('opening')
        return [what, ...text]
    }
    assert.deepEqual(await opened('192.0.2.7'), ['denysoft', 'client.named.test client.named.test'])
    assert.deepEqual(await opened('192.0.2.8'), ['deny', 'no name, no mail'])
    assert.deepEqual(await opened('192.0.2.9'), ['denysoft', 'Unknown Unknown'])
})

test('unknown commands: the words, and NEXT_HOOK', async (t) => {
    const engine = await started(t, `
        exports.register = function () { this.register_hook('hello_world', 'world') }
        exports.hook_unrecognized_command = (next, connection, [verb, rest]) => {
            if (verb === 'XHELLO') return next(NEXT_HOOK, 'hello_world')
            if (verb === 'XAWAY') return next(DENYDISCONNECT, rest + ' | ' + connection.current_line)
            next()
        }
        exports.world = (next, connection) => connection.respond(250, 'hello', () => next(OK))`)
    const session = engine.session()
    const hello = await session.ask('command', { params: ['XHELLO', ''] })
    assert.deepEqual([hello.what, hello.said], ['ok', [{ code: 250, lines: ['hello'] }]])
    const away = await session.ask('command', { params: ['XAWAY', 'with you'] })
    assert.deepEqual([away.what, away.disconnect, away.text], ['deny', true, ['with you | XAWAY with you']])
    assert.equal((await session.ask('command', { params: ['XOTHER', ''] })).what, 'cont')
})

test('RSET and what is too large are heard of with their transaction, and told of once', async (t) => {
    const engine = await started(t, `
        const say = (hook) => function (next, connection, params) {
            this.loginfo([hook, connection.transaction?.uuid, connection.transaction?.mail_from.host, params].join(' '), connection)
            next(DENY)
        }
        for (const hook of ['rset', 'reset_transaction', 'max_data_exceeded']) exports['hook_' + hook] = say(hook)`)
    const session = engine.session()
    await session.mail()
    assert.equal((await session.ask('oversize', { tx: session.tx })).what, 'deny')
    session.tell('rset')
    session.tell('reset')
    session.tell('reset')
    session.tell('left')
    await engine.logged(/^reset_transaction/)
    assert.equal((await session.ask('noop')).what, 'lost', 'all before has been done')
    const said = engine.logs.map(({ text }) => text).filter((text) => / SESSION/.test(text))
    assert.deepEqual(said, ['max_data_exceeded', 'rset', 'reset_transaction'].map((hook) => `${hook} SESSION.1 here.test `))
})

test('who does not answer VRFY, NOOP and QUIT, or fails there, has said nothing', async (t) => {
    for (const answer of ['() => {}', '() => { throw new Error("oh") }', 'async () => { throw new Error("oh") }']) {
        const engine = new Engine(t).config('plugin_timeout', '0.1')
        await engine.plugin('only', `for (const hook of ['vrfy', 'noop', 'quit']) exports['hook_' + hook] = ${answer}`).start()
        const session = engine.session()
        for (const point of ['vrfy', 'noop', 'quit']) assert.deepEqual(await session.ask(point), { what: 'cont' }, point + answer)
    }
})

test('a recipient is one address in all parts, and stays what plugins made of it', async (t) => {
    const engine = await started(t, `
        exports.hook_rcpt = (next, { transaction }, [rcpt]) => {
            if (rcpt.user === 'old') transaction.rcpt_to.splice(-1, 1, new rcpt.constructor('<new@there.test>'))
            else rcpt.user = rcpt.user + '-rewritten'
            rcpt.seen = (rcpt.seen || 0) + 1
            next()
        }
        exports.hook_rcpt_ok = (next, connection, rcpt) => next(OK, rcpt.seen + ' ' + rcpt.user)
        exports.hook_queue = (next, { transaction }) => {
            const { mail_from: from, queue } = transaction.results.get_all()
            transaction.notes.told = [transaction.rcpt_to.map((one) => one.format() + (one.seen || '')), from.action, queue === undefined]
            next()
        }
        exports.hook_mail = (next) => next()`)
    const session = engine.session()
    const { tx } = session
    const part = (point, hook, more = {}) => session.ask(point, { tx, part: { hook }, params: {}, ...more })
    await part('mail', 'mail')
    for (const user of ['a', 'old', 'a']) {
        const rcpt = `<${user}@there.test>`
        await part('rcpt', 'rcpt', { rcpt })
        const { text } = await part('rcpt', 'rcpt_ok', { rcpt })
        assert.deepEqual(text, [user === 'old' ? '1 old' : '1 a-rewritten'])
        session.tell('rcpt', { tx, part: { hook: 'rcpt_end', action: 'accept' }, rcpt })
    }
    const told = await part('content', 'queue', { content: MESSAGE, keeps: true })
    assert.deepEqual(JSON.parse(told.notes).told, [['<a-rewritten@there.test>1', '<new@there.test>', '<a-rewritten@there.test>1'], 'accept', true])
    assert.deepEqual(told.rcpt_to, ['<a-rewritten@there.test>', '<new@there.test>', '<a-rewritten@there.test>'])
})

test('a part of a hook, what native plugins add and note, and what they see', async (t) => {
    const engine = new Engine(t)
    for (const name of ['a', 'b']) {
        engine.plugin(name, `
            exports.hook_rcpt = (next, connection, [rcpt]) => next(rcpt.user === '${name}' ? DENY : CONT, '${name}')
            exports.hook_data_post = (next, { transaction }) => {
                transaction.notes.heard = [transaction.header.get('X-Native').trim(), transaction.rcpt_to.length, transaction.notes.native]
                transaction.add_header('X-${name}', 'yes')
                next()
            }`)
    }
    await engine.start({ order: ['a', 'b'] })
    const session = engine.session()
    const { tx } = session
    const part = (hook, span, more = {}) => ({ tx, part: { hook, span, ...more } })
    const rcpt = (user, span) => session.ask('rcpt', { ...part('rcpt', span), rcpt: `<${user}@there.test>`, params: {}, permitted: true })
    const first = [null, [0, 0.5]]
    const second = [[0, 0.5], null]
    assert.deepEqual(await rcpt('b', first), { what: 'cont', decided: false })
    assert.deepEqual(await rcpt('b', second), { what: 'deny', by: 'b', text: ['b'], decided: true })
    // The engine has the last word about who stays.
    session.tell('rcpt', { ...part('rcpt_end', undefined, { action: 'accept' }), rcpt: '<c@there.test>' })
    const content = { content: MESSAGE, keeps: true }
    const one = await session.ask('content', { ...part('data_post', first), ...content, noted: { native: 1 } })
    assert.deepEqual(JSON.parse(one.notes).heard, ['', 1, 1])
    assert.equal(one.changed, 'header')
    const added = [[false, 'X-Native', 'here']]
    const two = await session.ask('content', { ...part('data_post', second), ...content, added })
    assert.deepEqual(JSON.parse(two.notes).heard, ['here', 1, 1])
    const end = await session.ask('content', { ...part('kept'), ...content, added })
    assert.equal(end.changed, undefined, 'what the engine told is no change')
})
