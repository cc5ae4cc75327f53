'use strict'
// The tools of authors: a plugin in a host of its own.

const assert = require('node:assert')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { test } = require('node:test')
const { tryPlugin } = require('../testing')

function instance(t, plugins) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'sluice-instance-'))
    for (const folder of ['config', 'plugins']) fs.mkdirSync(path.join(directory, folder))
    for (const [name, source] of Object.entries(plugins)) fs.writeFileSync(path.join(directory, 'plugins', `${name}.js`), source)
    t.after(() => fs.rmSync(directory, { recursive: true }))
    return directory
}

function run(directory, ...args) {
    const done = spawnSync(process.execPath, [path.join(__dirname, '..', 'try.js'), directory, ...args], { encoding: 'utf8', timeout: 60_000 })
    return { code: done.status, out: done.stdout, err: done.stderr }
}

const ROUTES = `exports.register = function () { this.cfg = this.config.get('routes.ini'); this.register_hook('get_mx', 'route', -3) }
exports.route = function (next, hmail, domain) { this.lognotice('asked about ' + domain); next(OK, this.cfg.routes[domain]) }
exports.hook_bounce = (next) => next(OK)
exports.hook_rcpt = (next) => next()`

test('answers come as the engine gets them, with other configuration and the original left alone', async (t) => {
    const directory = instance(t, { routes: ROUTES })
    fs.writeFileSync(path.join(directory, 'config', 'routes.ini'), '[routes]\na.test=original.test\n')
    const plugin = await tryPlugin(t, { instance: directory, name: 'routes', config: { 'routes.ini': '[routes]\na.test=other.test:26\n' } })
    const answer = await plugin.ask('get_mx', { domain: 'a.test' })
    assert.deepStrictEqual(answer.mx, [{ host: 'other.test', port: 26 }])
    assert.ok(answer.logs.some(({ text }) => text === 'asked about a.test'))
    assert.strictEqual((await plugin.ask('bounce')).what, 'silent')
    assert.deepStrictEqual(plugin.hooks().others, [])
    await assert.rejects(plugin.ask('init_http'), /init_http cannot be rehearsed/)
    await assert.rejects(plugin.ask('data_post'), /data_post is not reached: routes has no such hook/)
})

test('in sentences first', (t) => {
    const directory = instance(t, { routes: ROUTES })
    fs.writeFileSync(path.join(directory, 'config', 'routes.ini'), '[routes]\na.test=mx.test\n')
    const { code, out, err } = run(directory, 'routes', '--item={"domain":"a.test"}')
    assert.strictEqual(code, 0, err)
    assert.match(out, /^routes: loaded from .*routes\.js, timeout 30 s$/m)
    assert.match(out, /^get_mx: the mail goes to mx\.test \(/m)
    assert.match(out, /^ {2}notice: asked about a\.test$/m)
    assert.match(out, /^bounce: the mail is given up, and nobody is told/m)
    assert.match(out, /^rcpt: CONT \(/m)
    const { answers } = JSON.parse(run(directory, 'routes', '--item={"domain":"a.test"}', '--hook=get_mx', '--json').out)
    assert.deepStrictEqual(Object.keys(answers), ['get_mx'])
    assert.strictEqual(answers.get_mx.mx[0].host, 'mx.test')
})

test('the exit code says what is wrong', (t) => {
    const directory = instance(t, {
        throws: 'exports.hook_get_mx = function () {\n    nothing()\n}',
        broken: '\n\nexports.x = {',
        loops: 'exports.hook_get_mx = function () { for (;;); }',
        asks: 'exports.hook_get_mx = async (next) => { await require("sluice").memory.incr("k").catch(() => {}); next() }',
    })
    const thrown = run(directory, 'throws')
    assert.deepStrictEqual([thrown.code, /throws\.js:2/.test(thrown.out), /threw or rejected/.test(thrown.out)], [1, true, true])
    const broken = run(directory, 'broken')
    assert.strictEqual(broken.code, 1)
    assert.match(broken.err, /plugins\/broken\.js:\d: SyntaxError/)
    assert.match(run(directory, 'absent').err, /neither in plugins\/ nor in node_modules/)
    assert.match(run(directory, 'asks').out, /asked the engine: POST \/v1\/memory\/increment \{"key":"k","by":1\}/)
    for (const args of [['asks', '--hook=nothing'], ['asks', '--item=[]'], ['asks', '--item={'], ['asks', '--colour=1'], []]) {
        assert.strictEqual(run(directory, ...args).code, 2, args.join(' '))
    }
    assert.strictEqual(run(directory, 'asks', '--hook=bounce').code, 1, 'it has no such hook')
    const loops = run(directory, 'loops')
    assert.strictEqual(loops.code, 1)
    assert.match(loops.err, /loops did not give way in get_mx/)
})

const GATE = `
exports.hook_connect = (next, connection) => next(connection.remote.ip === '192.0.2.66' ? DENYDISCONNECT : CONT, 'go away')
exports.hook_helo = exports.hook_ehlo = function (next, connection, name) { connection.notes.name = name; next() }
exports.hook_mail = (next, connection, [from]) => next(from.isNull() ? DENYSOFT : CONT, 'no bounces now')
exports.hook_rcpt = function (next, connection, [rcpt]) {
    this.loginfo('for ' + rcpt.user)
    next(rcpt.user === 'nobody' ? DENY : OK, rcpt.user === 'nobody' ? '5.1.1 no such user' : undefined)
}
exports.hook_data_post = function (next, connection) {
    const { transaction } = connection
    transaction.add_header('X-Gate', [connection.notes.name, connection.remote.host, connection.relaying, transaction.rcpt_to.length].join(' '))
    next()
}
exports.hook_queue = (next) => next(OK, 'kept')
exports.hook_queue_outbound = (next) => next()
exports.hook_pre_send_trans_email = function (next, connection) { connection.transaction.notes.signed = true; next() }
exports.hook_deny = (next, connection, [, text, , , , hook]) => { connection.logwarn(exports, hook + ' said ' + text); next() }
exports.hook_max_data_exceeded = (next) => next(DENY, 'less')
exports.hook_unrecognized_command = (next, connection, [verb]) => verb === 'XHELLO' ? connection.respond(250, 'hello', () => next(OK)) : next()
for (const hook of ['connect_init', 'capabilities', 'vrfy', 'noop', 'rset', 'quit', 'data', 'queue_ok', 'reset_transaction', 'disconnect', 'log']) {
    exports['hook_' + hook] = (next) => next()
}`

test('hooks of mail in are put in the order of a session, each with what it said', async (t) => {
    const plugin = await tryPlugin(t, { instance: instance(t, { gate: GATE }), name: 'gate' })
    const steps = await plugin.dialogue()
    const said = steps.flatMap(({ hooks }) => hooks.map(({ hook, said }) => `${hook} ${said}`))
    assert.deepStrictEqual(said, [
        'connect_init CONT', 'connect CONT', 'helo CONT', 'ehlo CONT', 'capabilities CONT', 'noop CONT', 'vrfy CONT', 'unrecognized_command CONT',
        // A message to us, then one that the client relays.
        'mail CONT', 'rcpt OK', 'data CONT', 'data_post CONT', 'queue OK', 'queue_ok CONT', 'reset_transaction CONT',
        'mail CONT', 'rcpt OK', 'data CONT', 'data_post CONT', 'queue_outbound CONT', 'pre_send_trans_email CONT', 'queue_ok CONT',
        'reset_transaction CONT', 'max_data_exceeded DENY', 'deny CONT', 'reset_transaction CONT', 'rset CONT', 'quit CONT',
        'reset_transaction CONT', 'disconnect CONT',
    ])
    const [toUs, relayed] = steps.filter(({ point }) => point === 'content')
    assert.deepStrictEqual([toUs.what, toUs.by, toUs.changed], ['ok', 'gate', undefined])
    assert.strictEqual(relayed.changed, 'header')
    assert.match(relayed.content, /\r\nX-Gate: client.here.test client.here.test true 1\r\n\r\nHello\.\r\n$/)
    assert.strictEqual(relayed.notes, '{"signed":true}')
    assert.ok(steps.find(({ point }) => point === 'rcpt').logs.some(({ text }) => text === 'for recipient'))
})

test('the client, its mail and what it may do are given; a refusal ends the session', async (t) => {
    const plugin = await tryPlugin(t, { instance: instance(t, { gate: GATE }), name: 'gate' })
    const refused = await plugin.dialogue({ ip: '192.0.2.66' })
    assert.deepStrictEqual(refused.map(({ point, refusal, disconnect }) => [point, refusal, disconnect]), [['opening', '554 go away', true]])
    await assert.rejects(plugin.ask('rcpt', { ip: '192.0.2.66' }), /rcpt is not reached: the client is refused before: 554 go away \(opening\)/)
    assert.strictEqual((await plugin.ask('rcpt', { ip: '192.0.2.66', skip_deny: true })).what, 'ok')
    assert.strictEqual((await plugin.ask('mail', { from: '' })).refusal, '450 no bounces now')
    const rcpt = await plugin.ask('rcpt', { to: ['nobody@here.test', 'one@here.test'] })
    assert.deepStrictEqual([rcpt.refusal, rcpt.hooks.map(({ hook }) => hook)], ['550 5.1.1 no such user', ['rcpt', 'deny']])
    const options = { to: ['nobody@a.test', 'one@a.test', 'two@a.test'], relaying: true, helo: 'old.test', message: 'Subject: x\n\nlines\n', user: 'me' }
    const content = await plugin.ask('queue_outbound', options)
    assert.strictEqual(content.content, 'Subject: x\r\nX-Gate: old.test client.here.test true 2\r\nMessage-Id: ' +
        `${/Message-Id: (.*)/.exec(content.content)[1]}\r\nDate: ${/Date: (.*)/.exec(content.content)[1]}\r\n\r\nlines\r\n`)
    await assert.rejects(plugin.ask('queue', { relaying: true }), /queue is not reached/)
    const [hello] = (await plugin.ask('unrecognized_command', { command: 'XHELLO you' })).said
    assert.deepStrictEqual(hello, { code: 250, lines: ['hello'] })
})

test('deny is put though nobody denies', async (t) => {
    const pardon = "exports.hook_deny = (next, connection, [code, , , , , hook]) => next(code === DENY && hook === 'mail' ? OK : CONT)"
    const plugin = await tryPlugin(t, { instance: instance(t, { pardon }), name: 'pardon' })
    assert.deepStrictEqual((await plugin.ask('deny')).hooks.map(({ hook, said }) => [hook, said]), [['deny', 'OK']])
})

test('sluice plugin test: mail in, with the options of haraka -t', (t) => {
    const directory = instance(t, { gate: GATE })
    const file = path.join(directory, 'mail.eml')
    fs.writeFileSync(file, 'Subject: from a file\n\nbody\n')
    const all = run(directory, 'gate')
    assert.strictEqual(all.code, 0, all.err)
    for (const line of [
        /^connect: CONT/m, /^rcpt: OK \(/m, /^ {2}info: for recipient$/m, /^queue: OK kept \(/m, /^ {2}the plugin has taken the message$/m,
        /^ {2}the message is changed: the header$/m, /^ {2}notes: \{"signed":true\}$/m, /^deny: CONT/m, /^ {2}warn: max_data_exceeded said less$/m,
        /^max_data_exceeded: DENY less/m, /^ {2}the client is refused: 550 less$/m, /^log: CONT/m, /^disconnect: CONT/m,
    ]) assert.match(all.out, line)
    const one = run(directory, 'gate', '--hook=queue_outbound', '--set-relay', '--envrcpt=<a@b.test>', '--ehlo=me.test', `--message=${file}`, '--dump-stream')
    assert.strictEqual(one.code, 0, one.err)
    assert.match(one.out, /^queue_outbound: CONT/m)
    assert.doesNotMatch(one.out, /^(rcpt|data_post):/m)
    assert.match(one.out, /^Subject: from a file\nX-Gate: me.test client.here.test true 1\n/m)
    const denied = run(directory, 'gate', '--ip=192.0.2.66', '--hook=data_post')
    assert.deepStrictEqual([denied.code, /^data_post: not reached; --skip-deny/m.test(denied.out)], [1, true])
    assert.strictEqual(run(directory, 'gate', '--ip=192.0.2.66', '--hook=data_post', '--skip-deny').code, 0)
    const json = JSON.parse(run(directory, 'gate', '--envrcpt=nobody@b.test', '--json').out)
    assert.deepStrictEqual(json.unreached.sort(), ['data', 'data_post', 'queue', 'queue_outbound', 'pre_send_trans_email', 'queue_ok'].sort())
    assert.strictEqual(json.session.find(({ point }) => point === 'rcpt').refusal, '550 5.1.1 no such user')
    for (const args of [['--ip=somewhere'], ['--helo=a', '--ehlo=b'], ['--message=/nowhere'], ['--hook=init_http']]) {
        assert.strictEqual(run(directory, 'gate', ...args).code, 2, args.join(' '))
    }
})
