'use strict'
// Hooks that belong to no mail: how plugins begin and end.

const assert = require('node:assert')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { Engine } = require('./support')

test('init_master is run once, with the server, before any mail; the others wait for it', async (t) => {
    const engine = new Engine(t)
    engine.plugin('first', `exports.hook_init_master = function (next, server) {
        setTimeout(() => { server.notes.begun = [this.name, server.cluster === undefined]; next(OK) }, 50)
    }`)
    engine.plugin('second', `exports.hook_init_master = (next) => { server.notes.second = true; next() }
        exports.hook_get_mx = (next) => next(DENY, JSON.stringify(server.notes))`)
    await engine.start()
    assert.deepStrictEqual(JSON.parse((await engine.call('attempt')).text), { begun: ['first', true] }, 'OK is the last word, as in Haraka')
})

test('a plugin that refuses to start is one that does not load', async (t) => {
    const refuses = `exports.hook_init_master = (next) => next(DENY, 'no licence')
        exports.hook_get_mx = (next) => next(DENY)`
    const engine = await new Engine(t).plugin('refuses', refuses).plugin('beside', 'exports.hook_get_mx = (next) => next(OK, "mx.test")').start()
    const file = path.join(engine.directory, 'plugins', 'refuses.js')
    assert.deepStrictEqual(engine.ready.broken, [{ name: 'refuses', reason: `init_master answered DENY: no licence (${file})` }])
    assert.deepStrictEqual(engine.ready.plugins, ['beside'])

    const lenient = new Engine(t).config('smtp.ini', 'ignore_bad_plugins=true\n').plugin('refuses', refuses)
    await lenient.plugin('beside', 'exports.hook_get_mx = (next) => next(OK, "mx.test")').start()
    assert.deepStrictEqual([lenient.ready.broken, lenient.ready.failed.map(({ name }) => name)], [[], ['refuses']])
    assert.strictEqual((await lenient.call('attempt')).what, 'go', 'nor are its other hooks asked')
})

test('a refusal to start is for that plugin only, and no hook overrules it', async (t) => {
    const engine = new Engine(t).config('smtp.ini', 'ignore_bad_plugins=true\n')
    engine.plugin('refuses', `exports.register = function () { for (const method of ['one', 'two']) this.register_hook('init_master', method) }
        exports.one = exports.two = (next) => next(DENY)`)
    engine.plugin('begins', 'exports.hook_init_master = (next) => { server.notes.begun = true; next() }')
    engine.plugin('overrules', `exports.hook_deny = (next) => { server.notes.overruled = true; next(OK) }
        exports.hook_get_mx = (next) => next(OK, [server.notes.begun, server.notes.overruled].map(Boolean).join("-"))`)
    await engine.start()
    assert.deepStrictEqual(engine.ready.failed.map(({ name }) => name), ['refuses'])
    assert.deepStrictEqual((await engine.call('attempt')).mx[0].host, 'true-false')
})

test('one that was left out and registers afterwards is not asked', async (t) => {
    const engine = new Engine(t).config('smtp.ini', 'ignore_bad_plugins=true\n')
    const late = (then) => `exports.register = function () {
            setTimeout(() => { this.register_hook('get_mx', 'route'); this.logwarn(this.name + ' has registered') }, 50)
            ${then}
        }
        exports.route = (next) => next(DENY)`
    engine.plugin('throws', late('throw new Error("oh")'))
    engine.plugin('refuses', `${late('')}; exports.hook_init_master = (next) => next(DENY)`)
    await engine.start()
    await engine.logged(/throws has registered/)
    await engine.logged(/refuses has registered/)
    const { what } = await engine.call('attempt')
    assert.deepStrictEqual([what, engine.ready.plugins, engine.other.filter(({ t }) => t === 'ready')], ['go', [], []])
})

test('one that fails at init_master, or does not answer, starts all the same', async (t) => {
    const engine = new Engine(t).config('plugin_timeout', '0.2')
    engine.plugin('throws', 'exports.hook_init_master = () => { throw new Error("oh") }')
    engine.plugin('rejects', 'exports.hook_init_master = async () => { throw new Error("no") }')
    engine.plugin('waits', 'exports.hook_init_master = () => {}')
    engine.plugin('last', 'exports.hook_init_master = (next) => { server.notes.last = true; next() }; exports.hook_get_mx = (next) => next(DENY, String(server.notes.last))')
    await engine.start()
    assert.deepStrictEqual(engine.ready.broken, [])
    assert.strictEqual((await engine.call('attempt')).text, 'true')
    await engine.logged(/init_master failed: Error: oh/)
    await engine.logged(/init_master did not answer within 0.2 s/)
})

test('there are no workers, and no web server without a place to listen: init_child is not run, init_http told of', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('all', `for (const hook of ['init_child', 'init_http']) exports['hook_' + hook] = () => { server.notes.run = hook }
        exports.hook_get_mx = (next) => next(DENY, String(server.notes.run))`).start()
    assert.deepStrictEqual(engine.ready.uncalled, [{ hook: 'init_http', plugin: 'all' }])
    assert.strictEqual((await engine.call('attempt')).text, 'undefined')
})

test('without express there is no web server, and who waits for one is told of', async (t) => {
    const engine = new Engine(t)
    await engine.plugin('only', 'exports.hook_init_http = (next) => next(); exports.hook_get_mx = (next) => next(DENY, String(server.http))')
        .start({ web: { host: '127.0.0.1', port: 1 } })
    await engine.logged(/express does not load: npm install --prefix/)
    assert.deepStrictEqual(engine.ready.uncalled, [{ hook: 'init_http', plugin: 'only' }])
    assert.strictEqual((await engine.call('attempt')).text, 'undefined')
})

test('shutdown is run for all plugins, in order, though one fails', async (t) => {
    const engine = new Engine(t)
    const say = (name) => `require('fs').appendFileSync(process.env.HARAKA + '/bye', '${name}\\n')`
    engine.plugin('first', `exports.shutdown = async function () { await new Promise((done) => setTimeout(done, 50)); ${say('first')} }`)
    engine.plugin('throws', 'exports.shutdown = () => { throw new Error("not now") }')
    engine.plugin('none', 'exports.hook_get_mx = (next) => next()')
    engine.plugin('last', `exports.shutdown = () => { ${say('last')} }`)
    await engine.start()
    engine.wire.send({ t: 'shutdown' })
    assert.deepStrictEqual(await engine.exited, { code: 0, signal: null })
    assert.strictEqual(fs.readFileSync(path.join(engine.directory, 'bye'), 'utf8'), 'first\nlast\n')
    await engine.logged(/shutdown failed: Error: not now/)
})
