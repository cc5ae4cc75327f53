'use strict'
// Every answer that a plugin can give to the hooks of outbound mail, and what the engine is told then.

const assert = require('node:assert')
const { test } = require('node:test')
const { Engine } = require('./support')

const QUICK = { 'plugin_timeout': '0.2' }

// The answer to `point` when the only plugin's `hook` has this body.
async function answerOf(t, hook, body, point = 'attempt', told = {}) {
    const engine = new Engine(t).config('plugin_timeout', QUICK.plugin_timeout)
    await engine.plugin('only', `exports.hook_${hook} = ${body}`).start()
    const { t: _, id, ...answer } = await engine.call(point, {}, told)
    return { answer, engine }
}

const GET_MX = {
    'a name': ['next(OK, "MX.example.test")', { mx: [{ host: 'mx.example.test' }] }],
    'name and port': ['next(OK, "mx.example.test:2525")', { mx: [{ host: 'mx.example.test', port: 2525 }] }],
    'address and port': ['next(OK, "127.0.0.1:2525")', { mx: [{ host: '127.0.0.1', port: 2525 }] }],
    'IPv6': ['next(OK, "::1")', { mx: [{ host: '::1' }] }],
    'bracketed IPv6 and port': ['next(OK, "[::1]:2525")', { mx: [{ host: '::1', port: 2525 }] }],
    'a URL with a login': [
        'next(OK, "smtp://user:pass@mx.example.test:587")',
        { mx: [{ host: 'mx.example.test', port: 587, user: 'user', password: 'pass' }] },
    ],
    'a URL with an address of IPv6': ['next(OK, "lmtp://[::1]:2525")', { mx: [{ host: '::1', port: 2525, lmtp: true }] }],
    'a URL with a login that needs encoding': [
        'next(OK, "smtp://me%40here.test:a%2Fb%3A@mx.example.test")', { mx: [{ host: 'mx.example.test', user: 'me@here.test', password: 'a/b:' }] },
    ],
    'a URL with a percent sign in the password': [
        'next(OK, "smtp://me:100%@mx.example.test")', { mx: [{ host: 'mx.example.test', user: 'me', password: '100%' }] },
    ],
    'an object with a percent sign in the password': [
        'next(OK, { exchange: "a.test", auth_user: "me", auth_pass: "%41" })', { mx: [{ host: 'a.test', user: 'me', password: '%41' }] },
    ],
    'a login without a password': ['next(OK, { exchange: "a.test", auth_user: "me", auth_type: "plain" })', { mx: [{ host: 'a.test' }] }],
    'LMTP': ['next(OK, "lmtp://mx.example.test:24")', { mx: [{ host: 'mx.example.test', port: 24, lmtp: true }] }],
    'an object': [
        'next(OK, { exchange: "mx.example.test", priority: 0, port: null, bind: "192.0.2.1", bind_helo: "us.test", using_lmtp: true, other: 1 })',
        { mx: [{ host: 'mx.example.test', bind: '192.0.2.1', helo: 'us.test', lmtp: true }] },
    ],
    'a socket': ['next(OK, { path: "/run/lmtp", using_lmtp: true })', { mx: [{ path: '/run/lmtp', lmtp: true }] }],
    'a list': ['next(OK, ["b.test", { exchange: "a.test" }])', { mx: [{ host: 'b.test' }, { host: 'a.test' }] }],
    'a HarakaMx': [
        'next(OK, new (require("haraka-net-utils").HarakaMx)("mx.example.test:26"))', { mx: [{ host: 'mx.example.test', port: 26 }] }],
    'the main section of an ini file': ['next(OK, { exchange: "mx.example.test", port: "25" })', { mx: [{ host: 'mx.example.test', port: 25 }] }],
    'nothing': ['next()', {}],
    'CONT': ['next(CONT)', {}],
    'OK with nothing': ['next(OK)', { what: 'denysoft' }],
    'OK with an empty list': ['next(OK, [])', { what: 'denysoft' }],
    'OK with a number': ['next(OK, 42)', { what: 'denysoft' }],
    'OK with a port that is none': ['next(OK, { exchange: "a.test", port: "smtp" })', { what: 'denysoft' }],
    'DENY': ['next(DENY, "never")', { what: 'deny', text: 'never', by: 'only' }],
    'DENYDISCONNECT': ['next(DENYDISCONNECT)', { what: 'deny', text: 'no route', by: 'only' }],
    'DENYSOFT': ['next(DENYSOFT, ["not", "now"])', { what: 'denysoft', text: 'not now', by: 'only' }],
    'DENYSOFTDISCONNECT': ['next(DENYSOFTDISCONNECT, new Error("later"))', { what: 'denysoft', text: 'later', by: 'only' }],
    'throw': ['throw new Error("boom")', {}],
    'reject': ['return Promise.reject(new Error("boom"))', {}],
    'no answer': ['', { what: 'denysoft', text: 'plugin timeout', by: 'only' }],
    'two answers': ['next(OK, "a.test"); next(DENY)', { mx: [{ host: 'a.test' }] }],
    'an answer and a throw': ['next(OK, "a.test"); throw new Error("boom")', { mx: [{ host: 'a.test' }] }],
}
for (const [name, [body, expected]] of Object.entries(GET_MX)) {
    test(`get_mx: ${name}`, async (t) => {
        const { answer } = await answerOf(t, 'get_mx', `function (next, hmail, domain) { ${body} }`)
        assert.strictEqual(answer.what, expected.what ?? 'go')
        assert.deepStrictEqual(answer.mx, expected.mx)
        if (expected.text) assert.strictEqual(answer.text, expected.text)
        if (answer.what !== 'go') assert.strictEqual(answer.by, 'only')
    })
}

const SEND_EMAIL = {
    'DELAY': ['next(DELAY, 30)', { what: 'delay', seconds: 30, by: 'only' }],
    'DELAY as text': ['next(DELAY, "30")', { what: 'delay', seconds: 30, by: 'only' }],
    'DELAY without a number': ['next(DELAY)', { what: 'go', terms: {} }],
    'DELAY into the past': ['next(DELAY, -5)', { what: 'go', terms: {} }],
    'DELAY for next to nothing': ['next(DELAY, 1e-9)', { what: 'delay', seconds: 1, by: 'only' }],
    'DENY changes nothing': ['next(DENY)', { what: 'go', terms: {} }],
    'throw': ['throw "a text"', { what: 'go', terms: {} }],
    'reject': ['return Promise.reject()', { what: 'go', terms: {} }],
    'no answer': ['', { what: 'go', terms: {} }],
    'the todo asks for TLS': ['hmail.todo.force_tls = true; next()', { what: 'go', terms: { force_tls: true } }],
    'notes name the local address': [
        'hmail.todo.notes.outbound_ip = "192.0.2.1"; hmail.todo.notes.outbound_helo = "us.test"; next()',
        { what: 'go', terms: { bind: '192.0.2.1', helo: 'us.test' } },
    ],
}
for (const [name, [body, expected]] of Object.entries(SEND_EMAIL)) {
    test(`send_email: ${name}`, async (t) => {
        const { answer } = await answerOf(t, 'send_email', `function (next, hmail) { ${body} }`)
        delete answer.image
        assert.deepStrictEqual(answer, expected)
    })
}

const DEFERRED = {
    'CONT': ['next()', { what: 'default' }],
    'another delay': ['next(DENYSOFT, 42)', { what: 'delay', seconds: 42, by: 'only' }],
    'DENYSOFT without a number (A4)': ['next(DENYSOFT)', { what: 'default' }],
    'DENYSOFT with NaN (A4)': ['next(DENYSOFT, NaN)', { what: 'default' }],
    'another delay of next to nothing': ['next(DENYSOFT, 1e-9)', { what: 'delay', seconds: 1, by: 'only' }],
    'OK drops the mail': ['next(OK)', { what: 'drop', by: 'only' }],
    'throw': ['null.x', { what: 'default' }],
    'reject': ['return Promise.reject(1)', { what: 'default' }],
    'no answer (A4)': ['', { what: 'default' }],
}
for (const [name, [body, expected]] of Object.entries(DEFERRED)) {
    test(`deferred: ${name}`, async (t) => {
        const told = { delay: 64, reason: 'busy', of: [0] }
        const { answer } = await answerOf(t, 'deferred', `function (next, hmail, params) { ${body} }`, 'deferred', told)
        assert.deepStrictEqual(answer, expected)
    })
}

const BOUNCE = {
    'CONT': ['next()', { what: 'default' }],
    'OK': ['next(OK)', { what: 'silent', by: 'only' }],
    'DENY': ['next(DENY)', { what: 'silent', by: 'only' }],
    'throw': ['throw new Error("boom")', { what: 'default' }],
    'reject': ['return Promise.reject(new Error("boom"))', { what: 'default' }],
    'no answer (A15)': ['', { what: 'default' }],
}
for (const [name, [body, expected]] of Object.entries(BOUNCE)) {
    test(`bounce: ${name}`, async (t) => {
        const { answer } = await answerOf(t, 'bounce', `function (next, hmail, error) { ${body} }`, 'bounce', { reason: 'no', of: [0] })
        assert.deepStrictEqual(answer, expected)
    })
}

test('what is no code is warned of', async (t) => {
    const { answer, engine } = await answerOf(t, 'get_mx', 'function (next) { next(new Error("no database")) }')
    assert.strictEqual(answer.what, 'go')
    assert.strictEqual((await engine.logged(/get_mx answered with what is no code: Error: no database/)).origin, 'only')
})

test('what hooks are given', async (t) => {
    const engine = new Engine(t)
    engine.plugin('tell', `
        const say = (hmail, ...what) => hmail.todo.notes.said = JSON.stringify(what)
        exports.hook_deferred = function (next, hmail, { delay, err, fail_recips }) {
            say(hmail, delay, err, fail_recips.map((r) => [r.address, r.dsn_action, r.dsn_smtp_code, r.dsn_status, r.reason]), hmail.num_failures)
            next()
        }
        exports.hook_bounce = function (next, hmail, error) {
            say(hmail, error.message, error instanceof Object, error.bounced_rcpt.map((r) => r.original), hmail.todo.rcpt_to.length)
            next()
        }
        exports.hook_delivered = function (next, hmail, [host, ip, response, delay, port, mode, rcpts, secured, auth]) {
            say(hmail, this.name, host, ip, response, delay, port, mode, rcpts.map(String), secured, auth, hmail.domain)
            next()
        }`)
    await engine.start()
    const two = { attempts: 3, rcpt_to: ['<one@there.test>', '<two@there.test>'], places: [0, 4] }
    const said = ({ image }) => JSON.parse(JSON.parse(image).notes.said)
    const dsn = [null, { action: 'delayed', code: 450, status: '4.2.1', response: 'busy' }]
    const later = await engine.call('deferred', { ...two, dsn }, { delay: 64, reason: '450 busy', of: [1], partial: true })
    assert.deepStrictEqual(said(later), [64, '450 busy', [['two@there.test', 'delayed', 450, '4.2.1', '450 4.2.1 busy']], 3])
    const failed = await engine.call('bounce', two, { reason: 'no such user', of: [0] })
    assert.deepStrictEqual(said(failed), ['no such user', false, ['<one@there.test>'], 1])
    const done = await engine.call('delivered', two, {
        host: 'mx.test', ip: '192.0.2.1', response: 'ok', delay: 0.5, port: 25, mode: 'SMTP', of: [0], secured: true, authenticated: false })
    assert.deepStrictEqual(
        said(done), ['tell', 'mx.test', '192.0.2.1', 'ok', 0.5, 25, 'SMTP', ['<one@there.test>'], true, false, 'there.test'])
})

test('plugins run by priority, then in the order of the list, until one decides', async (t) => {
    const engine = new Engine(t)
    const note = (name, priority, answer) => `
        exports.register = function () { this.register_hook('get_mx', 'route', ${priority}) }
        exports.route = function (next, hmail) {
            hmail.todo.notes.order = (hmail.todo.notes.order || '') + '${name}'
            next(${answer})
        }`
    engine.plugin('a', note('a', 0, '')).plugin('b', note('b', -10, '')).plugin('c', note('c', 0, 'OK, "c.test"')).plugin('d', note('d', 5, ''))
    await engine.start()
    const answer = await engine.call('attempt')
    assert.strictEqual(JSON.parse(answer.image).notes.order, 'bac')
    assert.strictEqual(answer.mx[0].host, 'c.test')
})

test('a timeout ends the wait for one plugin, and the next one is asked', async (t) => {
    const engine = new Engine(t).config('slow.timeout', '0.1')
    engine.plugin('slow', 'exports.hook_send_email = function () {}')
    engine.plugin('gate', 'exports.hook_send_email = function (next) { next(DELAY, 7) }')
    await engine.start()
    assert.deepStrictEqual(engine.ready.hooks, { send_email: 30_100 })
    const answer = await engine.call('attempt')
    assert.strictEqual(answer.seconds, 7)
})

test('the deny hook may overrule', async (t) => {
    const engine = new Engine(t)
    engine.plugin('no', 'exports.hook_get_mx = function (next) { next(DENY, "no") }')
    engine.plugin('judge', `exports.hook_deny = function (next, hmail, params) {
        hmail.todo.notes.params = params.filter((p) => typeof p !== 'object')
        next(params[1] === 'no' ? OK : CONT)
    }`)
    engine.plugin('route', 'exports.hook_get_mx = function (next) { next(OK, "after.test") }')
    await engine.start()
    const answer = await engine.call('attempt')
    assert.strictEqual(answer.mx[0].host, 'after.test')
    assert.deepStrictEqual(JSON.parse(answer.image).notes.params, [902, 'no', 'no', 'hook_get_mx', 'there.test', 'get_mx'])
})
