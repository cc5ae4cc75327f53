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
    assert.deepStrictEqual(plugin.hooks().others, ['rcpt'])
    await assert.rejects(plugin.ask('rcpt'), /cannot be rehearsed/)
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
    assert.match(out, /^rcpt: not rehearsed here$/m)
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
